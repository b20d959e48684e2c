// Package swtpmtest runs software TPMs (swtpm, TPM 2.0 Library Specification) for
// tests and scripts: as their maker left them, with or without a certificate of
// their endorsement key, and with a switch for their power.
package swtpmtest

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TPM is a software TPM with its own folder.
type TPM struct {
	Socket string

	dir string
	cmd *exec.Cmd
}

// Start runs a software TPM until the test ends. With a maker it has certificates
// of its endorsement keys. A test without swtpm on the machine is skipped.
func Start(t testing.TB, maker bool) *TPM {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed: run 'make deps'")
	}
	c, err := New(maker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Remove)
	return c
}

// New makes a software TPM and switches it on.
func New(maker bool) (*TPM, error) {
	// A UNIX socket's path may have 107 characters; a test's own folder can be
	// longer.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		return nil, err
	}
	c := &TPM{Socket: filepath.Join(dir, "socket"), dir: dir}
	err = os.Mkdir(c.state(), 0o700)
	if err == nil && maker {
		err = c.manufacture()
	}
	if err == nil {
		err = c.On()
	}
	if err != nil {
		c.Remove()
		return nil, err
	}
	return c, nil
}

func (c *TPM) state() string { return filepath.Join(c.dir, "state") }

// On gives the TPM power and starts it up.
func (c *TPM) On() error {
	c.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+c.state(),
		"--server", "type=unixio,path="+c.Socket, "--flags", "startup-clear,not-need-init")
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	for range 250 {
		// The socket's file is there before swtpm listens on it.
		if conn, err := net.Dial("unix", c.Socket); err == nil {
			return conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("swtpm does not listen")
}

// Off cuts the power.
func (c *TPM) Off() {
	if c.cmd != nil && c.cmd.Process != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		_ = os.Remove(c.Socket)
		c.cmd = nil
	}
}

// Remove switches the TPM off and removes it.
func (c *TPM) Remove() {
	c.Off()
	_ = os.RemoveAll(c.dir)
}

func (c *TPM) manufacture() error {
	ca := filepath.Join(c.dir, "ca")
	if err := os.Mkdir(ca, 0o700); err != nil {
		return err
	}
	localca, options, setup := filepath.Join(c.dir, "localca.conf"), filepath.Join(c.dir, "options.conf"), filepath.Join(c.dir, "setup.conf")
	for name, text := range map[string]string{
		localca: "statedir = " + ca + "\nsigningkey = " + ca + "/key.pem\nissuercert = " + ca + "/cert.pem\ncertserial = " + ca + "/serial\n",
		options: "--platform-manufacturer Ward\n--platform-version 1\n--platform-model test\n",
		setup:   "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = " + localca + "\ncreate_certs_tool_options = " + options + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	cmd := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", c.state(), "--create-ek-cert", "--config", setup, "--pcr-banks", "sha256")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("swtpm_setup: %w: %s", err, out)
	}
	return nil
}

// Makers are the certificates of the TPM's maker: its root and what stands
// between.
func (c *TPM) Makers() ([]*x509.Certificate, error) {
	files, err := filepath.Glob(filepath.Join(c.dir, "ca", "*cert.pem"))
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			all = append(all, cert)
		}
	}
	return all, nil
}
