// Package stage is one device with its release, a real broker and the real backend:
// what a drill and the device's tests play on. It boots the device, asks it at the
// bedside, and waits for what the fleet hears of it.
package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ward/internal/fleet/ingest"
	"ward/internal/lab/backend"
	"ward/internal/lab/disk"
	"ward/internal/lab/golden"
	"ward/internal/lab/image"
	"ward/internal/lab/vm"
	"ward/internal/lab/works"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

// DeviceID is the serial number of the lab's device.
const DeviceID = "pump-0001"

// AlertTime bounds how long an alert may take before a drill fails; budgets are
// measured, not tested.
const AlertTime = 60 * time.Second

// Stage is a device with its release, a broker and a fleet backend: what a
// drill plays on.
type Stage struct {
	*works.Works
	Image     *image.Image
	Manifest  []byte
	Device    *vm.Device
	Broker    *backend.Broker
	Registrar *backend.Registrar
	Fleet     *backend.Fleet

	Folder string
	VM     *vm.VM
	Used   bool // the device was up at least once
}

// Drill is one attack on the device, or one change of it, with what must be seen.
type Drill struct {
	Name  string
	Title string
	Demo  bool // played by the demonstration, too
	// Run attacks the device of the stage and returns what the fleet saw. An
	// error means that the attack was not seen as it must be.
	Run func(ctx context.Context, s *Stage) (Outcome, error)
}

// Outcome is what a drill showed: a line of its table.
type Outcome struct {
	Attack string
	Seen   string        // what the fleet saw
	After  time.Duration // from the attack to the fleet's receipt of it
}

// Set builds what is not cached, manufactures a device and starts broker
// and backend. Close takes everything down again.
func Set(ctx context.Context, w *works.Works) (*Stage, error) {
	if err := os.MkdirAll(w.Dir, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(w.Dir, "run-")
	if err != nil {
		return nil, err
	}
	s := &Stage{Works: w, Folder: dir}
	if err := s.set(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stage) set(ctx context.Context) error {
	begun := time.Now()
	var err error
	if s.Image, err = s.Build(ctx); err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	s.Line.Say("build", "image of release %s: Linux %s, root hash %.16s…, in %.1f s", s.Image.Version, s.Image.KernelVersion, s.Image.RootHash, time.Since(begun).Seconds())
	begun = time.Now()
	if s.Manifest, err = s.Release(ctx, s.Image); err != nil {
		return err
	}
	s.Line.Say("release", "manifest signed (%d bytes), in %.1f s", len(s.Manifest), time.Since(begun).Seconds())
	begun = time.Now()
	if s.Device, err = s.Manufacture(ctx, s.Image, s.Manifest, filepath.Join(s.Folder, "device"), DeviceID); err != nil {
		return fmt.Errorf("manufacture device: %w", err)
	}
	s.Line.Say("factory", "TPM made, keys of %s of %s made in it, volumes sealed to it, in %.1f s", DeviceID, works.Tenant, time.Since(begun).Seconds())
	program, err := s.Program(ctx, "wardfleet")
	if err != nil {
		return err
	}
	if s.Broker, err = backend.StartBroker(ctx, s.PKI, backend.BrokerConfig{Dir: filepath.Join(s.Folder, "broker"), Tenant: works.Tenant, Devices: []string{DeviceID}}); err != nil {
		return err
	}
	if err := s.startRegistrar(ctx, program); err != nil {
		return err
	}
	next, err := s.NextImage(ctx, NextText)
	if err != nil {
		return err
	}
	nextManifest, err := s.Release(ctx, next)
	if err = errors.Join(err, os.WriteFile(s.File("next.dsse"), nextManifest, 0o644)); err != nil {
		return err
	}
	released := backend.Released{Devices: s.Devices(), Manifests: []string{s.File("release.dsse"), s.File("next.dsse")}, Baseline: filepath.Join(s.Image.RootTree, golden.BaselineFile), Key: s.File("release.pem")}
	if s.Fleet, err = backend.StartFleet(s.PKI, program, s.Broker.Address(), s.Folder, released); err != nil {
		return err
	}
	s.Line.Say("fleet", "mosquitto on 127.0.0.1:%d (TLS 1.3, client certificates, access list), registrar on :%d, wardfleet listens and asks", s.Broker.Port, s.Registrar.Port)
	return nil
}

func (s *Stage) Devices() string         { return s.File("devices") }
func (s *Stage) File(name string) string { return filepath.Join(s.Folder, name) }

// AK is the file of the device's attestation key, the public part.
func (s *Stage) AK() string { return filepath.Join(s.Folder, "device", works.AKFile) }

// Boot boots the device with the kernel image that lies on its disk and waits
// until its system is up.
func (s *Stage) Boot(ctx context.Context) error {
	m, err := s.Start(ctx, s.VMConfig())
	s.VM = m
	s.Used = s.Used || err == nil
	return err
}

func (s *Stage) VMConfig() vm.Config {
	return vm.Config{Device: s.Device, Firmware: s.Image.Firmware, BrokerPort: s.Broker.Port, RegistrarPort: s.Registrar.Port, Serial: DeviceID}
}

// PutKernel replaces the kernel image on the device's disk.
func (s *Stage) PutKernel(ctx context.Context, file string) error {
	return s.Image.PutESP(ctx, s.Device.Disk(), map[string]disk.File{image.BootFile: {Host: file, Mode: 0o644}})
}

// PowerOff stops the running device in order.
func (s *Stage) PowerOff(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, works.StopTime)
	defer cancel()
	return s.VM.Shutdown(ctx)
}

// Close stops everything and removes the device.
func (s *Stage) Close() {
	if s.VM != nil {
		s.VM.Kill()
	}
	if s.Fleet != nil {
		s.Fleet.Stop()
	}
	if s.Registrar != nil {
		s.Registrar.Stop()
	}
	if s.Broker != nil {
		s.Broker.Stop()
	}
	os.RemoveAll(s.Folder)
}

// Verdict is what a device reports about its boot.
type Verdict struct {
	Tier       string            `json:"verdict"`
	Claims     map[string]string `json:"claims"`
	Events     int               `json:"events"`
	IMAEntries int               `json:"imaEntries"`
	TookMS     float64           `json:"tookMs"`
	TPMMS      float64           `json:"tpmMs"`
	PCRs       map[string]struct {
		State string `json:"state"`
	} `json:"pcrs"`
}

// AwaitVerdict waits for the verdict of a boot.
func (s *Stage) AwaitVerdict(ctx context.Context, mark int) (ingest.Received, Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, AlertTime)
	defer cancel()
	r, err := s.Fleet.Await(ctx, mark, "the verdict on the boot", func(r ingest.Received) bool {
		return r.Kind == ingest.KindEvent && r.Event.Type == event.BootVerdict
	})
	if err != nil {
		return r, Verdict{}, s.Explain(err)
	}
	var v Verdict
	if err := json.Unmarshal(r.Event.Report, &v); err != nil {
		return r, v, fmt.Errorf("read verdict: %w", err)
	}
	return r, v, nil
}

// AwaitAttested waits for what the fleet itself says of the device, from quotes
// that answer its question.
func (s *Stage) AwaitAttested(ctx context.Context, mark int) (ingest.Received, error) {
	return s.Await(ctx, mark, "the fleet's own verdict", func(r ingest.Received) bool {
		return r.Kind == ingest.KindVerdict && r.Verdict.Asked
	})
}

// AwaitBirth waits until the device is connected.
func (s *Stage) AwaitBirth(ctx context.Context, mark int) (ingest.Received, error) {
	return s.Await(ctx, mark, "the device's birth", func(r ingest.Received) bool {
		return r.Kind == ingest.KindStatus && r.Status.State == presence.Online && !r.Retained
	})
}

// AwaitFinding waits for an event or a statement of the fleet with a code.
func (s *Stage) AwaitFinding(ctx context.Context, mark int, code, path string) (ingest.Received, error) {
	return s.Await(ctx, mark, code, func(r ingest.Received) bool {
		f := r.Finding
		if r.Kind == ingest.KindEvent {
			f = r.Event.Finding
		}
		return f != nil && string(f.Code) == code && (path == "" || f.Path == path)
	})
}

// AwaitStranger waits until a program that is in no release was seen to run from a
// folder, by whichever source is first. What leaves the device has a hash in the
// place of the program's name.
func (s *Stage) AwaitStranger(ctx context.Context, mark int, folder string) (ingest.Received, error) {
	return s.Await(ctx, mark, "a strange program in "+folder, func(r ingest.Received) bool {
		f := r.Event.Finding
		return r.Kind == ingest.KindEvent && f != nil && (f.Code == finding.IMAUnknownFile || f.Code == finding.ExecUnknownFile) &&
			strings.HasPrefix(f.Path, folder+"/~")
	})
}

func (s *Stage) Await(ctx context.Context, mark int, what string, fits func(ingest.Received) bool) (ingest.Received, error) {
	ctx, cancel := context.WithTimeout(ctx, AlertTime)
	defer cancel()
	r, err := s.Fleet.Await(ctx, mark, what, fits)
	return r, s.Explain(err)
}

// Explain adds the end of the device's console to an error.
func (s *Stage) Explain(err error) error {
	if err == nil || s.VM == nil {
		return err
	}
	text := s.VM.Console()
	return errors.Join(err, fmt.Errorf("end of the device's console:\n%s", text[max(0, len(text)-3000):]))
}
