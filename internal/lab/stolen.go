package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ward/internal/agent/localapi"
	"ward/internal/fleet/ingest"
	"ward/internal/lab/bench"
	"ward/internal/lab/disk"
	"ward/internal/lab/image"
	"ward/internal/lab/vm"
	"ward/internal/lab/works"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/volume"
)

// volumeReport is where the early boot of the device reports.
const volumeReport = "/run/ward/volumes"

// volumes reads what the early boot of the running device reported.
func (s *Stage) volumes(ctx context.Context) (map[string]volume.Outcome, error) {
	text, err := s.vm.Pull(ctx, volumeReport)
	if err != nil {
		return nil, fmt.Errorf("read report on volumes: %w", err)
	}
	all, err := volume.ParseReport(text)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]volume.Outcome)
	for _, o := range all {
		byName[o.Name] = o
	}
	return byName, nil
}

// dataClosed wants the state volume open, the data volume closed for a cause, and
// the fleet told.
func (s *Stage) dataClosed(ctx context.Context, mark int, cause volume.Cause) error {
	v, err := s.volumes(ctx)
	if err != nil {
		return err
	}
	if !v[volume.State].Opened || v[volume.Data].Opened || v[volume.Data].Cause != cause {
		return s.explain(fmt.Errorf("volumes: %+v; want state open and data closed, %s", v, cause))
	}
	r, err := s.AwaitFinding(ctx, mark, string(finding.IdentityDataClosed), "")
	if err != nil {
		return err
	}
	s.Line.Say("fleet", "%s: %s: %s", r.Device, r.Event.Finding.Code, r.Event.Finding.Detail)
	return nil
}

// stolenDisk moves the disk and the variable store to a machine with another TPM,
// which its new owner has manufactured like the old one. The volumes stay shut and
// the device is nobody; on a bench the disk shows nothing of what was on it, but
// to the recovery key.
func stolenDisk(ctx context.Context, s *Stage) (Outcome, error) {
	if !s.used { // so that there is something to steal
		if err := s.goodBoot(ctx); err != nil {
			return Outcome{}, err
		}
	}
	if s.vm != nil {
		if err := s.PowerOff(ctx); err != nil {
			return Outcome{}, err
		}
		s.vm = nil
	}
	if err := s.reinstall(ctx); err != nil {
		return Outcome{}, err
	}
	thief, err := s.moveDisk(ctx)
	if err != nil {
		return Outcome{}, fmt.Errorf("move disk: %w", err)
	}
	paper, err := os.ReadFile(filepath.Join(s.Device.Dir, works.RecoveryFile))
	if err != nil {
		return Outcome{}, err
	}
	searched, err := bench.Search(ctx, s.Image, thief.Disk(), string(paper), works.PlantedPatient, DeviceID)
	if err != nil {
		return Outcome{}, err
	}
	s.Line.Say("attack", "disk and variable store in a machine with another TPM; %d MiB searched on the bench: no planted name, no device id, no key", searched>>20)
	mark, begun := s.Fleet.Mark(), time.Now()
	config := s.vmConfig()
	config.Device = thief
	if s.vm, err = s.Start(ctx, config); err != nil {
		return Outcome{}, fmt.Errorf("boot with another TPM: %w", err)
	}
	defer func() { s.vm.Kill(); s.vm = nil }()
	up := time.Since(begun)
	v, err := s.volumes(ctx)
	if err != nil {
		return Outcome{}, err
	}
	for _, name := range []string{volume.State, volume.Data} {
		if o := v[name]; o.Opened || o.Cause != volume.OtherTPM {
			return Outcome{}, s.explain(fmt.Errorf("volume %s: %+v; want it closed, %s", name, o, volume.OtherTPM))
		}
	}
	st, err := s.bedsideStatus(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if st.Device == DeviceID || st.Identity.State == "ready" || st.Journal.Error == "" {
		return Outcome{}, fmt.Errorf("it says that it is %s, identity %s, record %+v", st.Device, st.Identity.State, st.Journal)
	}
	for _, code := range []finding.Code{finding.IdentityStateClosed, finding.IdentityDataClosed, finding.IdentityMissing} {
		if !holds(st.Findings, code) {
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

func holds(all []localapi.Condition, code finding.Code) bool {
	for _, f := range all {
		if f.Code == code {
			return true
		}
	}
	return false
}

// reinstall puts the release's kernel image and manifest on the disk, whatever a
// drill before has put there.
func (s *Stage) reinstall(ctx context.Context) error {
	return s.Image.PutESP(ctx, s.Device.Disk(), map[string]disk.File{
		image.BootFile:    {Host: s.Image.UKIs[image.Release].Path, Mode: 0o644},
		works.ReleaseFile: {Data: s.Manifest, Mode: 0o644},
	})
}

// moveDisk makes a machine with a TPM that was manufactured with the same keys of
// the manufacturer, and puts the stage's disk and variable store into it.
func (s *Stage) moveDisk(ctx context.Context) (*vm.Device, error) {
	thief, err := vm.NewDevice(ctx, s.file("thief"), s.DeviceConfig(s.Image))
	if err != nil {
		return nil, err
	}
	if _, err := s.Provision(ctx, thief, "stranger"); err != nil {
		return nil, err
	}
	return thief, errors.Join(disk.CopyFile(thief.Disk(), s.Device.Disk()), disk.CopyFile(thief.Variables(), s.Device.Variables()))
}

// bedsideStatus is what wardctl tells on the running device.
func (s *Stage) bedsideStatus(ctx context.Context) (localapi.Status, error) {
	var st localapi.Status
	ctx, cancel := context.WithTimeout(ctx, alertTime)
	defer cancel()
	for {
		r, err := s.vm.Run(ctx, "/usr/bin/wardctl", "status", "--json")
		if err != nil {
			return st, err
		}
		// The daemon may be starting, and its conditions follow its record.
		if err := json.Unmarshal(r.Stdout, &st); err == nil && holds(st.Findings, finding.IdentityMissing) {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, fmt.Errorf("read status: %s%s", r.Stdout, r.Stderr)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// plainVolumes puts plain file systems in the place of the encrypted volumes, as
// somebody does who wants the device to write its data in the open. Nothing of
// them is mounted.
func plainVolumes(ctx context.Context, s *Stage) (Outcome, error) {
	if err := s.Image.NewDisk(ctx, s.Device.Disk(), image.Contents{UKI: s.Image.UKIs[image.Release].Path, ESP: map[string]disk.File{works.ReleaseFile: {Data: s.Manifest, Mode: 0o644}}}); err != nil {
		return Outcome{}, err
	}
	s.Line.Say("attack", "plain file systems in the partitions of the volumes")
	begun := time.Now()
	if err := s.Boot(ctx); err != nil {
		return Outcome{}, fmt.Errorf("boot device: %w", err)
	}
	up := time.Since(begun)
	v, err := s.volumes(ctx)
	if err != nil {
		return Outcome{}, err
	}
	mounts, err := s.vm.Pull(ctx, "/proc/mounts")
	if err != nil {
		return Outcome{}, err
	}
	if v[volume.State].Cause != volume.Plain || v[volume.Data].Cause != volume.Plain || bytes.Contains(mounts, []byte("ext4")) {
		return Outcome{}, fmt.Errorf("volumes: %+v; mounted:\n%s", v, mounts)
	}
	if _, err := s.bedsideStatus(ctx); err != nil {
		return Outcome{}, err
	}
	return Outcome{Attack: "plain volumes", Seen: "neither is mounted (" + string(volume.Plain) + ")", After: up}, nil
}
