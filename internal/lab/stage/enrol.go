package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ward/internal/lab/backend"
	"ward/internal/lab/pki"
	"ward/internal/lab/works"
)

// startRegistrar starts the registrar, which registers the device when it enrols,
// and writes what the fleet judges it by: the release, and who signs releases.
func (s *Stage) startRegistrar(ctx context.Context, wardfleet string) error {
	makers := s.File("makers")
	err := errors.Join(os.MkdirAll(makers, 0o755), os.MkdirAll(s.Devices(), 0o755), os.WriteFile(s.File("release.dsse"), s.Manifest, 0o644))
	for name, key := range map[string]any{"release.pem": s.PKI.Release.Public(), "policy.pem": s.PKI.Policy.Public()} {
		text, encodeErr := pki.PublicPEM(key)
		err = errors.Join(err, encodeErr, os.WriteFile(s.File(name), text, 0o644))
	}
	for _, name := range []string{"swtpm-localca-rootca-cert.pem", "issuercert.pem"} {
		cert, readErr := os.ReadFile(filepath.Join(s.Dir, "tpm-maker", "state", name))
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(makers, name), cert, 0o644))
	}
	if err != nil {
		return fmt.Errorf("set up registrar: %w", err)
	}
	s.Registrar, err = backend.StartRegistrar(ctx, s.PKI, wardfleet, backend.RegistrarConfig{
		Tenant: works.Tenant, Dir: s.File("registrar"), Devices: s.Devices(), Makers: makers, PolicyKey: s.File("policy.pem"), Serials: []string{DeviceID},
	})
	return err
}
