package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"ward/internal/daemon/bedside"
	"ward/internal/device/statefile"
	policy "ward/internal/trust/watch"
)

// assembleAccess makes the roles about who works on the device and what is plugged in.
func (d *daemon) assembleAccess(boot *bootState) *bedside.Bedside {
	b := bedside.New(bedside.Config{
		State: d.config.Paths.State, Boot: d.boot, SysFS: os.DirFS(d.config.Paths.SysFS), Policy: boot.watched, First: boot.told.First, Hint: boot.look,
		Hide: d.hider(filepath.Join(d.config.Paths.State, "salt")), Kept: d.kept, Audit: d.early.Audit, Unheard: d.early.Unheard,
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

// hider gives a text a form that may leave the device: the same text has the same form
// on this device, and another on others. The salt is made at the first start; where it
// cannot be kept, it lasts as long as the daemon.
func (d *daemon) hider(file string) func(text string) string {
	salt, err := statefile.Read(file)
	if err != nil || len(salt) < sha256.Size {
		salt = make([]byte, sha256.Size)
		_, _ = rand.Read(salt) // it never fails
		if err := statefile.Write(file, salt); err != nil {
			d.log.Warn("keep the salt of hidden names", "error", err)
		}
	}
	return func(text string) string {
		h := sha256.New()
		h.Write(salt)
		h.Write([]byte(text))
		return "~" + hex.EncodeToString(h.Sum(nil)[:6])
	}
}
