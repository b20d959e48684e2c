package identity_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/identity"
	"ward/internal/device/tpm"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

var (
	begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end   = begin.AddDate(1, 0, 0)
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func certificate(t testing.TB, key crypto.Signer, subject pkix.Name) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject, NotBefore: begin, NotAfter: end, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func subject(tenant, device string) pkix.Name {
	return pkix.Name{CommonName: device, Organization: []string{tenant}}
}

// keys is a TPM that holds a key or fails.
type keys struct {
	mu  sync.Mutex
	key crypto.Signer
	err error
}

func (k *keys) ReportingKey(context.Context) (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.key, k.err
}

type recorder struct {
	mu     sync.Mutex
	events []string
}

func (r *recorder) Record(_ context.Context, e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, strings.TrimPrefix(e.Type, "ward.finding.")+" "+string(e.Finding.Code))
	return nil
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.events
	r.events = nil
	return e
}

// setUp is a state directory with a certificate and trust anchors with a root.
func setUp(t testing.TB) (identity.Config, *keys, *recorder) {
	t.Helper()
	key := newKey(t)
	k, rec := &keys{key: key}, &recorder{}
	c := identity.Config{
		State: t.TempDir(), Trust: t.TempDir(), Tenant: "acme", Device: "pump-1", Floor: at(begin),
		Keys: k, Recorder: rec,
	}
	write(t, filepath.Join(c.State, identity.CertificateFile), certificate(t, key, subject("acme", "pump-1")))
	write(t, filepath.Join(c.Trust, "fleet/root.pem"), certificate(t, newKey(t), pkix.Name{CommonName: "root"}))
	return c, k, rec
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	c, k, _ := setUp(t)
	id, err := identity.Load(t.Context(), c, begin.AddDate(0, 1, 0))
	if err != nil {
		t.Fatal(err)
	}
	if id.Tenant != "acme" || id.Device != "pump-1" || !id.NotAfter.Equal(end) {
		t.Errorf("identity %+v", id)
	}
	if id.TLS.MinVersion != tls.VersionTLS13 || id.TLS.RootCAs == nil || len(id.TLS.Certificates) != 1 || id.TLS.Certificates[0].PrivateKey != k.key {
		t.Errorf("TLS %+v", id.TLS)
	}
	tenant, device, err := identity.Subject(c.State)
	if err != nil || tenant != "acme" || device != "pump-1" {
		t.Errorf("subject %q %q %v", tenant, device, err)
	}
}

// Verifies: SR-011, SR-013, SR-017
func TestFaults(t *testing.T) {
	cert := func(name pkix.Name) func(*testing.T, *identity.Config, *keys) {
		return func(t *testing.T, c *identity.Config, k *keys) {
			write(t, filepath.Join(c.State, identity.CertificateFile), certificate(t, k.key, name))
		}
	}
	text := func(b []byte) func(*testing.T, *identity.Config, *keys) {
		return func(t *testing.T, c *identity.Config, k *keys) {
			write(t, filepath.Join(c.State, identity.CertificateFile), b)
		}
	}
	for _, x := range []struct {
		name   string
		change func(*testing.T, *identity.Config, *keys)
		now    time.Time
		code   finding.Code
	}{
		{"no certificate", func(t *testing.T, c *identity.Config, _ *keys) {
			os.Remove(filepath.Join(c.State, identity.CertificateFile))
		}, begin, finding.IdentityMissing},
		{"empty certificate file", text(nil), begin, finding.IdentityMissing},
		{"certificate cut short", text([]byte("-----BEGIN CERTIFICATE-----\nMIIB")), begin, finding.IdentityMissing},
		{"certificate that is none", text([]byte("hello")), begin, finding.IdentityMissing},
		{"endless file", text([]byte(strings.Repeat("x", 1<<17))), begin, finding.IdentityMissing},
		{"device id with a slash", cert(subject("acme", "pump/1")), begin, finding.IdentityMissing},
		{"device id with a dot", cert(subject("acme", "pump.1")), begin, finding.IdentityMissing},
		{"no tenant", cert(pkix.Name{CommonName: "pump-1"}), begin, finding.IdentityMissing},
		{"two tenants", cert(pkix.Name{CommonName: "pump-1", Organization: []string{"acme", "other"}}), begin, finding.IdentityMissing},
		{"another device's certificate", cert(subject("acme", "pump-2")), begin, finding.IdentityMismatch},
		{"another key in the TPM", func(t *testing.T, _ *identity.Config, k *keys) { k.key = newKey(t) }, begin, finding.IdentityMismatch},
		{"no TPM", func(_ *testing.T, _ *identity.Config, k *keys) { k.err = fmt.Errorf("open: %w", tpm.ErrAbsent) }, begin, finding.TPMAbsent},
		{"TPM fails", func(_ *testing.T, _ *identity.Config, k *keys) { k.err = tpm.ErrTimeout }, begin, finding.TPMFailing},
		{"no key in the TPM", func(_ *testing.T, _ *identity.Config, k *keys) { k.err = tpm.ErrNoKey }, begin, finding.IdentityMissing},
		{"expired", func(*testing.T, *identity.Config, *keys) {}, end.Add(time.Hour), finding.IdentityExpired},
		{"expired before the build", func(_ *testing.T, c *identity.Config, _ *keys) { c.Floor = at(end.Add(time.Hour)) }, begin, finding.IdentityExpired},
		{"no roots", func(_ *testing.T, c *identity.Config, _ *keys) { os.RemoveAll(filepath.Join(c.Trust, "fleet")) }, begin, finding.IdentityNoTrust},
		{"roots that are none", func(t *testing.T, c *identity.Config, _ *keys) {
			write(t, filepath.Join(c.Trust, "fleet/root.pem"), []byte("hello"))
		}, begin, finding.IdentityNoTrust},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, k, _ := setUp(t)
			x.change(t, &c, k)
			id, err := identity.Load(t.Context(), c, x.now)
			var f *identity.Fault
			if !errors.As(err, &f) || id != nil {
				t.Fatalf("loaded %v, error %v", id, err)
			}
			if f.Finding.Code != x.code || strings.Contains(f.Error(), "\n") {
				t.Errorf("%s: %v, want %s in one line", f.Finding.Code, f, x.code)
			}
		})
	}
}

// Verifies: SR-023
func TestClockBeforeTheBuild(t *testing.T) {
	c, _, _ := setUp(t)
	c.Floor = nil
	id, err := identity.Load(t.Context(), c, time.Unix(0, 0))
	if err != nil {
		t.Fatalf("a clock of 1970 makes the certificate unusable: %v", err)
	}
	synctest.Test(t, func(t *testing.T) { // whose clock shows 2000
		if now := id.TLS.Time(); now.Before(begin) {
			t.Errorf("the handshake would believe %s", now)
		}
	})
}

// Verifies: SR-017
func TestRunHeals(t *testing.T) {
	c, k, rec := setUp(t)
	path := filepath.Join(c.State, identity.CertificateFile)
	cert, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		alive := 0
		c.Alive = func() { alive++ }
		r := identity.New(c)
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		short, stop := context.WithTimeout(ctx, 10*time.Minute)
		defer stop()
		if _, err := r.TLS(short); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "there is none") {
			t.Errorf("TLS without a certificate: %v", err)
		}
		if got := rec.take(); fmt.Sprint(got) != "[raised identity.missing]" {
			t.Errorf("ten minutes without a certificate recorded %v", got)
		}
		if alive < 10 {
			t.Errorf("alive %d times in ten minutes", alive)
		}
		if s := r.Status(); s.State != "faulty" || s.Detail == "" {
			t.Errorf("status %+v", s)
		}
		if err := os.WriteFile(path, cert, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := r.TLS(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := rec.take(); fmt.Sprint(got) != "[cleared identity.missing]" {
			t.Errorf("the repair recorded %v", got)
		}
		k.mu.Lock()
		k.err = tpm.ErrAbsent
		k.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if got := rec.take(); fmt.Sprint(got) != "[raised tpm.absent]" {
			t.Errorf("a TPM that vanished recorded %v", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func at(t time.Time) func() time.Time { return func() time.Time { return t } }
