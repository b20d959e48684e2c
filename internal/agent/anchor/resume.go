package anchor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
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
	for end := newest; end > 0 && (a.history.Orderly == nil || a.history.Durable == nil); end -= min(end, batch) {
		a.c.Alive()
		records, err := a.c.Journal.Read(ctx, end-min(end, batch), batch)
		if err != nil {
			return resumed{}, err
		}
		if len(records) == 0 || records[0].Sequence > end {
			break // what is before was recycled
		}
		for i := len(records) - 1; i >= 0; i-- {
			r := records[i]
			read++
			switch {
			case r.Sequence > end:
			case r.Bytes == nil:
				lost++
			case isCheckpoint(r):
				if err := a.found(ctx, ak, r, lost, &out); err != nil {
					return resumed{}, err
				}
			case read < conditionReach:
				a.lookForCondition(r)
			}
		}
	}
	if a.history == (checkpoint.History{}) && lost > 0 {
		a.incident(ctx, finding.New(finding.JournalCounterJump, fmt.Sprintf("no checkpoint is left in the record to hold against the TPM's counters; %d records have lost their content", lost)))
	}
	return out, nil
}

// found takes a checkpoint of the record as the last of its counter, if there is no
// newer one.
func (a *Anchor) found(ctx context.Context, ak *ecdsa.PublicKey, r event.Record, lost uint64, out *resumed) error {
	e, err := event.Parse(r.Bytes)
	if err != nil || e.Type != event.Checkpoint {
		return nil
	}
	report, err := checkpoint.Parse(e.Report)
	if err == nil && a.history.Last(report.Counter) != nil {
		return nil
	}
	var v checkpoint.Verified
	if err == nil {
		v, err = checkpoint.Verify(report, e.Source, e.Epoch, ak)
	}
	if err != nil {
		detail := fmt.Sprintf("record %d: %v", r.Sequence, err)
		if errors.Is(err, checkpoint.ErrSignature) {
			return a.replace(ctx, finding.JournalForeign, detail)
		}
		a.incident(ctx, finding.New(finding.JournalAnchorInvalid, detail))
		return nil
	}
	known, err := a.hash(ctx, v.Place().Sequence)
	if err != nil {
		return err
	}
	var alone checkpoint.History
	for _, f := range alone.Add(checkpoint.Entry{Verified: v, Record: e.Sequence, Known: known}) {
		a.incident(ctx, f)
	}
	alone.Lose(lost)
	here := e.Boot == a.c.Boot
	if v.Counter() == checkpoint.Durable {
		a.history.Durable = alone.Durable
		if here {
			out.boot, out.durableLeft = true, durableEvery-(a.c.Monotonic()-e.Monotonic)
		}
	} else {
		a.history.Orderly = alone.Orderly
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if v.Place().Sequence > a.anchored {
		a.anchored = v.Place().Sequence
		a.status.Anchored = a.anchored
		if here {
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
