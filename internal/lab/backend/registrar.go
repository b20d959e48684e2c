package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ward/internal/lab/pki"
)

// Registrar is a running "wardfleet registrar": the real backend program, from
// which devices get their certificates.
type Registrar struct{ server }

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
	r := &Registrar{server{Port: port}}
	args := []string{
		"registrar", "--listen", r.Address(), "--tenant", c.Tenant,
		"--cert", keys.File("registrar.crt"), "--key", keys.File("registrar.key"),
		"--ca-cert", keys.File("fleet-ca.crt"), "--ca-key", keys.File("fleet-ca.key"),
		"--tpm-makers", c.Makers, "--policy-key", c.PolicyKey, "--serials", serials, "--devices", c.Devices,
	}
	if c.Lifetime != 0 {
		args = append(args, "--lifetime", c.Lifetime.String())
	}
	if err := r.start(ctx, "registrar", program, args...); err != nil {
		return nil, err
	}
	return r, nil
}
