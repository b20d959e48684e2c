package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ward/internal/fleet/ingest"
	"ward/internal/lab/bench"
	"ward/internal/lab/disk"
	"ward/internal/lab/image"
	"ward/internal/lab/stage"
	"ward/internal/lab/vm"
	"ward/internal/lab/works"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/volume"
)

// stolenDisk moves the disk and the variable store to a machine with another TPM,
// which its new owner has manufactured like the old one. The volumes stay shut and
// the device is nobody; on a bench the disk shows nothing of what was on it, but
// to the recovery key.
func stolenDisk(ctx context.Context, s *stage.Stage) (Outcome, error) {
	if !s.Used { // so that there is something to steal
		if err := s.GoodBoot(ctx); err != nil {
			return Outcome{}, err
		}
	}
	if s.VM != nil {
		if err := s.PowerOff(ctx); err != nil {
			return Outcome{}, err
		}
		s.VM = nil
	}
	if err := s.Reinstall(ctx); err != nil {
		return Outcome{}, err
	}
	thief, err := moveDisk(ctx, s)
	if err != nil {
		return Outcome{}, fmt.Errorf("move disk: %w", err)
	}
	paper, err := os.ReadFile(filepath.Join(s.Device.Dir, works.RecoveryFile))
	if err != nil {
		return Outcome{}, err
	}
	searched, err := bench.Search(ctx, s.Image, thief.Disk(), string(paper), works.PlantedPatient, stage.DeviceID)
	if err != nil {
		return Outcome{}, err
	}
	s.Line.Say("attack", "disk and variable store in a machine with another TPM; %d MiB searched on the bench: no planted name, no device id, no key", searched>>20)
	mark, begun := s.Fleet.Mark(), time.Now()
	config := s.VMConfig()
	config.Device = thief
	if s.VM, err = s.Start(ctx, config); err != nil {
		return Outcome{}, fmt.Errorf("boot with another TPM: %w", err)
	}
	defer func() { s.VM.Kill(); s.VM = nil }()
	up := time.Since(begun)
	v, err := s.Volumes(ctx)
	if err != nil {
		return Outcome{}, err
	}
	for _, name := range []string{volume.State, volume.Data} {
		if o := v[name]; o.Opened || o.Cause != volume.OtherTPM {
			return Outcome{}, s.Explain(fmt.Errorf("volume %s: %+v; want it closed, %s", name, o, volume.OtherTPM))
		}
	}
	st, err := s.BedsideStatus(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if st.Device == stage.DeviceID || st.Identity.State == "ready" || st.Journal.Error == "" {
		return Outcome{}, fmt.Errorf("it says that it is %s, identity %s, record %+v", st.Device, st.Identity.State, st.Journal)
	}
	for _, code := range []finding.Code{finding.IdentityStateClosed, finding.IdentityDataClosed, finding.IdentityMissing} {
		if !stage.Holds(st.Findings, code) {
			return Outcome{}, fmt.Errorf("its status does not tell %s: %+v", code, st.Findings)
		}
	}
	for _, r := range s.Fleet.Received(mark) {
		if r.Kind == ingest.KindStatus && r.Status.State == presence.Online && !r.Retained {
			return Outcome{}, errors.New("a device with another TPM has connected")
		}
	}
	s.Line.Say("device", "up after %.1f s: state and data closed (%s), no identity, nothing sent", up.Seconds(), volume.OtherTPM)
	return Outcome{Attack: "stolen disk", Seen: "nothing opens (" + string(volume.OtherTPM) + "), no identity, nothing on the bench", After: up}, nil
}

// moveDisk makes a machine with a TPM that was manufactured with the same keys of
// the manufacturer, and puts the stage's disk and variable store into it.
func moveDisk(ctx context.Context, s *stage.Stage) (*vm.Device, error) {
	thief, err := vm.NewDevice(ctx, s.File("thief"), s.DeviceConfig(s.Image))
	if err != nil {
		return nil, err
	}
	if _, err := s.Provision(ctx, thief, "stranger"); err != nil {
		return nil, err
	}
	return thief, errors.Join(disk.CopyFile(thief.Disk(), s.Device.Disk()), disk.CopyFile(thief.Variables(), s.Device.Variables()))
}

// plainVolumes puts plain file systems in the place of the encrypted volumes, as
// somebody does who wants the device to write its data in the open. Nothing of
// them is mounted.
func plainVolumes(ctx context.Context, s *stage.Stage) (Outcome, error) {
	if err := s.Image.NewDisk(ctx, s.Device.Disk(), image.Contents{UKI: s.Image.UKIs[image.Release].Path, ESP: map[string]disk.File{works.ReleaseFile: {Data: s.Manifest, Mode: 0o644}}}); err != nil {
		return Outcome{}, err
	}
	s.Line.Say("attack", "plain file systems in the partitions of the volumes")
	begun := time.Now()
	if err := s.Boot(ctx); err != nil {
		return Outcome{}, fmt.Errorf("boot device: %w", err)
	}
	up := time.Since(begun)
	v, err := s.Volumes(ctx)
	if err != nil {
		return Outcome{}, err
	}
	mounts, err := s.VM.Pull(ctx, "/proc/mounts")
	if err != nil {
		return Outcome{}, err
	}
	if v[volume.State].Cause != volume.Plain || v[volume.Data].Cause != volume.Plain || bytes.Contains(mounts, []byte("ext4")) {
		return Outcome{}, fmt.Errorf("volumes: %+v; mounted:\n%s", v, mounts)
	}
	if _, err := s.BedsideStatus(ctx); err != nil {
		return Outcome{}, err
	}
	return Outcome{Attack: "plain volumes", Seen: "neither is mounted (" + string(volume.Plain) + ")", After: up}, nil
}
