package daemon

import (
	"context"
	"errors"
	"os"

	"ward/internal/daemon/bedside"
	policy "ward/internal/trust/watch"
)

// assembleAccess makes the roles about who works on the device and what is plugged in.
func (d *daemon) assembleAccess(boot *bootState) *bedside.Bedside {
	b := bedside.New(bedside.Config{
		State: d.config.Paths.State, Boot: d.boot, SysFS: os.DirFS(d.config.Paths.SysFS), Policy: boot.watched, First: boot.told.First, Hint: boot.posture.Look,
		Hide: boot.names.Mark, Kept: d.kept, Audit: d.early.Audit, Unheard: d.early.Unheard,
		Recorder: d.recorder, Alive: d.alive, Log: d.log,
	})
	for _, r := range b.Roles(func(ctx context.Context) { boot.wait(ctx, birthWait) }) {
		d.add(r.Name, slowBound, r.Run)
	}
	return b
}

// watched is how the release wants the device to be watched; the default while none is
// verified.
func (b *bootState) watched() policy.Policy {
	if s, _ := b.attester.Latest(); s.Release != nil {
		return s.Release.Manifest().Watch.Complete()
	}
	return policy.Default()
}

// kept says why the record is not durable now; nil: it is.
func (d *daemon) kept() error {
	if d.unkept != nil {
		return d.unkept
	}
	if e := d.journal.Status().Error; e != "" {
		return errors.New(e)
	}
	return nil
}
