package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// incidentEvery bounds how often one kind of incident is recorded: whoever can
// write to the device's topic could otherwise fill its journal.
const incidentEvery = time.Minute

// condition is a finding that lasts: it is recorded when it begins, when its
// code changes and when it ends, and not at every retry.
type condition struct{ current *finding.Finding }

func (c *condition) holds() bool { return c.current != nil }

func (c *condition) raise(ctx context.Context, u *Uplink, f finding.Finding) {
	if c.current != nil && c.current.Code == f.Code {
		return
	}
	c.clear(ctx, u)
	c.current = &f
	u.record(ctx, event.FindingRaised, f)
}

func (c *condition) clear(ctx context.Context, u *Uplink) {
	if c.current == nil {
		return
	}
	u.record(ctx, event.FindingCleared, *c.current)
	c.current = nil
}

// limiter lets the first incident through at once and then one a minute, with
// the number of those in between.
type limiter struct {
	last    time.Time
	skipped int
}

func (l *limiter) report(ctx context.Context, u *Uplink, code finding.Code, err error) {
	if !l.last.IsZero() && time.Since(l.last) < incidentEvery {
		l.skipped++
		return
	}
	detail := err.Error()
	if l.skipped > 0 {
		detail += fmt.Sprintf(" (and %d more since %s)", l.skipped, l.last.UTC().Format(time.RFC3339))
	}
	l.last, l.skipped = time.Now(), 0
	u.record(ctx, event.FindingIncident, finding.New(code, detail))
}

func (u *Uplink) record(ctx context.Context, kind string, f finding.Finding) {
	u.store(ctx, event.Event{Type: kind, Subject: subjectName, Severity: f.Severity, Finding: &f})
}

// connected is the report of a ward.link.connected event.
type connected struct {
	Broker  string `json:"broker"`
	Session uint64 `json:"session"`
}

func (u *Uplink) recordConnected(ctx context.Context, c connected) {
	report, err := json.Marshal(c)
	if err != nil {
		u.config.Log.Error("encode report", "error", err)
		return
	}
	u.store(ctx, event.Event{Type: event.LinkConnected, Subject: subjectName, Severity: finding.Info, Report: report})
}

func (u *Uplink) store(ctx context.Context, e event.Event) {
	if err := u.config.Recorder.Record(ctx, e); err != nil && ctx.Err() == nil {
		u.config.Log.Error("record link event", "type", e.Type, "error", err)
	}
}
