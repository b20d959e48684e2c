package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ward/internal/agent/journal/audit"
	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// saveEvery is how often the fleet's confirmation is written down, so that a
	// busy link does not wear the flash; what is lost by it is sent again. The first
	// one of a run is written at once: a daemon that dies again and again would
	// otherwise send everything each time.
	saveEvery = 30 * time.Second
	// verifyAfter is how long after the start the chain is followed: the verdict
	// on the boot comes first.
	verifyAfter = 15 * time.Second
	// overflowEvery is how often events that lost their content are told, so
	// that telling it does not fill the journal.
	overflowEvery = time.Hour
	// verifyBatch is how many records are followed at once.
	verifyBatch = 128
)

// Run makes records durable that did not have to be at once, keeps the journal
// within its bounds, follows once the chain of what was found at the start, and
// raises or clears the condition that the journal cannot be written.
func (j *Journal) Run(ctx context.Context) error {
	flush, save := time.NewTicker(flushEvery), time.NewTicker(saveEvery)
	defer flush.Stop()
	defer save.Stop()
	verify := time.NewTimer(verifyAfter)
	defer verify.Stop()
	known, early := j.Acknowledged(), true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-flush.C:
			j.flush(ctx)
			j.look(ctx)
			if early && j.Acknowledged() > known {
				early = false
				j.save()
			}
		case <-save.C:
			j.save()
		case <-verify.C:
			j.verify(ctx)
		}
		j.c.Alive()
	}
}

// save writes the state if there is a reason to.
func (j *Journal) save() {
	j.gate.RLock()
	defer j.gate.RUnlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.dirty || j.closed {
		return
	}
	if err := j.saveState(false); err != nil {
		j.c.Log.Warn("save the journal's state", "error", err)
	}
}

func (j *Journal) flush(ctx context.Context) {
	err := j.sync()
	if errors.Is(err, ErrClosed) {
		return
	}
	j.mu.Lock()
	j.wake()
	j.mu.Unlock()
	j.report(ctx, err)
	if err := j.room(); err != nil {
		j.c.Log.Debug("make room in the journal", "error", err)
	}
	j.tellGone(ctx)
	j.mu.Lock()
	shed, due := j.shed, j.shed > 0 && time.Since(j.overflow) >= overflowEvery
	if due {
		j.shed, j.overflow = 0, time.Now()
	}
	j.mu.Unlock()
	if due {
		j.note(ctx, incident(finding.JournalOverflow, fmt.Sprintf("%d events lost their content", shed)))
	}
}

// room keeps the journal within its bound. What the state file says must be
// durable before records go: it is how their absence is understood later.
func (j *Journal) room() error {
	if j.log.Size() <= j.c.MaxBytes && j.log.Failing() == nil {
		return nil
	}
	j.save()
	j.gate.RLock()
	defer j.gate.RUnlock()
	if j.closed {
		return ErrClosed
	}
	shed, err := j.log.Room(j.Acknowledged(), shedding)
	j.mu.Lock()
	j.shed += shed
	j.mu.Unlock()
	for err == nil {
		_, last, over := j.log.Oldest()
		if !over {
			return nil
		}
		j.mu.Lock()
		j.state.Gone, j.dirty = max(j.state.Gone, last), true
		err = j.saveState(false)
		j.mu.Unlock()
		if err == nil {
			err = j.log.DropOldest()
		}
	}
	return err
}

// report raises and clears journal.write-failing. The event itself waits in
// memory while the disk fails, and takes its place in the chain.
func (j *Journal) report(ctx context.Context, failure error) {
	j.mu.Lock()
	if j.failing == (failure != nil) {
		j.mu.Unlock()
		return
	}
	j.failing = failure != nil
	lost := j.lost
	j.mu.Unlock()
	kind, detail := event.FindingCleared, fmt.Sprintf("the journal is written again; %d events were lost", lost)
	if failure != nil {
		kind, detail = event.FindingRaised, failure.Error()
	}
	f := finding.New(finding.JournalFailing, detail)
	j.note(ctx, event.Event{Type: kind, Subject: subject, Severity: f.Severity, Finding: &f})
}

// verify follows the chain of the records that were found at the start.
func (j *Journal) verify(ctx context.Context) {
	var f audit.Follower
	for after := uint64(0); after < j.found && ctx.Err() == nil; {
		records, err := j.log.Read(after, verifyBatch)
		if err != nil {
			j.c.Log.Warn("verify the journal", "error", err)
			return
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			if after = r.Sequence; after <= j.found {
				f.Add(r)
			}
		}
		j.c.Alive()
	}
	var damage []wal.Damage
	for _, p := range f.Problems() {
		damage = append(damage, wal.Damage{Segment: "chain", Reason: p})
	}
	j.mu.Lock()
	fresh := j.tell(damage)
	j.mu.Unlock()
	for _, text := range fresh {
		j.note(ctx, incident(finding.JournalCorrupt, text))
	}
}

// note records an event of the journal's own.
func (j *Journal) note(ctx context.Context, e event.Event) {
	if err := j.c.Note(ctx, e); err != nil {
		j.c.Log.Error("record the journal's state", "error", err)
	}
}

// shedding takes the content of the least grave events first. An event that
// cannot be read is worth the most: it may tell of an attack.
var shedding = wal.Shed{
	Hash: func(b []byte) [32]byte { return chain.Next(b) },
	Worth: func(b []byte) int {
		e, err := event.Parse(b)
		if err != nil {
			return int(finding.Critical)
		}
		return int(e.Severity)
	},
	Levels: int(finding.Critical),
}
