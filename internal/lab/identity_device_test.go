//go:build device

package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/lab/control"
	"ward/internal/lab/stage"
	"ward/internal/lab/works"
	"ward/internal/trust/finding"
)

// enrolled wants the device to have got its certificates from the registrar, with
// keys of its TPM, and returns the one of the service key.
func enrolled(ctx context.Context, t *testing.T, s *stage.Stage) *x509.Certificate {
	reporting, err := s.AwaitGeneration(ctx, "reporting", "connected", 1)
	if err != nil {
		t.Fatal(err)
	}
	service, err := s.AwaitGeneration(ctx, "service", "connected", 1)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := os.ReadFile(filepath.Join(s.Devices(), "issued.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(issued), stage.DeviceID); n != 2 {
		t.Errorf("the registrar issued %d certificates, want 2:\n%s", n, issued)
	}
	if ak, err := os.ReadFile(filepath.Join(s.Devices(), works.Tenant, stage.DeviceID+".ak.pem")); err != nil || string(ak) != string(mustRead(t, s.AK())) {
		t.Errorf("the attestation key that the registrar registered is not the factory's: %v", err)
	}
	t.Logf("reporting until %s, service until %s, by the registrar over EST", reporting.NotAfter, service.NotAfter)
	cert, err := s.ServiceKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// renewed has the running device renew its certificates, and wants new keys at
// work and the old ones gone.
func renewed(ctx context.Context, t *testing.T, s *stage.Stage, before *x509.Certificate) *x509.Certificate {
	if _, err := renew(ctx, s); err != nil {
		t.Fatal(err)
	}
	after, err := s.ServiceKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if after.PublicKey.(*ecdsa.PublicKey).Equal(before.PublicKey) {
		t.Error("the service key was not renewed")
	}
	names := guest(ctx, t, s, 0, "/usr/bin/ls", "/var/lib/ward/identity/reporting")
	if got := strings.Fields(names); len(got) != 1 {
		t.Errorf("generations of the reporting key that are kept: %q", got)
	}
	return after
}

// appSecret is what a medical application keeps with the device's identity.
const appSecretName, appSecret = "pump-license", "a secret of the medical application"

// bedsideIdentity tries what wardctl does with the identity at the bedside, beside
// the running daemon, and seals a secret of the application's.
func bedsideIdentity(ctx context.Context, t *testing.T, s *stage.Stage) {
	t.Logf("wardctl identity show:\n%s", guest(ctx, t, s, 0, "/usr/bin/wardctl", "identity", "show"))
	t.Logf("wardctl identity verify:\n%s", guest(ctx, t, s, 0, "/usr/bin/wardctl", "identity", "verify"))
	r, err := s.VM.Do(ctx, control.Request{Argv: []string{"/usr/bin/wardctl", "identity", "seal", appSecretName}, Stdin: []byte(appSecret)})
	if err != nil || r.Exit != 0 {
		t.Fatalf("wardctl identity seal: exit %d, %v: %s", r.Exit, err, r.Stderr)
	}
	unsealed(ctx, t, s)
}

// unsealed wants the application's secret.
func unsealed(ctx context.Context, t *testing.T, s *stage.Stage) {
	t.Helper()
	if got := guest(ctx, t, s, 0, "/usr/bin/wardctl", "identity", "unseal", appSecretName); got != appSecret {
		t.Errorf("unsealed %q", got)
	}
}

// sameServiceKey wants the service key that was there before at work.
func sameServiceKey(ctx context.Context, t *testing.T, s *stage.Stage, before *x509.Certificate) {
	t.Helper()
	after, err := s.ServiceKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !after.Equal(before) {
		t.Error("another service key than before")
	}
}

// serviceRefused is the altered boot.
func serviceRefused(ctx context.Context, t *testing.T, s *stage.Stage) {
	reason, err := s.ServiceShut(ctx, 0, string(finding.IdentityBootState))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the service key: %s", reason)
	if got := guest(ctx, t, s, 1, "/usr/bin/wardctl", "identity", "unseal", appSecretName); got != "" {
		t.Errorf("unsealed %q in a boot that nobody approved", got)
	}
}
