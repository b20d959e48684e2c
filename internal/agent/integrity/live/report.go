package live

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// reporter records incidents and the role's conditions. It is safe for concurrent
// use.
type reporter struct {
	recorder   Recorder
	log        *slog.Logger
	floodEnded time.Time

	mu     sync.Mutex
	raised map[finding.Code]string // the detail of what is held
	mounts bool                    // the blind spots are others
}

func newReporter(r Recorder, log *slog.Logger) *reporter {
	return &reporter{recorder: r, log: log, raised: make(map[finding.Code]string)}
}

func (r *reporter) remount() {
	r.mu.Lock()
	r.mounts = true
	r.mu.Unlock()
}

func (r *reporter) remounted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.mounts
	r.mounts = false
	return was
}

func (r *reporter) held(c finding.Code) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.raised[c]
	return ok
}

// raise raises a condition that is not raised; it says whether it did.
func (r *reporter) raise(ctx context.Context, f finding.Finding, subject string) bool {
	if r.held(f.Code) {
		return false
	}
	return r.change(ctx, f, subject)
}

// change raises a condition, or raises it anew with another detail.
func (r *reporter) change(ctx context.Context, f finding.Finding, subject string) bool {
	r.mu.Lock()
	was, ok := r.raised[f.Code]
	r.raised[f.Code] = f.Detail
	r.mu.Unlock()
	if ok && was == f.Detail {
		return false
	}
	r.finding(ctx, event.FindingRaised, subject, f)
	return true
}

func (r *reporter) clear(ctx context.Context, f finding.Finding, subject string) {
	r.mu.Lock()
	_, ok := r.raised[f.Code]
	delete(r.raised, f.Code)
	r.mu.Unlock()
	if ok {
		r.finding(ctx, event.FindingCleared, subject, f)
	}
}

func (r *reporter) incident(ctx context.Context, f finding.Finding) {
	about := f.Path
	if about == "" {
		about = subject
	}
	r.finding(ctx, event.FindingIncident, about, f)
}

func (r *reporter) finding(ctx context.Context, kind, about string, f finding.Finding) {
	r.event(ctx, event.Event{Type: kind, Time: time.Now(), Subject: about, Severity: f.Severity, Finding: &f})
}

func (r *reporter) event(ctx context.Context, e event.Event) {
	if err := r.recorder.Record(ctx, e); err != nil {
		r.log.Error("record event", "type", e.Type, "subject", e.Subject, "error", err)
	}
}
