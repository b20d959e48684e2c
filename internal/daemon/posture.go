package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ward/internal/agent/localapi"
	watcher "ward/internal/agent/posture"
	device "ward/internal/device/posture"
	"ward/internal/device/posture/system"
	"ward/internal/device/tpm"
	"ward/internal/trust/posture"
)

// verdictWait is how long the first look waits for the verdict on the boot: the
// release says what to expect.
const verdictWait = time.Minute

// askTPM bounds the question who made the TPM.
const askTPM = 3 * time.Second

// assemblePosture makes the role that watches the device's state beside its files.
func (d *daemon) assemblePosture(chip *tpm.Lazy, boot *bootState) {
	mark := d.hider(filepath.Join(d.config.Paths.State, "salt"))
	collectors := append(device.Kernel(), device.TPM(makerOf(chip))...)
	collectors = append(collectors, system.Collectors(system.Config{
		Tables: d.early.Tables, TablesError: d.early.Mapper, Policy: boot.expected,
		Name: system.ReleasedNames(boot.expected, func(name string) string { return "/" + mark(name) }),
	})...)
	boot.posture = watcher.New(watcher.Config{
		Root: os.DirFS("/"), Collectors: collectors, Policy: boot.expected,
		Start: func(ctx context.Context) error {
			boot.wait(ctx, verdictWait)
			return ctx.Err()
		},
		Hide:     boot.names.Hide,
		Recorder: d.recorder, Alive: d.alive("posture"), Log: d.log.With("role", "posture"),
	})
	d.add("posture", slowBound, boot.posture.Run)
}

// expected is the posture that the verified release expects, nil without one.
func (b *bootState) expected() *posture.Policy {
	if s, _ := b.attester.Latest(); s.Release != nil {
		return s.Release.Manifest().Posture
	}
	return nil
}

// claims are those of the latest look.
func (b *bootState) claims() []posture.Claim {
	if b.posture == nil {
		return nil
	}
	return b.posture.Claims()
}

// look asks for a look at the posture.
func (b *bootState) look(reason string) {
	if b.posture != nil {
		b.posture.Look(reason)
	}
}

// tellPosture tells the posture on the local socket.
func (b *bootState) tellPosture() localapi.Action {
	return localapi.TellPosture(func() localapi.Posture {
		release, _ := b.describe()
		p := localapi.Posture{Release: release, Policy: b.expected(), Claims: b.claims(), At: b.posture.Looked()}
		if p.Claims == nil {
			p.Claims = []posture.Claim{}
		}
		return p
	})
}

// makerOf asks the TPM who made it, until it has answered once.
func makerOf(chip *tpm.Lazy) func() (device.Chip, error) {
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
