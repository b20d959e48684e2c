package audit

import (
	"crypto/ecdsa"
	"fmt"
	"time"

	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/receipt"
)

// Known is a place of a device's record that is known from elsewhere: from a
// receipt of the fleet, or from a checkpoint that was seen before. A journal that
// does not hold it is older, cut, or another one.
type Known struct {
	Source  event.Source
	Place   checkpoint.Place
	At      time.Time // by the fleet's clock for a receipt, else by the device's
	Receipt bool
	// Of a checkpoint, else empty.
	Counter checkpoint.Counter
	Value   uint64

	later string // a checkpoint of the journal that is as new or newer; set while it is read
}

// KnownReceipt verifies a receipt's envelope by the fleet's keys.
func KnownReceipt(envelope []byte, keys *dsse.Keyring, source event.Source) (*Known, error) {
	v, err := receipt.Verify(envelope, keys, source.Tenant, source.Device)
	if err != nil {
		return nil, err
	}
	r := v.Receipt()
	return &Known{Source: source, Place: checkpoint.Place{Epoch: r.Epoch, Sequence: r.Sequence, Head: r.Head}, At: r.Time, Receipt: true}, nil
}

// KnownCheckpoint verifies a checkpoint event, as it was recorded, by the device's
// attestation key. Known is the place that it certifies; its own record's is not.
func KnownCheckpoint(record []byte, ak *ecdsa.PublicKey) (*Known, error) {
	e, err := event.Parse(record)
	if err == nil && e.Type != event.Checkpoint {
		err = fmt.Errorf("an event of the type %.80q, want %s", e.Type, event.Checkpoint)
	}
	if err != nil {
		return nil, err
	}
	r, err := checkpoint.Parse(e.Report)
	if err != nil {
		return nil, err
	}
	v, err := checkpoint.Verify(r, e.Source, e.Epoch, ak)
	if err != nil {
		return nil, err
	}
	return &Known{Source: e.Source, Place: v.Place(), At: e.Time, Counter: v.Counter(), Value: v.Value()}, nil
}

func (k *Known) String() string {
	moment := k.At.UTC().Format("2006-01-02 15:04:05")
	if k.Receipt {
		return fmt.Sprintf("the fleet's receipt of %s for record %d of epoch %d", moment, k.Place.Sequence, k.Place.Epoch)
	}
	return fmt.Sprintf("checkpoint %s %d, by the device's clock of %s, for record %d of epoch %d", k.Counter, k.Value, moment, k.Place.Sequence, k.Place.Epoch)
}

// compare takes a verified checkpoint of the journal, of the same counter.
func (k *Known) compare(a *anchors, v checkpoint.Verified) {
	switch {
	case v.Value() == k.Value && v.Place() != k.Place:
		a.found(finding.New(finding.JournalForked, fmt.Sprintf("%s: here value %d certifies record %d of epoch %d with the hash %s, there the hash is %s", k, k.Value, v.Place().Sequence, v.Place().Epoch, v.Place().Head, k.Place.Head)))
	case v.Value() >= k.Value:
		k.later = fmt.Sprintf("checkpoint %s %d", v.Counter(), v.Value())
	}
}

// judge holds a journal that was read to its end against what is known.
func (k *Known) judge(a *anchors, v Verification) {
	p := k.Place
	h, there := a.hashes[p.Sequence]
	switch {
	case v.Source != "" && v.Source != k.Source.String():
		a.found(finding.New(finding.JournalForeign, fmt.Sprintf("this is the journal of %s; %s is of %s", v.Source, k, k.Source)))
	case v.Epoch < p.Epoch:
		a.found(finding.New(finding.JournalRolledBack, fmt.Sprintf("this journal is of epoch %d; there is %s", v.Epoch, k)))
	case v.Epoch > p.Epoch:
		a.out.Reached = fmt.Sprintf("unknown: this journal was begun after %s", k)
	case v.Last < p.Sequence:
		a.found(finding.New(finding.JournalRolledBack, fmt.Sprintf("this journal ends with record %d; there is %s", v.Last, k)))
	case there && h == p.Head:
		a.out.Reaches = true
		a.out.Reached = fmt.Sprintf("this copy reaches at least record %d, known by %s", p.Sequence, k)
	case there && h != (chain.Hash{}):
		a.found(finding.New(finding.JournalForked, fmt.Sprintf("record %d has the hash %s here; %s names %s", p.Sequence, h, k, p.Head)))
	case k.later != "":
		a.out.Reaches = true
		a.out.Reached = fmt.Sprintf("this copy is as new as %s: it has %s; record %d itself is not in it any more", k, k.later, p.Sequence)
	default:
		a.out.Reached = fmt.Sprintf("unknown: record %d is not in this copy any more; %s cannot be held against it", p.Sequence, k)
	}
}
