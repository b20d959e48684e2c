package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"ward/internal/lab/pki"
)

// Registrar is a running "wardfleet registrar": the real backend program, from
// which devices get their certificates.
type Registrar struct {
	Port int
	cmd  *exec.Cmd
	log  *boundedBuffer
	done chan struct{}
}

// RegistrarConfig says whom the registrar gives certificates.
type RegistrarConfig struct {
	Tenant    string
	Dir       string        // a folder for the list of serial numbers and for what it keeps
	Devices   string        // the register of devices, which the fleet's verifier reads
	Makers    string        // folder of the TPM makers' certificates
	PolicyKey string        // file of the policy key's public part
	Serials   []string      // serial numbers of the manufactured devices
	Lifetime  time.Duration // of certificates; zero: the program's own
}

// StartRegistrar starts the registrar on a free port of 127.0.0.1, with the lab's
// fleet authority as the issuing one, and waits until it accepts connections.
func StartRegistrar(ctx context.Context, keys *pki.Keys, program string, c RegistrarConfig) (*Registrar, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	serials := filepath.Join(c.Dir, "serials")
	var list []byte
	for _, s := range c.Serials {
		list = append(list, s+"\n"...)
	}
	if err := errors.Join(os.MkdirAll(c.Dir, 0o755), os.WriteFile(serials, list, 0o644)); err != nil {
		return nil, fmt.Errorf("start registrar: %w", err)
	}
	r := &Registrar{Port: port, log: newBoundedBuffer(1 << 20), done: make(chan struct{})}
	args := []string{
		"registrar", "--listen", r.Address(), "--tenant", c.Tenant,
		"--cert", keys.File("registrar.crt"), "--key", keys.File("registrar.key"),
		"--ca-cert", keys.File("fleet-ca.crt"), "--ca-key", keys.File("fleet-ca.key"),
		"--tpm-makers", c.Makers, "--policy-key", c.PolicyKey, "--serials", serials, "--devices", c.Devices,
	}
	if c.Lifetime != 0 {
		args = append(args, "--lifetime", c.Lifetime.String())
	}
	r.cmd = exec.Command(program, args...)
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start registrar: %w", err)
	}
	go func() { _ = r.cmd.Wait(); close(r.done) }()
	for {
		conn, err := net.DialTimeout("tcp", r.Address(), time.Second)
		if err == nil {
			return r, conn.Close()
		}
		select {
		case <-ctx.Done():
			r.Stop()
			return nil, ctx.Err()
		case <-r.done:
			return nil, fmt.Errorf("start registrar: it ended at once: %s", r.log.lastLine())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Address is the registrar's host and port.
func (r *Registrar) Address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Port))
}

// Log is what the registrar printed, its newest part.
func (r *Registrar) Log() string { return r.log.String() }

// Stop ends the registrar and waits for it.
func (r *Registrar) Stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(5 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.done
	}
}
