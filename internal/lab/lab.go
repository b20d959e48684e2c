// Package lab is the whole story on one machine: it builds the virtual
// reference device (package image), learns its boot, signs its release,
// manufactures it with a TPM of its own, boots it in QEMU (package vm) against
// a real broker and the real backend, and attacks it. Nothing of it is shipped;
// every address it uses is on the loopback interface.
package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/lab/disk"
	"ward/internal/lab/image"
	"ward/internal/lab/vm"
	"ward/internal/trust/baseline"
	"ward/internal/trust/release"
)

// What the lab's fleet is called.
const (
	Tenant  = "lab"
	Product = "infusion-pump"
	Version = "1.0.0"
	// releaseFile is where the manifest lies on the ESP, beside the kernel image.
	releaseFile = "ward/release.dsse"
	// baselineFile is where the file baseline lies in the root file system.
	baselineFile = "/usr/lib/ward/baseline"
)

// Bounds of a boot without KVM; seen are 17 to 31 s.
const (
	bootTime = 4 * time.Minute
	stopTime = time.Minute
)

// Lab is one working folder with its keys, images and devices.
type Lab struct {
	Root string // of the module
	Dir  string // .lab below it
	PKI  *PKI
	Line *Timeline

	builder *image.Builder
}

// Open opens the lab of the module at root.
func Open(root string, line *Timeline) (*Lab, error) {
	l := &Lab{Root: root, Dir: filepath.Join(root, ".lab"), Line: line}
	var err error
	if l.PKI, err = OpenPKI(filepath.Join(l.Dir, "keys", "fleet")); err != nil {
		return nil, err
	}
	l.builder = image.NewBuilder(root, func(s string) { line.Say("build", "%s", s) })
	return l, nil
}

// Build builds the image of the release.
func (l *Lab) Build(ctx context.Context) (*image.Image, error) {
	in, err := l.inputs()
	if err != nil {
		return nil, err
	}
	return l.builder.Build(ctx, in)
}

// CheckReproducible builds the image of the release twice and compares.
func (l *Lab) CheckReproducible(ctx context.Context) ([]image.Comparison, error) {
	in, err := l.inputs()
	if err != nil {
		return nil, err
	}
	return l.builder.CheckReproducible(ctx, in)
}

// inputs are what the release puts into its image.
func (l *Lab) inputs() (image.Inputs, error) {
	anchors, err := l.PKI.TrustAnchors()
	if err != nil {
		return image.Inputs{}, err
	}
	return image.Inputs{Version: Version, Trust: anchors, Baseline: fileBaseline}, nil
}

// fileBaseline makes the file baseline of a staged root tree.
func fileBaseline(tree string) ([]byte, error) {
	var b bytes.Buffer
	if _, err := baseline.Build(&b, os.DirFS(tree), baseline.Options{Exclude: []string{baselineFile}}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Release predicts the boot of an image and returns the signed manifest. What
// does not depend on the kernel image is learned from a golden boot, once for
// each firmware and board.
func (l *Lab) Release(ctx context.Context, img *image.Image) ([]byte, error) {
	log, measured, err := l.learned(ctx, img)
	if err != nil {
		return nil, fmt.Errorf("learn boot: %w", err)
	}
	parsed, err := eventlog.Parse(log)
	if err != nil {
		return nil, fmt.Errorf("learn boot: %w", err)
	}
	rules := make(map[int]release.Rule)
	for _, p := range img.Board.PCRs {
		rules[p.Index] = release.Rule{Mode: release.Mode(p.Mode), Reason: p.Reason}
	}
	profile, err := release.Learn(parsed, measured, rules)
	if err != nil {
		return nil, err
	}
	boot, err := Predict(profile, img.UKIs[image.Release])
	if err != nil {
		return nil, err
	}
	list, err := os.ReadFile(filepath.Join(img.RootTree, baselineFile))
	if err != nil {
		return nil, fmt.Errorf("read file baseline: %w", err)
	}
	m := release.Manifest{
		Schema: release.SchemaVersion, Product: Product, Board: img.Board.Name, Version: img.Version, RollbackIndex: 1,
		BuildTime: disk.Epoch.UTC(), Boot: boot,
		Files: release.Files{Digest: sha256.Sum256(list), Path: baselineFile},
	}
	if err := m.Files.VerityRootHash.UnmarshalText([]byte(img.RootHash)); err != nil {
		return nil, fmt.Errorf("read dm-verity root hash: %w", err)
	}
	return release.Sign(m, l.PKI.Release)
}

// Predict computes the boot of a kernel image from a profile.
func Predict(profile release.Boot, u image.UKI) (release.Boot, error) {
	b, err := os.ReadFile(u.Path)
	if err != nil {
		return release.Boot{}, fmt.Errorf("read kernel image: %w", err)
	}
	return release.Predict(profile, b)
}

// learned returns the event log and the registers of a golden boot on the
// image's firmware and board, from the cache where there was one before.
func (l *Lab) learned(ctx context.Context, img *image.Image) ([]byte, pcr.Values, error) {
	key := sha256.New()
	for _, file := range []string{img.Firmware, img.Variables, filepath.Join(img.Board.Dir, "board.toml")} {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(b)
		key.Write(sum[:])
	}
	dir := filepath.Join(l.builder.Cache, "golden-"+hex.EncodeToString(key.Sum(nil))[:24])
	if _, err := os.Stat(dir); err != nil {
		l.Line.Say("release", "learning the firmware from a golden boot (once for each firmware and board)")
		if err := l.goldenBoot(ctx, img, dir); err != nil {
			return nil, nil, err
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "eventlog"))
	if err != nil {
		return nil, nil, err
	}
	var measured pcr.Values
	b, err := os.ReadFile(filepath.Join(dir, "pcrs.json"))
	if err != nil {
		return nil, nil, err
	}
	return log, measured, json.Unmarshal(b, &measured)
}

func (l *Lab) goldenBoot(ctx context.Context, img *image.Image, dir string) error {
	run, err := os.MkdirTemp(l.Dir, "golden-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(run)
	d, err := vm.NewDevice(ctx, run, l.deviceConfig(img))
	if err != nil {
		return err
	}
	if err := img.NewDisk(ctx, d.Disk(), image.Contents{UKI: img.UKIs[image.Release].Path}); err != nil {
		return err
	}
	m, err := l.boot(ctx, vm.Config{Device: d, Firmware: img.Firmware})
	if err != nil {
		return err
	}
	defer m.Kill()
	log, measured, err := bootRecord(ctx, m)
	if err != nil {
		return err
	}
	if err := m.Shutdown(ctx); err != nil {
		return err
	}
	values, err := json.Marshal(measured)
	if err != nil {
		return err
	}
	fresh := filepath.Join(run, "golden")
	if err := os.MkdirAll(fresh, 0o755); err != nil {
		return err
	}
	for name, b := range map[string][]byte{"eventlog": log, "pcrs.json": values} {
		if err := os.WriteFile(filepath.Join(fresh, name), b, 0o644); err != nil {
			return err
		}
	}
	return os.Rename(fresh, dir)
}

// bootRecord reads the event log and the sha256 registers of a running device.
func bootRecord(ctx context.Context, m *vm.VM) ([]byte, pcr.Values, error) {
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

func (l *Lab) deviceConfig(img *image.Image) vm.DeviceConfig {
	return vm.DeviceConfig{Variables: img.Variables, CA: filepath.Join(l.Dir, "tpm-maker"), Banks: img.Board.TPM.Banks}
}

// boot starts a device and waits until its system is up.
func (l *Lab) boot(ctx context.Context, c vm.Config) (*vm.VM, error) {
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

// Manufacture makes a device as a production line does: a TPM with its keys, a
// certificate for the reporting key, a disk with the release.
func (l *Lab) Manufacture(ctx context.Context, img *image.Image, manifest []byte, dir, id string) (*vm.Device, error) {
	d, err := vm.NewDevice(ctx, dir, l.deviceConfig(img))
	if err != nil {
		return nil, err
	}
	cert, err := l.provision(ctx, d, id)
	if err != nil {
		return nil, fmt.Errorf("provision TPM: %w", err)
	}
	c := image.Contents{
		UKI:   img.UKIs[image.Release].Path,
		ESP:   map[string]disk.File{releaseFile: {Data: manifest, Mode: 0o644}},
		State: map[string]disk.File{"identity/reporting.crt": {Data: cert, Mode: 0o644}},
	}
	return d, img.NewDisk(ctx, d.Disk(), c)
}

func (l *Lab) provision(ctx context.Context, d *vm.Device, id string) ([]byte, error) {
	socket, stop, err := vm.ServeTPM(ctx, d)
	if err != nil {
		return nil, err
	}
	defer stop()
	t, err := tpm.Open(socket)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	keys, err := t.ProvisionKeys(ctx)
	if err != nil {
		return nil, err
	}
	return l.PKI.IssueDevice(keys.Reporting.Public, Tenant, id)
}

// Program compiles a command of this module for the host.
func (l *Lab) Program(ctx context.Context, name string) (string, error) {
	out := filepath.Join(l.Dir, "bin", name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", out, "./cmd/"+name)
	cmd.Dir = l.Root
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile %s: %w: %s", name, err, bytes.TrimSpace(b))
	}
	return out, nil
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
