package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ward/internal/agent/identity"
	"ward/internal/agent/identity/idstore"
	"ward/internal/contracttest"
	"ward/internal/daemon/chip"
	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/fleet/registrar"
	"ward/internal/format/pcr"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/event"
	"ward/internal/trust/policy"
	"ward/internal/trust/serverauth/serverauthtest"
)

// manufactured is a device as the production line leaves it, with a software TPM,
// and the registrar of its fleet.
type manufactured struct {
	chip      *tpm.Lazy
	config    identity.Config
	policyKey *ecdsa.PrivateKey
	keys      *chip.Keys
	socket    string // of the TPM
	ca        string // folder of the fleet's authority

	mu        sync.Mutex
	approvals []policy.Approval
	events    []string
}

func (m *manufactured) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Finding != nil {
		m.events = append(m.events, e.Type+" "+string(e.Finding.Code))
	}
	return nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func manufacture(t testing.TB) *manufactured {
	t.Helper()
	soft := swtpmtest.Start(t, true)
	makers, err := soft.Makers()
	check(t, err)
	m := &manufactured{chip: tpm.NewLazy(soft.Socket), policyKey: serverauthtest.NewKey(t), socket: soft.Socket}
	t.Cleanup(func() { _ = m.chip.Close() })
	key, err := policy.NewKey(&m.policyKey.PublicKey)
	check(t, err)
	dir := t.TempDir()
	m.ca = filepath.Join(dir, "ca")
	m.config = identity.Config{
		State: filepath.Join(dir, "state"), Trust: filepath.Join(dir, "trust"), Tenant: "acme", Device: "pump-1", Recorder: m,
		ServerName: "127.0.0.1",
	}
	check(t, os.Mkdir(m.config.State, 0o700))
	store := idstore.Open(m.config.State)
	_, err = tpm.With(m.chip, func(chip *tpm.TPM) (provision.Result, error) {
		return provision.Run(t.Context(), chip, store, provision.Options{
			Tenant: "acme", Serial: "pump-1", PolicyKey: &key, Base: 20, Now: time.Now(), Keep: func(provision.Vault) error { return nil },
		})
	})
	check(t, err)

	check(t, issue.MakeCA(time.Now(), filepath.Join(dir, "ca"), "Acme Fleet", []string{"127.0.0.1"}))
	root, err := os.ReadFile(filepath.Join(dir, "ca", issue.CACertFile))
	check(t, err)
	spki, err := x509.MarshalPKIXPublicKey(&m.policyKey.PublicKey)
	check(t, err)
	for name, text := range map[string][]byte{"fleet/root.pem": root, "policy/key.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})} {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(m.config.Trust, name)), 0o755))
		check(t, os.WriteFile(filepath.Join(m.config.Trust, name), text, 0o644))
	}
	m.keys = &chip.Keys{Chip: m.chip, Store: store, Trust: m.config.Trust, Approvals: func(policy.Key) ([]policy.Approval, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.approvals, nil
	}}
	m.config.TPM = m.keys
	m.serve(t, dir, makers, &key)
	return m
}

// serve runs the registrar.
func (m *manufactured) serve(t testing.TB, dir string, makers []*x509.Certificate, key *policy.Key) {
	t.Helper()
	ca, err := issue.LoadCA(filepath.Join(dir, "ca", issue.CACertFile), filepath.Join(dir, "ca", issue.CAKeyFile), 24*time.Hour, "")
	check(t, err)
	roots, err := issue.LoadRoots(filepath.Join(dir, "ca", issue.CACertFile))
	check(t, err)
	check(t, os.Mkdir(filepath.Join(dir, "devices"), 0o700))
	devices, err := register.Open(filepath.Join(dir, "devices"))
	check(t, err)
	r, err := registrar.New(registrar.Config{
		Tenant: "acme", Devices: devices, Serials: registrar.AnySerial(), Makers: makers, PolicyKey: key, Authority: ca, CA: ca, Roots: roots,
		PerSource: 10000, Total: 10000,
	})
	check(t, err)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca/127.0.0.1.crt"), filepath.Join(dir, "ca/127.0.0.1.key"))
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	m.config.Registrar = "https://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = r.Serve(ctx, l, pair); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// approve has the policy key approve the boot state that the TPM is in.
func (m *manufactured) approve(t testing.TB) {
	t.Helper()
	values, err := m.chip.ReadPCRs(t.Context(), pcr.SHA256, []int{7, 11, 12})
	check(t, err)
	a, err := policy.Approval{Bank: pcr.SHA256, Values: values, AtMost: 20}.Sign(nil, m.policyKey)
	check(t, err)
	m.mu.Lock()
	m.approvals = []policy.Approval{a}
	m.mu.Unlock()
}

// run runs the role until the test ends.
func (m *manufactured) run(t testing.TB) *identity.Role {
	t.Helper()
	who, stop := m.start()
	t.Cleanup(stop)
	return who
}

func (m *manufactured) start() (who *identity.Role, stop func()) {
	who = identity.New(m.config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = who.Run(ctx); close(done) }()
	return who, sync.OnceFunc(func() { cancel(); <-done })
}

// The device's side and the fleet's, with a TPM: enrolment of both keys, a
// connection, renewal over it, and a service key that waits for its boot.
//
// Verifies: SR-043, SR-045, SR-046
func TestEnrolAtTheRegistrar(t *testing.T) {
	m := manufacture(t)
	who := m.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first, err := who.TLS(ctx)
	check(t, err)
	leaf := first.Certificates[0].Leaf
	if leaf.Subject.CommonName != "pump-1" || leaf.Subject.Organization[0] != "acme" || len(leaf.URIs) != 1 || leaf.URIs[0].String() != "urn:ward:acme:pump-1" {
		t.Errorf("certificate %s %v", leaf.Subject, leaf.URIs)
	}
	who.Outcome(first, true)

	// Nobody has approved this boot: the service key does not sign.
	if err := who.Enroll(ctx); !errors.Is(err, tpm.ErrBootState) {
		t.Errorf("enrolment of the service key in an unapproved boot: %v", err)
	}
	digest := sha256.Sum256([]byte("x"))
	if _, err := who.Sign(enrolment.Service, digest); !errors.Is(err, identity.ErrNone) {
		t.Errorf("signing without a certificate: %v", err)
	}
	m.approve(t)
	if err := who.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		signature, err := who.Sign(use, digest)
		check(t, err)
		text, err := who.Chain(use)
		check(t, err)
		block, _ := pem.Decode(text)
		cert, err := x509.ParseCertificate(block.Bytes)
		check(t, err)
		if !ecdsa.VerifyASN1(cert.PublicKey.(*ecdsa.PublicKey), digest[:], signature) {
			t.Errorf("the %s signature is not by its certificate's key", use)
		}
	}
	second, err := who.TLS(ctx)
	check(t, err)
	if second.Certificates[0].Leaf.Equal(leaf) {
		t.Error("the renewed certificate is not offered")
	}
	// The boot is no longer approved.
	m.mu.Lock()
	m.approvals = nil
	m.mu.Unlock()
	if _, err := who.Sign(enrolment.Service, digest); !errors.Is(err, tpm.ErrBootState) {
		t.Errorf("the service key in an unapproved boot: %v", err)
	}
	if _, err := who.Sign(enrolment.Reporting, digest); err != nil {
		t.Errorf("the reporting key: %v", err)
	}
	s := who.Status()
	if s.CRL == nil || s.State != "ready" {
		t.Errorf("status %+v", s)
	}
}

// BenchmarkEnrol is a whole enrolment of both keys, with the registrar in this
// process and a software TPM.
func BenchmarkEnrol(b *testing.B) {
	m := manufacture(b)
	m.approve(b)
	who := m.run(b)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	c, err := who.TLS(ctx)
	check(b, err)
	who.Outcome(c, true)
	for b.Loop() {
		if err := who.Enroll(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
