package daemon

import (
	"errors"
	"time"

	"ward/internal/agent/identity"
	"ward/internal/agent/identity/idstore"
	"ward/internal/daemon/chip"
	"ward/internal/device/tpm"
)

// assembleIdentity makes the role that enrols and renews. fleetTime is the latest
// moment that the fleet has signed.
func (d *daemon) assembleIdentity(lazy *tpm.Lazy, boot *bootState, fleetTime func() time.Time) *identity.Role {
	p, c := d.config.Paths, d.config.Identity
	who := identity.New(identity.Config{
		State: p.State, Trust: p.Trust, Tenant: d.source.Tenant, Device: d.source.Device,
		Floor: func() time.Time {
			if built, told := boot.builtAt(), fleetTime(); built.After(told) {
				return built
			} else {
				return told
			}
		},
		TPM:       &chip.Keys{Chip: lazy, Store: idstore.Open(p.State), Trust: p.Trust, Approvals: chip.ApprovalsOf(p.Release)},
		Registrar: c.Registrar, ServerName: c.ServerName, SerialFile: c.SerialFile,
		Recorder: d.recorder, Alive: d.alive("identity"), Log: d.log.With("role", "identity"),
	})
	d.add("identity", slowBound, who.Run)
	return who
}

// pin fixes the TPM by the storage root key that manufacture read, so that nobody
// between it and the processor can put another in its place. A device that was
// never manufactured takes the one that it finds.
func (d *daemon) pin(chip *tpm.Lazy) {
	device, err := idstore.Open(d.config.Paths.State).Device()
	if errors.Is(err, idstore.ErrNone) {
		return
	}
	var srk tpm.Key
	if err == nil {
		srk, err = tpm.Blob{Public: device.SRK}.Key()
	}
	if err != nil {
		d.log.Error("pin the TPM", "error", err)
		return
	}
	chip.Pin(srk)
}
