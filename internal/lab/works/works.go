// Package works builds and manufactures: the image of the virtual reference device
// (package image), its release with what one golden boot taught, and devices with
// a TPM of their own, as a production line makes them (package factory).
package works

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/format/pcr"
	"ward/internal/lab/disk"
	"ward/internal/lab/factory"
	"ward/internal/lab/golden"
	"ward/internal/lab/image"
	"ward/internal/lab/pki"
	"ward/internal/lab/timeline"
	"ward/internal/lab/vm"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

// What the lab's fleet is called.
const (
	Tenant  = "lab"
	Product = "infusion-pump"
	Version = "1.0.0"
	// ReleaseFile is where the manifest lies on the ESP, beside the kernel image.
	ReleaseFile = "ward/release.dsse"
)

// Bounds of a boot without KVM; seen are 17 to 31 s.
const (
	bootTime = 4 * time.Minute
	StopTime = time.Minute
)

// Works is one working folder with its keys, images and devices.
type Works struct {
	Root string // of the module
	Dir  string // .lab below it
	PKI  *pki.Keys
	Line *timeline.Timeline

	Builder *image.Builder
}

// Open opens the lab of the module at root.
func Open(root string, line *timeline.Timeline) (*Works, error) {
	l := &Works{Root: root, Dir: filepath.Join(root, ".lab"), Line: line}
	var err error
	if l.PKI, err = pki.Open(filepath.Join(l.Dir, "keys", "fleet")); err != nil {
		return nil, err
	}
	l.Builder = image.NewBuilder(root, func(s string) { line.Say("build", "%s", s) })
	return l, nil
}

// Build builds the image of the release.
func (l *Works) Build(ctx context.Context) (*image.Image, error) {
	in, err := l.inputs()
	if err != nil {
		return nil, err
	}
	return l.Builder.Build(ctx, in)
}

// CheckReproducible builds the image of the release twice and compares.
func (l *Works) CheckReproducible(ctx context.Context) ([]image.Comparison, error) {
	in, err := l.inputs()
	if err != nil {
		return nil, err
	}
	return l.Builder.CheckReproducible(ctx, in)
}

// inputs are what the release puts into its image.
func (l *Works) inputs() (image.Inputs, error) {
	anchors, err := l.PKI.TrustAnchors()
	if err != nil {
		return image.Inputs{}, err
	}
	return image.Inputs{Version: Version, Trust: anchors, Baseline: golden.Baseline}, nil
}

// Release predicts the boot of an image and returns the signed manifest. What
// does not depend on the kernel image is learned from a golden boot, once for
// each firmware and board.
func (l *Works) Release(ctx context.Context, img *image.Image) ([]byte, error) {
	p, err := l.Profile(ctx, img)
	if err != nil {
		return nil, err
	}
	boot, err := golden.Boot(p, img)
	if err != nil {
		return nil, err
	}
	m, err := golden.Manifest(Product, img, boot, l.PKI.Policy)
	if err != nil {
		return nil, err
	}
	return release.Sign(m, l.PKI.Release)
}

// Profile returns what the image's firmware measures on its board, from the
// cache where there was a golden boot before.
func (l *Works) Profile(ctx context.Context, img *image.Image) (profile.Profile, error) {
	dir, err := golden.Dir(l.Builder.Cache, img)
	if err != nil {
		return profile.Profile{}, err
	}
	p, err := golden.Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		l.Line.Say("release", "learning the firmware from a golden boot (once for each firmware and board)")
		if err := l.goldenBoot(ctx, img, dir); err != nil {
			return profile.Profile{}, fmt.Errorf("learn boot: %w", err)
		}
		p, err = golden.Read(dir)
	}
	return p, err
}

func (l *Works) goldenBoot(ctx context.Context, img *image.Image, dir string) error {
	run, err := os.MkdirTemp(l.Dir, "golden-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(run)
	d, err := vm.NewDevice(ctx, run, l.DeviceConfig(img))
	if err != nil {
		return err
	}
	if err := img.NewDisk(ctx, d.Disk(), image.Contents{UKI: img.UKIs[image.Release].Path}); err != nil {
		return err
	}
	m, err := l.Start(ctx, vm.Config{Device: d, Firmware: img.Firmware})
	if err != nil {
		return err
	}
	defer m.Kill()
	log, measured, err := BootRecord(ctx, m)
	if err != nil {
		return err
	}
	if err := m.Shutdown(ctx); err != nil {
		return err
	}
	return golden.Learn(dir, img, log, measured)
}

// BootRecord reads the event log and the sha256 registers of a running device.
func BootRecord(ctx context.Context, m *vm.VM) ([]byte, pcr.Values, error) {
	log, err := m.Pull(ctx, "/sys/kernel/security/tpm0/binary_bios_measurements")
	if err != nil {
		return nil, nil, err
	}
	measured := make(pcr.Values)
	for i := range pcr.Count {
		b, err := m.Pull(ctx, fmt.Sprintf("/sys/class/tpm/tpm0/pcr-sha256/%d", i))
		if err != nil {
			return nil, nil, err
		}
		var d pcr.Digest
		if err := d.UnmarshalText([]byte(strings.ToLower(strings.TrimSpace(string(b))))); err != nil {
			return nil, nil, err
		}
		measured[i] = d
	}
	return log, measured, nil
}

func (l *Works) DeviceConfig(img *image.Image) vm.DeviceConfig {
	return vm.DeviceConfig{Variables: img.Variables, CA: filepath.Join(l.Dir, "tpm-maker"), Banks: img.Board.TPM.Banks}
}

// Start starts a device and waits until its system is up.
func (l *Works) Start(ctx context.Context, c vm.Config) (*vm.VM, error) {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	m, err := vm.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := m.WaitReady(ctx); err != nil {
		m.Kill()
		return nil, err
	}
	return m, nil
}

// Manufacture makes a device as a production line does: a TPM with its keys and
// its rollback counter, a disk with the release and with encrypted volumes. Its
// certificates it gets from the registrar when it first starts. The public part of
// its attestation key is left beside it, and the recovery key as if on paper.
func (l *Works) Manufacture(ctx context.Context, img *image.Image, manifest []byte, dir, id string) (*vm.Device, error) {
	d, err := vm.NewDevice(ctx, dir, l.DeviceConfig(img))
	if err != nil {
		return nil, err
	}
	made, err := l.Provision(ctx, d, id)
	if err != nil {
		return nil, fmt.Errorf("provision TPM: %w", err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, AKFile), made.ak, 0o644), os.WriteFile(filepath.Join(dir, RecoveryFile), []byte(made.recovery), 0o600)); err != nil {
		return nil, err
	}
	l.Line.Say("factory", "recovery key of %s, printed once, for the safe: %s", id, made.recovery)
	c := image.Contents{
		UKI:   img.UKIs[image.Release].Path,
		ESP:   map[string]disk.File{ReleaseFile: {Data: manifest, Mode: 0o644}},
		State: made.state,
		Data:  map[string]disk.File{PatientFile: {Data: []byte(PlantedPatient + "\n"), Mode: 0o600}},

		Volumes: made.volumes,
	}
	return d, img.NewDisk(ctx, d.Disk(), c)
}

// Files in a device's folder: the public part of its attestation key, and the
// recovery key, which a production line prints and does not keep.
const (
	AKFile       = "ak.pem"
	RecoveryFile = "recovery-key"
)

// provisioned is what manufacture made for one device.
type provisioned struct {
	ak       []byte // PEM: the attestation key's public part
	recovery string
	state    map[string]disk.File // of the state partition
	volumes  map[string]disk.Volume
}

// provision makes what the TPM and the identity store hold, and seals the keys of
// the volumes.
func (l *Works) Provision(ctx context.Context, d *vm.Device, id string) (provisioned, error) {
	socket, stop, err := vm.ServeTPM(ctx, d)
	if err != nil {
		return provisioned{}, err
	}
	defer stop()
	t, err := tpm.Open(socket)
	if err != nil {
		return provisioned{}, err
	}
	defer t.Close()
	var p provisioned
	if p.state, p.ak, err = factory.Identity(ctx, t, l.PKI, Tenant, id, d.Dir); err != nil {
		return provisioned{}, err
	}
	p.volumes, p.recovery, err = l.sealVolumes(ctx, t)
	return p, err
}

// Program compiles a command of this module for the host.
func (l *Works) Program(ctx context.Context, name string) (string, error) {
	out := filepath.Join(l.Dir, "bin", name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", out, "./cmd/"+name)
	cmd.Dir = l.Root
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile %s: %w: %s", name, err, bytes.TrimSpace(b))
	}
	return out, nil
}

// GuestProgram compiles a program that runs inside the virtual device only.
func (l *Works) GuestProgram(ctx context.Context, name string) ([]byte, error) {
	out := filepath.Join(l.Dir, "bin", name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./board/qemu-x86_64/guest/"+name)
	cmd.Dir = l.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile %s: %w: %s", name, err, b)
	}
	return os.ReadFile(out)
}

// ModuleRoot is the folder of the module that dir lies in.
func ModuleRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		b, err := fs.ReadFile(os.DirFS(at), "go.mod")
		if err == nil && strings.HasPrefix(string(b), "module ward\n") {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("find the module: no go.mod of module ward above %s: run it in a clone of the repository", dir)
		}
	}
}
