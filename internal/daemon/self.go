package daemon

import (
	"context"
	"fmt"
	"path/filepath"

	"ward/internal/agent/self"
	"ward/internal/device/anchors"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// unitFiles are where systemd finds the daemon's unit; a file in the second place
// is in force before one in the first.
var unitFiles = []string{"/usr/lib/systemd/system/wardd.service", "/etc/systemd/system/wardd.service"}

// assembleSelf makes the role that watches the daemon itself.
func (d *daemon) assembleSelf(boot *bootState) {
	files := []self.File{{Path: d.config.Paths.Release, Genuine: d.genuine}}
	for _, f := range append(unitFiles, d.configFile) {
		if f != "" {
			files = append(files, self.File{Path: f})
		}
	}
	role := self.New(self.Config{
		Release: covered{boot.attester}, Files: files, Recorder: d.recorder, Alive: d.alive("self"), Log: d.log.With("role", "self"),
	})
	d.add("self", slowBound, role.Run)
}

// genuine says whether a manifest is one that the release keys signed: an update
// puts it there for the next boot.
func (d *daemon) genuine(manifest []byte) bool {
	keys, err := anchors.Keys(filepath.Join(d.config.Paths.Trust, "release"))
	if err != nil {
		return false
	}
	_, err = release.Open(manifest, keys, max(d.config.ReleaseThreshold, 1))
	return err == nil
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
