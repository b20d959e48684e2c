package daemon

import (
	"context"

	changes "ward/internal/agent/integrity/live"
	"ward/internal/agent/integrity/scan"
	"ward/internal/daemon/filewatch"
	"ward/internal/trust/baseline"
)

// assembleNames makes what hides the paths that the release does not name.
func (d *daemon) assembleNames(b *bootState) {
	state := d.config.Paths.State
	if d.unkept != nil {
		state = ""
	}
	b.names = filewatch.Names(state, b.files, d.log.With("role", "names"))
	d.add("names", fastBound, func(ctx context.Context) error { return b.names.Run(ctx, d.alive("names")) })
}

// files is the baseline of the verified release, nil while there is none.
func (b *bootState) files() *baseline.Index {
	if b.attester == nil {
		return nil // its own configuration is being made
	}
	s, _ := b.attester.Latest()
	return s.Baseline
}

// assembleLive makes the role that watches files and programs as they change and run.
func (d *daemon) assembleLive(boot *bootState, scanner *scan.Scanner) *changes.Role {
	r := filewatch.New(d.early.Files, boot.files, changes.Config{
		Missing: d.early.Unwatched, Policy: boot.watched, Hide: boot.names.Hide, Ran: boot.stock.Ran, Scan: scanner.Trigger, Scanned: scanner.Began,
		IMA: func() bool {
			s, _ := boot.attester.Latest()
			return s.Result.IMAEntries > 0
		},
		State: d.config.Paths.State, Recorder: d.recorder, First: boot.told.First, Alive: d.alive("watch"), Log: d.log.With("role", "watch"),
	})
	d.add("watch", fastBound, func(ctx context.Context) error {
		boot.wait(ctx, birthWait)
		return r.Run(ctx)
	})
	return r
}
