package ingest

import (
	"time"

	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

// lostGrace is how long the end of a run of records without content is awaited,
// before what came of it is told.
const lostGrace = 10 * time.Second

// lost is a run of records that lost their content on the device.
type lost struct {
	first, last uint64 // sequences; zero for none
	at          time.Time
}

func (o *lost) add(sequence uint64, now time.Time) {
	if o.first == 0 {
		o.first = sequence
	}
	o.last, o.at = sequence, now
}

// takeShed accepts that a record has lost its content, and says so. Its hash
// is proven by the record after it. A run of such records is one finding.
func (b *book) takeShed(d *device, r Received, payload []byte) (tell []Received, accepted []byte) {
	s, err := presence.ParseShed(payload)
	if err != nil {
		return []Received{r.found(finding.LinkMessageInvalid, "%v", err)}, nil
	}
	d.heard(r.At)
	l := d.known(s.Epoch)
	if l == nil || s.Epoch != l.Epoch || s.Sequence != l.Sequence+1 {
		if l != nil {
			l.due = l.due || s.Epoch == l.Epoch && s.Sequence <= l.Sequence
		}
		return nil, nil // where it belongs it is sent again
	}
	l.remember()
	l.accept(place{s.Epoch, s.Sequence}, s.Hash)
	l.lost.add(s.Sequence, r.At)
	r.Kind, r.Epoch, r.Sequence = KindShed, s.Epoch, s.Sequence
	return []Received{r}, payload
}

// tellLost tells of a run of records without content, once.
func (l *strand) tellLost(r Received) []Received {
	o := l.lost
	if l.lost = (lost{}); o.first == 0 {
		return nil
	}
	return []Received{r.found(finding.LinkContentLost, "records %d to %d of epoch %d, %d in number, lost their content on the device for want of space", o.first, o.last, l.Epoch, o.last-o.first+1)}
}
