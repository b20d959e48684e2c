package ingest

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

const (
	// maxAhead bounds the records of one device that are known out of order.
	maxAhead = 4096
	// maxRecent bounds the hashes that are kept of accepted records, with which
	// a repeated record is told from a changed one.
	maxRecent = 1024
	// birthGrace is how long events may come from a device that has not said
	// that it is there.
	birthGrace = 10 * time.Second
)

// maxVolatile bounds the lives in memory that are followed of one device; the
// newest are.
const maxVolatile = 4

// device is what the fleet knows of one device. The exported part is kept in
// the state file.
type device struct {
	strand             // the journal on the device's disk
	Volatile []*strand `json:"volatile,omitempty"` // its journals in memory, the newest last
	Session  uint64    `json:"session,omitempty"`
	Anchors  anchors   `json:"anchors,omitzero"`

	tenant, name string
	state        string    // of the last status
	worry        time.Time // silence from this moment on is a finding; zero for never
	worryAfter   time.Duration
	unborn       time.Time // first event without a birth
	unbornTold   bool
	greeted      bool // it has been sent the rotations that it lacked
	estranged    bool // it was told that the device does not accept the fleet's receipts
}

// strand is one line of records. A journal that a device keeps in memory, because
// its disk cannot be used, is a line of its own: it neither follows the one on the
// disk nor ends it.
type strand struct {
	Epoch    uint64     `json:"epoch"`
	Sequence uint64     `json:"sequence"`
	Head     chain.Hash `json:"head"`

	ahead  map[place]chain.Hash  // records behind a gap
	recent map[uint64]chain.Hash // accepted records of this epoch
	broken bool                  // a gap was told and has not been mended
	due    bool                  // a receipt is due
	lost   lost                  // records without content that were not told of yet
}

func (s *strand) remember() {
	if s.recent == nil {
		s.recent, s.ahead = make(map[uint64]chain.Hash), make(map[place]chain.Hash)
	}
}

// line is the strand that an epoch belongs to.
func (d *device) line(epoch uint64) *strand {
	if !event.Volatile(epoch) {
		return &d.strand
	}
	for _, s := range d.Volatile {
		if s.Epoch == epoch {
			s.remember()
			return s
		}
	}
	s := &strand{Epoch: epoch}
	s.remember()
	d.Volatile = append(d.Volatile[max(0, len(d.Volatile)+1-maxVolatile):], s)
	return s
}

// known is the strand of an epoch, nil when there is none.
func (d *device) known(epoch uint64) *strand {
	if !event.Volatile(epoch) {
		return &d.strand
	}
	for _, s := range d.Volatile {
		if s.Epoch == epoch {
			return s
		}
	}
	return nil
}

// strands are all lines of the device.
func (d *device) strands() []*strand { return append([]*strand{&d.strand}, d.Volatile...) }

// place is a record's in a device's chain.
type place struct{ epoch, sequence uint64 }

// book judges messages against what is known. It does no IO.
type book struct {
	devices map[string]*device
	adopt   bool
}

func newBook(known map[string]*device, adopt bool) *book {
	if known == nil {
		known = make(map[string]*device)
	}
	return &book{devices: known, adopt: adopt}
}

func (b *book) device(tenant, name string) *device {
	key := tenant + "/" + name
	d := b.devices[key]
	if d == nil {
		d = &device{}
		b.devices[key] = d
	}
	d.tenant, d.name = tenant, name
	d.remember()
	return d
}

// dirty says whether a receipt is due.
func (b *book) dirty() bool {
	for _, d := range b.devices {
		for _, s := range d.strands() {
			if s.due {
				return true
			}
		}
	}
	return false
}

// take judges one message. It returns what there is to tell, and the record
// that was accepted, if one was.
func (b *book) take(now time.Time, m mqtt.Message) (tell []Received, accepted []byte) {
	tenant, name, kind, err := presence.ParseTopic(m.Topic)
	if err != nil {
		return nil, nil // a later contract's kind, or nothing of ours
	}
	r := Received{At: now, Topic: m.Topic, Tenant: tenant, Device: name, Retained: m.Retained}
	d := b.device(tenant, name)
	switch kind {
	case presence.Event:
		return b.takeEvent(d, r, m.Payload)
	case presence.ShedEvent:
		return b.takeShed(d, r, m.Payload)
	case presence.State:
		return b.takeStatus(d, r, m.Payload), nil
	case presence.Evidence:
		d.heard(now) // what is in it is for the verifier to judge
	}
	return nil, nil
}

// hash is that of a record that was accepted lately; false when it is not known.
func (b *book) hash(tenant, name string, epoch, sequence uint64) (chain.Hash, bool) {
	d := b.devices[tenant+"/"+name]
	if d == nil || sequence == 0 {
		return chain.Hash{}, false
	}
	s := d.known(epoch)
	if s == nil || s.Epoch != epoch {
		return chain.Hash{}, false
	}
	if sequence == s.Sequence {
		return s.Head, true
	}
	h, ok := s.recent[sequence]
	return h, ok
}

func (b *book) takeStatus(d *device, r Received, payload []byte) []Received {
	s, err := presence.Parse(payload)
	if err != nil {
		return []Received{r.found(finding.LinkMessageInvalid, "%v", err)}
	}
	if s.Tenant != r.Tenant || s.Device != r.Device {
		return []Received{r.found(finding.LinkMessageInvalid, "status of %s of %s on another device's topic", s.Device, s.Tenant)}
	}
	r.Kind, r.Status = KindStatus, s
	tell := []Received{r}
	if s.Session < d.Session {
		tell = append(tell, r.found(finding.LinkMessageInvalid, "session number went back from %d to %d: an older copy of the device's state, or another device under its name", d.Session, s.Session))
	}
	d.Session = max(d.Session, s.Session)
	d.state, d.unborn, d.unbornTold = s.State, time.Time{}, false
	d.worryAfter, d.worry = time.Duration(s.WorryAfterSeconds)*time.Second, time.Time{}
	switch s.State {
	case presence.Online:
		d.heard(r.At)
		if l := d.known(s.Epoch); l != nil && l.Sequence > 0 {
			l.due = true // tells the device where to go on
		}
	case presence.Lost:
		tell = append(tell, r.found(finding.LinkSilence, "the connection of session %d ended without a farewell", s.Session))
	}
	return tell
}

// takeEvent checks, in this order: form and bounds; the device that the event
// names against the topic's; its place in the device's chain. An event that
// fails the last is told nonetheless, and held: no receipt covers it.
func (b *book) takeEvent(d *device, r Received, payload []byte) (tell []Received, accepted []byte) {
	e, err := event.Parse(payload)
	if err != nil {
		return []Received{r.found(finding.LinkMessageInvalid, "%v", err)}, nil
	}
	if e.Source.Tenant != r.Tenant || e.Source.Device != r.Device {
		return []Received{r.found(finding.LinkMessageInvalid, "event of %s on another device's topic", e.Source)}, nil
	}
	d.heard(r.At)
	if d.state != presence.Online && d.unborn.IsZero() && !d.unbornTold {
		d.unborn = r.At
	}
	r.Kind, r.Event, r.Raw = KindEvent, e, payload
	hash := chain.Next(payload)

	l := d.line(e.Epoch)
	if e.Epoch == l.Epoch && e.Sequence <= l.Sequence {
		l.due = true // the device has not had our receipt
		if known, ok := l.recent[e.Sequence]; ok && known != hash {
			return []Received{r.found(finding.LinkSequenceGap, "record %d of epoch %d came again with other content", e.Sequence, e.Epoch)}, nil
		}
		return nil, nil
	}
	known, toldBefore := l.ahead[place{e.Epoch, e.Sequence}]
	toldBefore = toldBefore && known == hash
	previous := *l
	if err := b.follow(l, e, payload); err != nil {
		return l.hold(r, hash, toldBefore, err), nil
	}
	tell = l.tellLost(r)
	if !toldBefore {
		tell = append(tell, r)
	}
	if previous.Sequence > 0 && e.Epoch > previous.Epoch {
		tell = append(tell, r.found(finding.LinkSequenceGap, "the device began its journal anew: epoch %d follows %d, which is known up to record %d", e.Epoch, previous.Epoch, previous.Sequence))
		clear(l.recent)
		maps.DeleteFunc(l.ahead, func(at place, _ chain.Hash) bool { return at.epoch < e.Epoch }) // it is never mended
	}
	l.accept(place{e.Epoch, e.Sequence}, hash)
	return tell, payload
}

// follow checks the record's place behind the last accepted one.
func (b *book) follow(l *strand, e event.Decoded, payload []byte) error {
	if l.Sequence == 0 && e.Sequence > 1 && !b.adopt {
		return fmt.Errorf("%w: the device is new here and its chain begins before record %d of epoch %d; no receipt covers what was never here (wardfleet listen --adopt takes it over)", chain.ErrGap, e.Sequence, e.Epoch)
	}
	return chain.Resume(l.Epoch, l.Sequence, l.Head).Add(e.Link(), payload)
}

// hold tells of a record that does not follow; a gap is told once until it is
// mended.
func (l *strand) hold(r Received, hash chain.Hash, toldBefore bool, err error) (tell []Received) {
	at := place{r.Event.Epoch, r.Event.Sequence}
	if !toldBefore && (!l.broken || errors.Is(err, chain.ErrFork)) {
		tell = append(tell, r.found(finding.LinkSequenceGap, "%v", err))
	}
	l.broken = true
	if !toldBefore {
		r.Held = true
		tell = append([]Received{r}, tell...)
	}
	if len(l.ahead) < maxAhead {
		l.ahead[at] = hash
	}
	return tell
}

func (l *strand) accept(at place, hash chain.Hash) {
	l.Epoch, l.Sequence, l.Head = at.epoch, at.sequence, hash
	l.recent[at.sequence] = hash
	delete(l.recent, at.sequence-min(at.sequence, maxRecent))
	delete(l.ahead, at)
	if len(l.ahead) == 0 {
		l.broken = false
	}
	l.due = true
}

func (d *device) heard(now time.Time) {
	if d.state == presence.Online && d.worryAfter > 0 {
		d.worry = now.Add(d.worryAfter)
	}
}

// lookForSilence finds devices that said nothing for longer than their birth
// announced, and those that send events without having said that they are
// there. Each is told once.
func (b *book) lookForSilence(now time.Time) (tell []Received) {
	for _, d := range b.devices {
		r := Received{At: now, Tenant: d.tenant, Device: d.name}
		if !d.worry.IsZero() && now.After(d.worry) {
			d.worry = time.Time{}
			tell = append(tell, r.found(finding.LinkSilence, "nothing was heard for %s", d.worryAfter))
		}
		if !d.unborn.IsZero() && now.Sub(d.unborn) > birthGrace {
			d.unborn, d.unbornTold = time.Time{}, true
			tell = append(tell, r.found(finding.LinkSilence, "the device sends events, and its birth did not come within %s", birthGrace))
		}
		for _, l := range d.strands() {
			if now.Sub(l.lost.at) > lostGrace {
				tell = append(tell, l.tellLost(r)...)
			}
		}
	}
	return tell
}

func (r Received) found(code finding.Code, format string, args ...any) Received {
	f := finding.New(code, fmt.Sprintf(format, args...))
	r.Kind, r.Finding, r.Raw, r.Event, r.Held = KindFinding, &f, nil, event.Decoded{}, false
	return r
}
