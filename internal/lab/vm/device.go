// Package vm runs virtual devices: QEMU without KVM, OVMF that enforces Secure
// Boot, a software TPM 2.0, an NVMe disk, and a control channel to the init
// inside. A device lives in a directory and can be booted again and again; a
// running one is a VM. Nothing outlives the process that started it.
//
// Sources: QEMU 7.2 documentation, "invocation", "tpm", "nvme"; swtpm(8),
// swtpm_setup(8), swtpm-localca.conf(5).
package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"ward/internal/lab/tool"
)

// A Device is what remains of a virtual device when its power is off: the disk,
// the variable store and the TPM's state.
type Device struct {
	Dir string
}

// Disk is the path of the device's disk image.
func (d *Device) Disk() string { return filepath.Join(d.Dir, "disk.img") }

// Variables is the path of the device's EFI variable store.
func (d *Device) Variables() string { return filepath.Join(d.Dir, "vars.fd") }

// TPMState is the directory of the TPM's state.
func (d *Device) TPMState() string { return filepath.Join(d.Dir, "tpm") }

// EKCertificates is the directory of the TPM's certificates as its maker's
// certificate authority issued them.
func (d *Device) EKCertificates() string { return filepath.Join(d.Dir, "ek") }

// DeviceConfig says of what a new device is made.
type DeviceConfig struct {
	Variables string   // variable store to start from
	CA        string   // directory of the lab's TPM maker, made when missing
	Banks     []string // active PCR banks; sha256 when empty
}

// NewDevice makes a device without a disk in dir: a copy of the variable store
// and a manufactured TPM with EK and platform certificates. The caller writes
// the disk to Disk().
func NewDevice(ctx context.Context, dir string, c DeviceConfig) (*Device, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("make device: %w", err)
	}
	d := &Device{Dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make device: %w", err)
	}
	store, err := os.ReadFile(c.Variables)
	if err != nil {
		return nil, fmt.Errorf("make device: %w", err)
	}
	if err := os.WriteFile(d.Variables(), store, 0o600); err != nil {
		return nil, fmt.Errorf("make device: %w", err)
	}
	if err := d.makeTPM(ctx, c); err != nil {
		return nil, fmt.Errorf("make TPM: %w", err)
	}
	return d, nil
}

// OpenDevice returns a device that NewDevice made before.
func OpenDevice(dir string) (*Device, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open device: %w", err)
	}
	d := &Device{Dir: dir}
	for _, path := range []string{d.Disk(), d.Variables(), d.TPMState()} {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("open device: %w", err)
		}
	}
	return d, nil
}

func (d *Device) makeTPM(ctx context.Context, c DeviceConfig) error {
	if len(c.Banks) == 0 {
		c.Banks = []string{"sha256"}
	}
	config, err := tpmMaker(c.CA)
	if err != nil {
		return err
	}
	for _, dir := range []string{d.TPMState(), d.EKCertificates()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	args := []string{
		"--tpm2", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--overwrite",
		"--tpmstate", d.TPMState(), "--config", config, "--pcr-banks", strings.Join(c.Banks, ","),
		"--write-ek-cert-files", d.EKCertificates(),
	}
	if os.Getuid() == 0 {
		// By default root becomes another user, who could not reach the files.
		me, err := user.Current()
		if err != nil {
			return err
		}
		args = append(args, "--runas", me.Username)
	}
	_, err = tool.Run(ctx, "swtpm_setup", args...)
	return err
}

// tpmMaker writes the configuration of the lab's own TPM maker and returns the
// file for swtpm_setup. The certificate authority itself is made by swtpm's
// local CA at first use.
func tpmMaker(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	localCA, err := tool.Look("swtpm_localca")
	if err != nil {
		return "", err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(in("state"), 0o700); err != nil {
		return "", err
	}
	files := map[string]string{
		"setup.conf": fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n",
			localCA, in("localca.conf"), in("localca.options")),
		"localca.conf": fmt.Sprintf("statedir = %s\nsigningkey = %s\nissuercert = %s\ncertserial = %s\n",
			in("state"), in("state/signkey.pem"), in("state/issuercert.pem"), in("state/certserial")),
		"localca.options": "--platform-manufacturer WardLab\n--platform-version 1\n--platform-model qemu-q35\n",
	}
	for name, text := range files {
		have, err := os.ReadFile(in(name))
		if err == nil && string(have) == text {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return in("setup.conf"), nil
}

// MakerRoots are the certificates of the lab's TPM maker, in PEM: the roots
// that vouch for the EK certificates. They exist once a device was made.
func MakerRoots(ca string) ([]string, error) {
	var out []string
	for _, name := range []string{"state/swtpm-localca-rootca-cert.pem", "state/issuercert.pem"} {
		path := filepath.Join(ca, name)
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("find TPM maker's certificate: %w", err)
		}
		out = append(out, path)
	}
	return out, nil
}
