package checkpoint

import (
	"fmt"

	"ward/internal/format/chain"
	"ward/internal/trust/finding"
	"ward/internal/trust/quote"
)

// Mark is the last checkpoint of one counter.
type Mark struct {
	Epoch    uint64      `json:"epoch"`
	Record   uint64      `json:"record"` // sequence of the checkpoint's own event
	Sequence uint64      `json:"sequence"`
	Head     chain.Hash  `json:"head"` // of the record Sequence
	Value    uint64      `json:"value"`
	Clock    quote.Clock `json:"clock"`
	Lost     uint64      `json:"lost,omitempty"` // records behind it whose content nobody has
}

// History judges the checkpoints of one device in the order of its record. What is
// exported is kept by whoever keeps it; the zero value has seen nothing and takes
// any first checkpoint of a counter.
type History struct {
	Orderly *Mark `json:"orderly,omitempty"`
	Durable *Mark `json:"durable,omitempty"`
}

// Entry is a checkpoint at its place in the record.
type Entry struct {
	Verified
	Record uint64 // sequence of the checkpoint's own event
	// Known is the hash of the record that the checkpoint names, as the reader of the
	// chain has it; zero where that record is not there any more.
	Known chain.Hash
}

// Lose says that the content of n records, one of which may have been a checkpoint,
// is not there: shed for want of space, or never seen by this reader.
func (h *History) Lose(n uint64) {
	for _, m := range []*Mark{h.Orderly, h.Durable} {
		if m != nil {
			m.Lost += n
		}
	}
}

// Last is the last checkpoint of a counter, nil before there is one.
func (h *History) Last(c Counter) *Mark {
	if c == Durable {
		return h.Durable
	}
	return h.Orderly
}

// newest is the checkpoint that stands last in the record, nil before there is one.
func (h *History) newest() *Mark {
	switch o, d := h.Orderly, h.Durable; {
	case o == nil || d != nil && (d.Epoch > o.Epoch || d.Epoch == o.Epoch && d.Record > o.Record):
		return d
	default:
		return o
	}
}

// Add judges the next checkpoint of the record and goes on behind it. It checks, in
// this order:
//
//  1. the named record stands before the checkpoint, and is the one in the chain;
//  2. the TPM's clock did not go back: resets only become more, and time passes
//     between two of them;
//  3. the value is above the last one of its counter: each value is certified once;
//  4. it is above by exactly one, else checkpoints are missing.
//
// The counter is stepped only when the record of a checkpoint is durable, so that no
// crash leaves a hole. Two things do: a power cut moves the orderly counter ahead,
// which another reset count shows, and lost content may have held checkpoints. Those
// are journal.counter-jump with the size; any other hole is journal.anchor-gap.
// Across epochs nobody knows how many checkpoints the earlier one had.
func (h *History) Add(e Entry) []finding.Finding {
	found := h.Judge(e)
	m := &Mark{Epoch: e.place.Epoch, Record: e.Record, Sequence: e.place.Sequence, Head: e.place.Head, Value: e.value, Clock: e.clock}
	if e.counter == Durable {
		h.Durable = m
	} else {
		h.Orderly = m
	}
	return found
}

// Judge is Add without going on: what this checkpoint would show as the next one.
func (h *History) Judge(e Entry) []finding.Finding {
	var found []finding.Finding
	tell := func(code finding.Code, format string, a ...any) {
		text := fmt.Sprintf("checkpoint %s %d, record %d of epoch %d: ", e.counter, e.value, e.Record, e.place.Epoch)
		found = append(found, finding.New(code, text+fmt.Sprintf(format, a...)))
	}
	switch {
	case e.place.Sequence >= e.Record:
		tell(finding.JournalAnchorInvalid, "it names record %d, which does not stand before it", e.place.Sequence)
	case e.Known != chain.Hash{} && e.Known != e.place.Head:
		tell(finding.JournalAnchorInvalid, "record %d was %s when it was certified and is %s: the record was written anew", e.place.Sequence, e.place.Head, e.Known)
	}
	if before := h.newest(); before != nil {
		// The counts of a key outside the endorsement hierarchy have a constant added
		// to them, modulo 2^32.
		switch resets := int32(e.clock.ResetCount - before.Clock.ResetCount); {
		case resets < 0:
			tell(finding.JournalAnchorInvalid, "the TPM was reset %d times less than at record %d", -resets, before.Record)
		case resets == 0 && e.clock.Milliseconds < before.Clock.Milliseconds:
			tell(finding.JournalAnchorInvalid, "the TPM's clock went back from %d ms at record %d to %d ms", before.Clock.Milliseconds, before.Record, e.clock.Milliseconds)
		}
	}
	last := h.Last(e.counter)
	switch {
	case last == nil:
	case e.value <= last.Value:
		tell(finding.JournalAnchorInvalid, "value %d was certified at record %d: each is certified once, and they only grow", last.Value, last.Record)
	case e.value == last.Value+1:
	case e.place.Epoch != last.Epoch:
		tell(finding.JournalCounterJump, "%d values are not in the record since epoch %d", e.missing(last), last.Epoch)
	case e.counter == Orderly && e.clock.ResetCount != last.Clock.ResetCount:
		tell(finding.JournalCounterJump, "%d values are not in the record since record %d; the TPM was reset between: a power cut moves this counter ahead, and hides as many erased checkpoints", e.missing(last), last.Record)
	case e.missing(last) <= last.Lost:
		tell(finding.JournalCounterJump, "%d values are not in the record since record %d; %d records between have lost their content and may have held them", e.missing(last), last.Record, last.Lost)
	default:
		tell(finding.JournalAnchorGap, "%d values are not in the record since record %d", e.missing(last), last.Record)
	}
	return found
}

func (e Entry) missing(last *Mark) uint64 { return e.value - last.Value - 1 }
