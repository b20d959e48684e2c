// Package anchor ties the device's record to its TPM: it takes the checkpoints
// (package trust/checkpoint; TPM2_NV_Certify, TPM 2.0 Library, Part 3, section
// 31.16) and finds at its start that the record on the disk is an older copy or of
// another device. A checkpoint goes: certify the counter where it stands, record,
// wait until the record is durable, step the counter. A crash anywhere leaves no
// hole in the values, so that a hole says that checkpoints were taken away, and a
// recorded value cannot be certified again. What is recorded between two
// checkpoints root can rewrite: the constants below are that bound in time.
package anchor

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"sync"
	"time"

	"ward/internal/format/pcr"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// When checkpoints are taken, beside those at each boot and at an orderly stop.
const (
	// durableEvery is how often the durable counter moves while the device runs: each
	// step is a write to the TPM's NV memory.
	durableEvery = 24 * time.Hour
	// orderlyEvery is how long news may wait for the everyday counter.
	orderlyEvery = 5 * time.Minute
	// urgentAfter is how long a grave finding waits, so that what follows from it is
	// certified with it, and urgentEvery how often that happens at most.
	urgentAfter = 2 * time.Second
	urgentEvery = 10 * time.Second
	// askEvery is how often somebody on the device may ask for one.
	askEvery = 10 * time.Second
)

// Bounds of waiting.
const (
	judgeWait   = time.Minute     // for the verdict on the boot, whose evidence the first checkpoints name
	recordWait  = 5 * time.Second // for a record to become durable; the journal syncs every second
	stopWait    = 4 * time.Second // for the checkpoint at an orderly stop, the TPM's time included
	stopEvents  = 1500 * time.Millisecond
	firstRetry  = 5 * time.Second // after a failure; doubled up to lastRetry
	lastRetry   = 10 * time.Minute
	aliveEvery  = 5 * time.Second
	durablePoll = 100 * time.Millisecond
)

// Errors of Take.
var (
	ErrTooSoon = errors.New("a checkpoint was asked for less than 10 seconds ago")
	// ErrNotYet: the boot's first checkpoint is not taken.
	ErrNotYet = errors.New("the first checkpoint of this boot is not taken yet")
	// errNotKept: the record on the disk does not go as far as it should; the disk
	// fails, or is slow.
	errNotKept = errors.New("the journal is not durable as far as it must be")
	// errReplaced: the journal is being replaced; there is nothing to do in this one.
	errReplaced = errors.New("the journal is being replaced")
)

// Counter is the journal's counters in the TPM. One that was never stepped gives
// tpm.ErrNeverWritten.
type Counter interface {
	// Key is the attestation key's public part.
	Key(ctx context.Context) (*ecdsa.PublicKey, error)
	// Certify has the TPM certify where a counter stands.
	Certify(ctx context.Context, c checkpoint.Counter, qualifying [32]byte) (attest, signature []byte, err error)
	// Step moves a counter by one. After an error it may have moved.
	Step(ctx context.Context, c checkpoint.Counter) error
}

// Journal is the record.
type Journal interface {
	Read(ctx context.Context, after uint64, limit int) ([]event.Record, error)
	Wait(ctx context.Context, after uint64) error
	// Durable is the newest record that no power cut takes away, with the number of
	// the journal's life; sequence 0: there is none.
	Durable() (epoch, sequence uint64)
}

// Recorder takes events into the record.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config is what the role needs.
type Config struct {
	Source    event.Source
	Boot      string
	Monotonic func() time.Duration // since the kernel started, as in events
	Counter   Counter
	Journal   Journal
	Recorder  Recorder
	// Judged waits for the verdict on the boot and gives the digest of the quoted boot
	// registers; empty where they were not quoted.
	Judged func(ctx context.Context) (pcr.Digest, error)
	// Replaced is told that the record on the disk is not this device's newest: it puts
	// it aside and begins an epoch of at least atLeast. Where it is nil, the record is
	// gone on with.
	Replaced func(detail string, atLeast uint64)
	Alive    func()
	Log      *slog.Logger
}

// Status is what others see of the role.
type Status struct {
	Last     *Last  // of this boot
	Anchored uint64 // the record up to which the chain is certified; 0: none
	Missing  string // why none can be taken now; empty: nothing stands in the way
}

// Last is the newest checkpoint.
type Last struct {
	Counter checkpoint.Counter
	Value   uint64
	Record  uint64        // its own event
	At      time.Duration // since the kernel started
}

// Anchor is the role.
type Anchor struct {
	c     Config
	asked chan request
	news  chan struct{} // there is more to certify

	mu       sync.Mutex
	status   Status
	anchored uint64    // the newest record that is certified
	seen     uint64    // the newest record that is no checkpoint
	grave    uint64    // the newest of severity high or critical
	since    time.Time // when the first of those that are not certified was seen

	// Run's own.
	history     checkpoint.History
	pending     *recorded // nil: the last checkpoint is settled
	evidence    pcr.Digest
	durableAt   time.Time // the next of the durable counter
	lastOrderly time.Time
	lastAsked   time.Time
	retryAt     time.Time
	retry       time.Duration
	failures    int
	raised      bool
	// conditionKnown: what an earlier run of this boot left is known.
	conditionKnown bool
	// abandoned: the record is gone on with though it is not the newest; what stands in
	// it does not count any more.
	abandoned bool
}

type request chan answer

type answer struct {
	record []byte
	err    error
}

// New makes the role; Run does its work.
func New(c Config) *Anchor {
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Anchor{c: c, asked: make(chan request), news: make(chan struct{}, 1)}
}

// Status says how far the record is certified.
func (a *Anchor) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// Take has a checkpoint of the everyday counter taken now and returns its event, as
// it was recorded. It waits for the first checkpoint of the boot.
func (a *Anchor) Take(ctx context.Context) ([]byte, error) {
	r := make(request, 1)
	select {
	case a.asked <- r:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case got := <-r:
		return got.record, got.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Run takes checkpoints until ctx ends.
func (a *Anchor) Run(ctx context.Context) error {
	a.c.Alive()
	if err := a.judged(ctx); err != nil {
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for begun := false; ctx.Err() == nil; {
		a.c.Alive()
		if !begun && !time.Now().Before(a.retryAt) {
			if begun = a.try(ctx, a.begin); begun {
				cursor := a.Status().Anchored
				wg.Go(func() { a.follow(ctx, cursor) })
			}
		}
		a.wait(ctx, begun)
		if ctx.Err() != nil || !begun {
			continue
		}
		now := time.Now()
		switch {
		case now.Before(a.retryAt):
		case !now.Before(a.durableAt):
			a.try(ctx, func(ctx context.Context) error { _, err := a.take(ctx, checkpoint.Durable, nil); return err })
		case a.orderlyDue(now):
			a.try(ctx, func(ctx context.Context) error { _, err := a.take(ctx, checkpoint.Orderly, nil); return err })
		}
	}
	a.farewell(ctx)
	return nil
}

// judged waits for the verdict, within its bound, and says that it is alive.
func (a *Anchor) judged(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, judgeWait)
	defer cancel()
	evidence, err := a.c.Judged(limit)
	if err == nil {
		a.evidence = evidence
	}
	return ctx.Err()
}

// try does one operation, and raises and clears the condition that none can be
// taken: raised at the second failure behind each other, so that a TPM that is busy
// for a moment tells nothing.
func (a *Anchor) try(ctx context.Context, do func(context.Context) error) bool {
	err := do(ctx)
	if ctx.Err() != nil || errors.Is(err, errReplaced) {
		return false
	}
	missing := ""
	if err == nil {
		a.failures, a.retry, a.retryAt = 0, 0, time.Time{}
	} else {
		missing = err.Error()
		a.c.Log.Warn("take checkpoint", "error", err)
		a.failures++
		a.retry = min(max(2*a.retry, firstRetry), lastRetry)
		a.retryAt = time.Now().Add(a.retry)
	}
	a.mu.Lock()
	a.status.Missing = missing
	a.mu.Unlock()
	f := finding.New(finding.JournalAnchorMissing, missing)
	switch {
	case err == nil && a.raised:
		f.Detail = "checkpoints are taken again"
		a.note(ctx, event.Event{Type: event.FindingCleared, Severity: f.Severity, Finding: &f})
		a.raised = false
	case a.failures > 1 && !a.raised:
		a.note(ctx, event.Event{Type: event.FindingRaised, Severity: f.Severity, Finding: &f})
		a.raised = true
	}
	return err == nil
}

// subject is what the role's findings and checkpoints are about.
const subject = "anchor"

func (a *Anchor) note(ctx context.Context, e event.Event) {
	e.Subject = subject
	if err := a.c.Recorder.Record(ctx, e); err != nil {
		a.c.Log.Error("record event", "type", e.Type, "error", err)
	}
}

func (a *Anchor) incident(ctx context.Context, f finding.Finding) {
	a.note(ctx, event.Event{Type: event.FindingIncident, Severity: f.Severity, Finding: &f})
}
