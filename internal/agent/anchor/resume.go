package anchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// resumed is what the record said at the start.
type resumed struct {
	boot        bool          // the first checkpoints of this boot are taken
	durableLeft time.Duration // until the next one of the durable counter
}

// resume reads the record from its end back to the newest checkpoint of each
// counter, and takes those that this device's key signed as the last ones. None at
// all is what a record that was just begun has, or one whose checkpoints have lost
// their content: then there is nothing to hold against the TPM, and the next
// checkpoint is the first. Where the content is lost it says so.
func (a *Anchor) resume(ctx context.Context) (resumed, error) {
	a.history = checkpoint.History{}
	if a.abandoned {
		return resumed{}, nil
	}
	ak, err := a.c.Counter.Key(ctx)
	if err != nil {
		return resumed{}, err
	}
	var out resumed
	var lost, read uint64
	_, newest := a.c.Journal.Durable()
	for end := newest; end > 0 && (a.history.Orderly == nil || a.history.Durable == nil); {
		a.c.Alive()
		begin := end - min(end, batch)
		records, err := a.c.Journal.Read(ctx, begin, batch)
		if err != nil {
			return resumed{}, err
		}
		records = slices.DeleteFunc(records, func(r event.Record) bool { return r.Sequence > end })
		if len(records) == 0 {
			break // what is before was recycled
		}
		for _, r := range slices.Backward(records) {
			read++
			if r.Bytes == nil {
				lost++
				continue
			}
			if read < conditionReach {
				a.lookForCondition(r)
			}
			if !isCheckpoint(r) {
				continue
			}
			e, err := event.Parse(r.Bytes)
			if err != nil || e.Type != event.Checkpoint {
				continue
			}
			report, err := checkpoint.Parse(e.Report)
			if err == nil && a.history.Last(report.Counter) != nil {
				continue
			}
			var v checkpoint.Verified
			if err == nil {
				v, err = checkpoint.Verify(report, e.Source, e.Epoch, ak)
			}
			switch {
			case errors.Is(err, checkpoint.ErrSignature):
				return resumed{}, a.replace(ctx, finding.JournalForeign, fmt.Sprintf("record %d: %v", r.Sequence, err))
			case err != nil:
				a.incident(ctx, finding.New(finding.JournalAnchorInvalid, fmt.Sprintf("record %d: %v", r.Sequence, err)))
				continue
			}
			if err := a.found(ctx, e, v, lost); err != nil {
				return resumed{}, err
			}
			if e.Boot == a.c.Boot && v.Counter() == checkpoint.Durable {
				out.boot, out.durableLeft = true, durableEvery-(a.c.Monotonic()-e.Monotonic)
			}
		}
		end = begin
	}
	if a.history == (checkpoint.History{}) && lost > 0 {
		a.incident(ctx, finding.New(finding.JournalCounterJump, fmt.Sprintf("no checkpoint is left in the record to hold against the TPM's counters; %d records have lost their content", lost)))
	}
	return out, nil
}

// found takes a verified checkpoint of the record as the last of its counter.
func (a *Anchor) found(ctx context.Context, e event.Decoded, v checkpoint.Verified, lost uint64) error {
	known, err := a.hash(ctx, v.Place().Sequence)
	if err != nil {
		return err
	}
	entry := checkpoint.Entry{Verified: v, Record: e.Sequence, Known: known}
	var alone checkpoint.History
	for _, f := range alone.Add(entry) {
		a.incident(ctx, f)
	}
	m := alone.Last(v.Counter())
	m.Lost = lost
	if v.Counter() == checkpoint.Durable {
		a.history.Durable = m
	} else {
		a.history.Orderly = m
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if v.Place().Sequence > a.anchored {
		a.anchored = v.Place().Sequence
		a.status.Anchored = a.anchored
		if e.Boot == a.c.Boot {
			a.status.Last = &Last{Counter: v.Counter(), Value: v.Value(), Record: e.Sequence, At: e.Monotonic}
		}
	}
	return nil
}

// conditionReach is how far back the condition of an earlier run in this boot is
// looked for: it is raised when the newest checkpoint is some minutes old.
const conditionReach = 4096

// lookForCondition learns whether an earlier run in this boot left the condition
// raised.
func (a *Anchor) lookForCondition(r event.Record) {
	if a.conditionKnown || !bytes.Contains(r.Bytes, []byte(finding.JournalAnchorMissing)) {
		return
	}
	e, err := event.Parse(r.Bytes)
	if err != nil || e.Boot != a.c.Boot || e.Finding == nil || e.Finding.Code != finding.JournalAnchorMissing {
		return
	}
	a.conditionKnown, a.raised = true, e.Type == event.FindingRaised
}
