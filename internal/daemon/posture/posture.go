// Package posture puts together what wardd reads of its device's state beside its
// files: the collectors of kernel, TPM and running system, the role that looks at
// them, the release's policy, and what of it is told on the local socket
// (docs/posture.md).
package posture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"ward/internal/agent/attester"
	"ward/internal/agent/localapi"
	watcher "ward/internal/agent/posture"
	device "ward/internal/device/posture"
	"ward/internal/device/posture/system"
	"ward/internal/device/tpm"
	"ward/internal/trust/posture"
)

const (
	// verdictWait is how long the first look waits for the verdict on the boot: the
	// release says what to expect.
	verdictWait = time.Minute
	// askTPM bounds the question who made the TPM.
	askTPM = 3 * time.Second
)

// Boot is what was found of the boot.
type Boot interface {
	Latest() (attester.Snapshot, bool)
	Judged(ctx context.Context) (attester.Snapshot, error)
}

// Maker asks the TPM who made it.
type Maker interface {
	Maker(ctx context.Context) (tpm.Maker, error)
}

// Config of the part.
type Config struct {
	Root     fs.FS // the device's "/"
	Boot     Boot
	TPM      Maker
	System   system.Config            // its policy and names are set here
	Hide     func(path string) string // a path as it may leave the device
	Mark     func(text string) string // stands for a text that stays on the device
	Recorder watcher.Recorder
	Alive    func()
	Log      *slog.Logger
}

// Part is the role with what others ask of it.
type Part struct {
	*watcher.Watch
	boot Boot
	mark func(string) string
}

// New makes the part; Run does its work.
func New(c Config) *Part {
	p := &Part{boot: c.Boot, mark: c.Mark}
	c.System.Policy = p.Expected
	c.System.Name = system.ReleasedNames(p.Expected, func(name string) string { return "/" + c.Mark(name) })
	collectors := append(device.Kernel(), device.TPM(makerOf(c.TPM))...)
	p.Watch = watcher.New(watcher.Config{
		Root: c.Root, Collectors: append(collectors, system.Collectors(c.System)...), Policy: p.Expected, Hide: c.Hide,
		Start: p.judged, Recorder: c.Recorder, Alive: c.Alive, Log: c.Log,
	})
	return p
}

// Claims are those of the latest look as they may leave the device; none where
// nobody looks.
func (p *Part) Claims() []posture.Claim {
	if p == nil {
		return nil
	}
	return p.Watch.Claims()
}

// judged waits for the verdict on the boot, and not for ever.
func (p *Part) judged(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, verdictWait)
	defer cancel()
	_, _ = p.boot.Judged(limited)
	return ctx.Err()
}

// Expected is the posture that the verified release expects, nil without one.
func (p *Part) Expected() *posture.Policy {
	if s, _ := p.boot.Latest(); s.Release != nil {
		return s.Release.Manifest().Posture
	}
	return nil
}

// Tell tells the posture on the local socket; release is what is known of it.
func (p *Part) Tell(release func() localapi.Release) localapi.Action {
	return localapi.TellPosture(func() localapi.Posture {
		all := localapi.Posture{Release: release(), Policy: p.Expected(), Claims: p.Claims(), At: p.Looked()}
		if all.Claims == nil {
			all.Claims = []posture.Claim{}
		}
		return all
	})
}

// makerOf asks the TPM who made it, until it has answered once.
func makerOf(chip Maker) func() (device.Chip, error) {
	var asking sync.Mutex
	var known *device.Chip
	return func() (device.Chip, error) {
		asking.Lock()
		defer asking.Unlock()
		if known != nil {
			return *known, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), askTPM)
		defer cancel()
		m, err := chip.Maker(ctx)
		switch {
		case errors.Is(err, tpm.ErrAbsent):
			return device.Chip{}, fmt.Errorf("%w: %w", err, fs.ErrNotExist)
		case err != nil:
			return device.Chip{}, err
		}
		known = &device.Chip{Maker: m.Name, Firmware: m.Firmware}
		return *known, nil
	}
}
