package anchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// begin finds the newest checkpoints of the record, holds them against the TPM, and
// takes the boot's first ones of both counters; an earlier run of the daemon in this
// boot may have done that already.
func (a *Anchor) begin(ctx context.Context) error {
	if _, err := a.settle(ctx); err != nil {
		return err
	}
	found, err := a.resume(ctx)
	if err != nil {
		return err
	}
	if found.boot {
		now := time.Now()
		a.durableAt = now.Add(found.durableLeft)
		if a.lastOrderly.IsZero() {
			a.lastOrderly = now
		}
		// The TPM is held against the record all the same: the durable counter by
		// itself, as a checkpoint would do it, the everyday one by a checkpoint.
		value, err := a.value(ctx, checkpoint.Durable)
		if err != nil {
			return err
		}
		if last := a.history.Durable; value > last.Value+1+last.Lost {
			return a.replace(ctx, finding.JournalRolledBack, fmt.Sprintf("the newest checkpoint of the durable counter in the record is %d, record %d", last.Value, last.Record))
		}
		_, err = a.take(ctx, checkpoint.Orderly, nil)
		return err
	}
	if _, err := a.take(ctx, checkpoint.Durable, a.evidence); err != nil {
		return err
	}
	_, err = a.take(ctx, checkpoint.Orderly, a.evidence)
	return err
}

// take takes one checkpoint over the newest durable record:
//
//  1. the record of the last one of this counter must be durable;
//  2. the TPM certifies where the counter stands; a value that is recorded already
//     (the daemon ended before it stepped) is stepped over;
//  3. the certificate is verified as every reader does, and judged behind the ones
//     before it: a hole means that the record on the disk is not the newest;
//  4. it is recorded, and the counter stepped when that is durable.
func (a *Anchor) take(ctx context.Context, counter checkpoint.Counter, evidence pcr.Digest) (record []byte, err error) {
	if _, err := a.settle(ctx); err != nil {
		return nil, err
	}
	ak, err := a.c.Counter.Key(ctx)
	if err != nil {
		return nil, err
	}
	place, err := a.head(ctx)
	if err != nil {
		return nil, err
	}
	last := a.history.Last(counter)
	if last != nil && last.Epoch == place.Epoch && last.Record > place.Sequence {
		return nil, fmt.Errorf("%w: record %d", errNotKept, last.Record)
	}
	report, err := a.certify(ctx, counter, place, evidence)
	if err != nil {
		return nil, err
	}
	if last != nil && report.Value == last.Value && last.Epoch == place.Epoch {
		if err := a.c.Counter.Step(ctx, counter); err != nil {
			return nil, err
		}
		if report, err = a.certify(ctx, counter, place, evidence); err != nil {
			return nil, err
		}
	}
	verified, err := checkpoint.Verify(report, a.c.Source, place.Epoch, ak)
	if err != nil {
		return nil, err
	}
	entry := checkpoint.Entry{Verified: verified, Record: place.Sequence + 1, Known: place.Head}
	for _, f := range a.history.Judge(entry) {
		if f.Code == finding.JournalAnchorGap {
			return nil, a.replace(ctx, finding.JournalRolledBack, f.Detail)
		}
		a.incident(ctx, f)
	}
	body, err := checkpoint.Encode(report)
	if err != nil {
		return nil, err
	}
	if err := a.c.Recorder.Record(ctx, event.Event{Type: event.Checkpoint, Subject: subject, Severity: finding.Info, Report: body}); err != nil {
		return nil, err
	}
	a.pending = &recorded{entry: entry, body: body}
	return a.settle(ctx)
}

// recorded is a checkpoint that is in the journal, and not known to be durable.
type recorded struct {
	entry checkpoint.Entry // without its own place
	body  []byte
}

// settle waits until the last checkpoint that was recorded is durable, and steps its
// counter. Nothing is certified before: the value is used.
func (a *Anchor) settle(ctx context.Context) (record []byte, err error) {
	if a.pending == nil {
		return nil, nil
	}
	p := *a.pending
	own, err := a.await(ctx, p.entry.Place().Sequence, p.body)
	if err != nil {
		return nil, err
	}
	a.pending, p.entry.Record = nil, own.Sequence
	a.taken(p.entry)
	if err := a.c.Counter.Step(ctx, p.entry.Counter()); err != nil {
		// The checkpoint stands; the step is made up for before the next one.
		a.c.Log.Warn("step the journal's counter behind a checkpoint", "counter", p.entry.Counter(), "error", err)
	}
	return own.Bytes, nil
}

// head is the newest durable record.
func (a *Anchor) head(ctx context.Context) (checkpoint.Place, error) {
	epoch, sequence := a.c.Journal.Durable()
	if sequence == 0 {
		return checkpoint.Place{}, fmt.Errorf("%w: no record is", errNotKept)
	}
	h, err := a.hash(ctx, sequence)
	if err == nil && h == (chain.Hash{}) {
		err = fmt.Errorf("%w: record %d is not there", errNotKept, sequence)
	}
	return checkpoint.Place{Epoch: epoch, Sequence: sequence, Head: h}, err
}

// hash is a record's; zero for one that is not there any more.
func (a *Anchor) hash(ctx context.Context, sequence uint64) (chain.Hash, error) {
	records, err := a.c.Journal.Read(ctx, sequence-1, 1)
	if err != nil || len(records) == 0 || records[0].Sequence != sequence {
		return chain.Hash{}, err
	}
	return records[0].Hash, nil
}

// certify makes the report of a checkpoint; a counter that was never stepped is
// stepped first, as it has no value before.
func (a *Anchor) certify(ctx context.Context, counter checkpoint.Counter, place checkpoint.Place, evidence pcr.Digest) (checkpoint.Report, error) {
	qualifying := checkpoint.Qualifying(a.c.Source, place, evidence)
	attest, signature, err := a.c.Counter.Certify(ctx, counter, qualifying)
	if errors.Is(err, tpm.ErrNeverWritten) {
		if err := a.c.Counter.Step(ctx, counter); err != nil {
			return checkpoint.Report{}, err
		}
		attest, signature, err = a.c.Counter.Certify(ctx, counter, qualifying)
	}
	if err != nil {
		return checkpoint.Report{}, err
	}
	value, err := checkpoint.UntrustedValue(attest)
	if err != nil {
		return checkpoint.Report{}, err
	}
	return checkpoint.Report{Counter: counter, Value: value, Sequence: place.Sequence, Head: place.Head, Evidence: evidence, Attest: attest, Signature: signature}, nil
}

// await returns the checkpoint's own record when it is durable.
func (a *Anchor) await(ctx context.Context, after uint64, body []byte) (event.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, recordWait)
	defer cancel()
	for {
		records, err := a.c.Journal.Read(ctx, after, batch)
		if err != nil {
			return event.Record{}, err
		}
		for _, r := range records {
			after = r.Sequence
			if !isCheckpoint(r) {
				continue
			}
			if e, err := event.Parse(r.Bytes); err != nil || !bytes.Equal(e.Report, body) {
				continue
			}
			return r, a.durable(ctx, r.Sequence)
		}
		if len(records) > 0 {
			continue
		}
		if err := a.c.Journal.Wait(ctx, after); err != nil {
			return event.Record{}, fmt.Errorf("%w: the checkpoint's own record: %w", errNotKept, err)
		}
	}
}

// durable waits until a record that can be read is durable, too: while the disk
// fails, readers get what is in memory.
func (a *Anchor) durable(ctx context.Context, sequence uint64) error {
	for {
		if _, newest := a.c.Journal.Durable(); newest >= sequence {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: record %d", errNotKept, sequence)
		case <-time.After(durablePoll):
		}
	}
}

// taken goes on behind a checkpoint that is recorded.
func (a *Anchor) taken(e checkpoint.Entry) {
	_ = a.history.Add(e) // judged before
	now := time.Now()
	if e.Counter() == checkpoint.Durable {
		a.durableAt = now.Add(durableEvery)
	}
	a.lastOrderly = now // one of the durable counter certifies as much
	a.mu.Lock()
	defer a.mu.Unlock()
	a.anchored = max(a.anchored, e.Place().Sequence)
	a.status.Anchored = a.anchored
	a.status.Last = &Last{Counter: e.Counter(), Value: e.Value(), Record: e.Record, At: a.c.Monotonic()}
}

// replace says that the record on the disk is not this device's newest, and hands
// over to whoever begins another one. Where nobody does, it is gone on with, and the
// hole stays in it for every reader to see.
func (a *Anchor) replace(ctx context.Context, code finding.Code, detail string) error {
	epoch, _ := a.c.Journal.Durable()
	atLeast := epoch + 1
	value, err := a.value(ctx, checkpoint.Durable)
	if err == nil {
		atLeast = max(atLeast, value+1)
		detail = fmt.Sprintf("the durable counter stands at %d; %s", value, detail)
	}
	a.incident(ctx, finding.New(code, detail))
	a.history = checkpoint.History{}
	if a.c.Replaced == nil {
		a.abandoned = true
		return fmt.Errorf("%s: %s", code, detail)
	}
	a.c.Replaced(detail, atLeast)
	<-ctx.Done() // the roles are begun anew
	return errReplaced
}

// value is where a counter stands. The certificate by which the TPM says so is given
// to nobody.
func (a *Anchor) value(ctx context.Context, c checkpoint.Counter) (uint64, error) {
	attest, _, err := a.c.Counter.Certify(ctx, c, [32]byte{})
	if err != nil {
		return 0, err
	}
	return checkpoint.UntrustedValue(attest)
}

// mark is how a checkpoint's type stands in the bytes of its event.
var mark = []byte(`"type":"` + event.Checkpoint + `"`)

// isCheckpoint tells checkpoints before they are parsed. Texts in events are quoted,
// so that no other event holds the mark.
func isCheckpoint(r event.Record) bool { return bytes.Contains(r.Bytes, mark) }
