package audit

import (
	"crypto/ecdsa"
	"errors"
	"fmt"

	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Against is what a copy of a journal is held against. Without a key checkpoints
// are counted; without a known place freshness stays unknown.
type Against struct {
	AK    *ecdsa.PublicKey // the device's attestation key
	Known *Known
}

// Anchoring is what a journal's checkpoints are worth.
type Anchoring struct {
	Checkpoints int    // events that say so
	Verified    int    // of them, by the key that was given
	Anchored    uint64 // the record up to which the chain is certified; 0: none
	Orderly     *checkpoint.Mark
	Durable     *checkpoint.Mark
	Reached     string // what is known of freshness, one line; empty: nothing
	Reaches     bool   // the journal holds what is known, or newer
	Findings    []finding.Finding
	Untold      int // findings beyond maxProblems
}

// anchors follows the checkpoints of a journal.
type anchors struct {
	against Against
	out     Anchoring
	history checkpoint.History
	hashes  map[uint64]chain.Hash
	foreign []string // checkpoints that another key signed, or nobody
}

func newAnchors(against Against) *anchors {
	a := &anchors{against: against}
	if against != (Against{}) {
		a.hashes = make(map[uint64]chain.Hash)
	}
	return a
}

func (a *anchors) found(f finding.Finding) {
	if len(a.out.Findings) == maxProblems {
		a.out.Untold++
		return
	}
	a.out.Findings = append(a.out.Findings, f)
}

func (a *anchors) lost(sequence uint64, h chain.Hash) {
	if a.hashes == nil {
		return
	}
	a.hashes[sequence] = h
	a.history.Lose(1)
}

func (a *anchors) take(e event.Decoded, r wal.Record) {
	if a.hashes != nil {
		a.hashes[r.Sequence] = chain.Next(r.Payload)
	}
	if e.Type != event.Checkpoint {
		return
	}
	a.out.Checkpoints++
	if a.against.AK == nil {
		return
	}
	var v checkpoint.Verified
	report, err := checkpoint.Parse(e.Report)
	if err == nil {
		v, err = checkpoint.Verify(report, e.Source, e.Epoch, a.against.AK)
	}
	switch {
	case errors.Is(err, checkpoint.ErrSignature):
		a.foreign = append(a.foreign, fmt.Sprintf("record %d: %v", r.Sequence, err))
		return
	case err != nil:
		a.found(finding.New(finding.JournalAnchorInvalid, fmt.Sprintf("record %d: %v", r.Sequence, err)))
		return
	}
	a.out.Verified++
	entry := checkpoint.Entry{Verified: v, Record: r.Sequence, Known: a.hashes[v.Place().Sequence]}
	bad := false
	for _, f := range a.history.Add(entry) {
		a.found(f)
		bad = bad || f.Code == finding.JournalAnchorInvalid
	}
	if !bad {
		a.out.Anchored = max(a.out.Anchored, v.Place().Sequence)
	}
	if k := a.against.Known; k != nil && k.Value > 0 && k.Counter == v.Counter() {
		k.compare(a, v)
	}
}

// conclude says what all of it is worth.
func (a *anchors) conclude(v Verification) Anchoring {
	switch {
	case a.against.AK == nil:
	case a.out.Checkpoints == 0:
		a.found(finding.New(finding.JournalAnchorMissing, "there is no checkpoint in this journal"))
	case a.out.Verified == 0 && len(a.foreign) > 0:
		a.found(finding.New(finding.JournalForeign, fmt.Sprintf("none of %d checkpoints is signed by the given key; %s", a.out.Checkpoints, a.foreign[0])))
	case a.out.Verified == 0:
		a.found(finding.New(finding.JournalAnchorMissing, fmt.Sprintf("none of %d checkpoints can be verified", a.out.Checkpoints)))
	default:
		for _, text := range a.foreign {
			a.found(finding.New(finding.JournalAnchorInvalid, text))
		}
	}
	a.out.Orderly, a.out.Durable = a.history.Orderly, a.history.Durable
	if a.against.Known != nil {
		a.against.Known.judge(a, v)
	}
	return a.out
}
