package daemon

import (
	"context"
	"fmt"

	"ward/internal/agent/self"
	"ward/internal/daemon/itself"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// assembleSelf makes the role that watches the daemon itself.
func (d *daemon) assembleSelf(boot *bootState) {
	role := itself.New(d.config, d.configFile, self.Config{
		Release: covered{boot.attester}, Hide: boot.names.Hide, Recorder: d.recorder, Alive: d.alive("self"), Log: d.log.With("role", "self"),
	})
	d.add("self", slowBound, role.Run)
}

// beginSelf tells when the daemon before this one was ended without being asked.
func (d *daemon) beginSelf(ctx context.Context) {
	if d.life.why != "" {
		return // another life of the same process
	}
	killed, err := self.Begin(d.config.Paths.State, d.boot)
	if err != nil {
		d.log.Warn("note the start", "error", err)
	}
	if killed {
		f := finding.New(finding.SelfKilled, fmt.Sprintf("before session %d", d.session))
		d.record(ctx, event.Event{Type: event.FindingIncident, Subject: "process", Severity: f.Severity, Finding: &f})
	}
}

// endSelf notes the end in order.
func (d *daemon) endSelf() {
	if err := self.End(d.config.Paths.State); err != nil {
		d.log.Warn("note the end", "error", err)
	}
}
