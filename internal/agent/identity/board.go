package identity

import (
	"context"
	"fmt"
	"log/slog"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// What the findings of this role are about: one condition for each at most.
const (
	aboutReporting = "reporting-identity"
	aboutService   = "service-identity"
	aboutStore     = "identity-store"
	aboutSerial    = "serial-number"
	aboutClock     = "clock"
	aboutCRL       = "revocation-list"
	aboutOwn       = "own-certificate"
	aboutEnrolment = "enrolment"
	aboutRegistrar = "registrar"
)

// Fault is why there is no usable identity, as a finding.
type Fault struct {
	Finding finding.Finding
	Err     error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

func fault(code finding.Code, format string, args ...any) *Fault {
	err := fmt.Errorf(format, args...)
	return &Fault{Finding: finding.New(code, err.Error()), Err: err}
}

// board holds the conditions that this role has raised. They are recorded when
// they begin, change their code or end, and not at every look.
type board struct {
	recorder Recorder
	log      *slog.Logger
	active   map[string]finding.Finding
}

// set says what holds about a subject; nil for nothing.
func (b *board) set(ctx context.Context, about string, f *finding.Finding) {
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

// raise is set with a code of the catalogue.
func (b *board) raise(ctx context.Context, about string, code finding.Code, format string, args ...any) {
	f := finding.New(code, fmt.Sprintf(format, args...))
	b.set(ctx, about, &f)
}

func (b *board) clear(ctx context.Context, about string) { b.set(ctx, about, nil) }

func (b *board) record(ctx context.Context, kind, about string, f finding.Finding) {
	b.log.Info("identity", "event", kind, "about", about, "code", f.Code, "detail", f.Detail)
	e := event.Event{Type: kind, Subject: about, Severity: f.Severity, Finding: &f}
	if err := b.recorder.Record(ctx, e); err != nil && ctx.Err() == nil {
		b.log.Error("record identity finding", "code", f.Code, "error", err)
	}
}
