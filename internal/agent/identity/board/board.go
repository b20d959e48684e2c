// Package board holds the conditions that the identity has raised: each is
// recorded when it begins, changes its code or ends, and not at every look.
package board

import (
	"context"
	"fmt"
	"log/slog"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// What the findings of this role are about: one condition for each at most.
const (
	AboutReporting = "reporting-identity"
	AboutService   = "service-identity"
	AboutStore     = "identity-store"
	AboutSerial    = "serial-number"
	AboutClock     = "clock"
	AboutCRL       = "revocation-list"
	AboutOwn       = "own-certificate"
	AboutEnrolment = "enrolment"
	AboutRegistrar = "registrar"
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Board is for one goroutine.
type Board struct {
	recorder Recorder
	log      *slog.Logger
	active   map[string]finding.Finding
}

// New makes an empty board.
func New(r Recorder, log *slog.Logger) *Board {
	return &Board{recorder: r, log: log, active: make(map[string]finding.Finding)}
}

// Holds is the code that holds about a subject; empty for none.
func (b *Board) Holds(about string) finding.Code { return b.active[about].Code }

// Set says what holds about a subject; nil for nothing.
func (b *Board) Set(ctx context.Context, about string, f *finding.Finding) {
	before, holds := b.active[about]
	if holds && f != nil && before.Code == f.Code {
		return
	}
	if holds {
		delete(b.active, about)
		b.record(ctx, event.FindingCleared, about, before)
	}
	if f != nil {
		b.active[about] = *f
		b.record(ctx, event.FindingRaised, about, *f)
	}
}

// Raise is Set with a code of the catalogue.
func (b *Board) Raise(ctx context.Context, about string, code finding.Code, format string, args ...any) {
	f := finding.New(code, fmt.Sprintf(format, args...))
	b.Set(ctx, about, &f)
}

// Clear says that nothing holds about a subject.
func (b *Board) Clear(ctx context.Context, about string) { b.Set(ctx, about, nil) }

func (b *Board) record(ctx context.Context, kind, about string, f finding.Finding) {
	b.log.Info("identity", "event", kind, "about", about, "code", f.Code, "detail", f.Detail)
	e := event.Event{Type: kind, Subject: about, Severity: f.Severity, Finding: &f}
	if err := b.recorder.Record(ctx, e); err != nil && ctx.Err() == nil {
		b.log.Error("record identity finding", "code", f.Code, "error", err)
	}
}
