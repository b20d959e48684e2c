package updategate

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// subject is what events and findings of this role are about.
const subject = "rollback-counter"

// report is what an event of this role says of the release.
type report struct {
	Product       string  `json:"product"`
	Version       string  `json:"version"`
	Digest        string  `json:"digest"` // SHA-256 of the manifest
	RollbackIndex uint64  `json:"rollbackIndex"`
	By            string  `json:"by,omitempty"`      // confirmed: who said so
	Counter       *uint64 `json:"counter,omitempty"` // committed: where it stands
}

// recordConfirmed tells whether the journal took the event.
func (g *Gate) recordConfirmed(ctx context.Context, r *release.Verified, by string) bool {
	rep := reportOf(r)
	rep.By = by
	g.config.Log.Info("release confirmed", "version", rep.Version, "by", by)
	return g.record(ctx, event.UpdateConfirmed, rep)
}

// recordCommitted tells whether the journal took the event.
func (g *Gate) recordCommitted(ctx context.Context, r *release.Verified, counter uint64) bool {
	rep := reportOf(r)
	rep.Counter = &counter
	g.config.Log.Info("rollback counter stands at the release", "version", rep.Version, "counter", counter)
	return g.record(ctx, event.UpdateCommitted, rep)
}

func reportOf(r *release.Verified) report {
	m := r.Manifest()
	return report{Product: m.Product, Version: m.Version, Digest: name(r), RollbackIndex: m.RollbackIndex}
}

func (g *Gate) record(ctx context.Context, kind string, rep report) bool {
	b, err := json.Marshal(rep)
	if err != nil {
		g.config.Log.Error("encode event", "type", kind, "error", err)
		return false
	}
	return g.keep(ctx, event.Event{Type: kind, Subject: subject, Severity: finding.Info, Report: b})
}

// keep hands an event to the journal, also when who asked has gone meanwhile.
func (g *Gate) keep(ctx context.Context, e event.Event) bool {
	if err := g.config.Recorder.Record(context.WithoutCancel(ctx), e); err != nil {
		g.config.Log.Error("record event", "type", e.Type, "error", err)
		return false
	}
	return true
}

// report raises and clears what is wrong. A TPM that fails says nothing about
// what held before.
func (g *Gate) report(ctx context.Context, running *release.Verified, d release.Decision, err error) {
	if err != nil {
		g.failed++
		g.explain(err.Error())
		g.config.Log.Warn("use rollback counter", "error", err, "times", g.failed)
		if g.failed >= failures {
			g.hold(ctx, finding.UpdateCounterFailing, true, err.Error())
		}
		return
	}
	g.failed = 0
	g.hold(ctx, finding.UpdateCounterFailing, d.Gate == release.GateForeign, d.Reason)
	g.hold(ctx, finding.UpdateLockedOut, d.Gate == release.GateLockedOut, d.Reason)
	waited := g.wait(running, d)
	g.hold(ctx, finding.UpdateUnconfirmed, waited >= worryAfter, fmt.Sprintf("%s; it has run for %d hours", d.Reason, int(waited.Hours())))
}

// explain has the status say what stands in the way.
func (g *Gate) explain(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status.Reason = why
}

// wait counts the running time of a release that is not confirmed, and keeps it
// now and then, so that a device that is switched off each evening is seen too.
func (g *Gate) wait(running *release.Verified, d release.Decision) time.Duration {
	if d.Gate != release.GateUnconfirmed {
		g.since = time.Time{}
		return 0
	}
	now := time.Now()
	if g.state.Waiting != name(running) {
		g.state.Waiting, g.state.Seconds, g.since = name(running), 0, now
	}
	if g.since.IsZero() {
		g.since = now
	}
	waited := time.Duration(g.state.Seconds)*time.Second + now.Sub(g.since)
	if now.Sub(g.since) >= keepEvery && g.state.Seconds < int64(worryAfter.Seconds()) {
		g.state.Seconds, g.since = int64(waited.Seconds()), now
		if err := g.save(); err != nil {
			g.config.Log.Warn("keep how long the release has run", "error", err)
		}
	}
	return waited
}

func (g *Gate) hold(ctx context.Context, code finding.Code, holds bool, detail string) {
	if g.raised[code] == holds {
		return
	}
	f := finding.New(code, detail)
	e := event.Event{Type: event.FindingRaised, Subject: subject, Severity: f.Severity, Finding: &f}
	if !holds {
		e.Type = event.FindingCleared
	}
	if g.keep(ctx, e) {
		g.raised[code] = holds
	}
}
