package identity_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/identity"
	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/identity/issued"
	"ward/internal/contracttest"
	"ward/internal/device/est"
	"ward/internal/device/tpm"
	"ward/internal/format/tss2"
	"ward/internal/trust/credential"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/enrolment/enrolmenttest"
	"ward/internal/trust/event"
	"ward/internal/trust/serverauth/serverauthtest"
)

// chip is a TPM in memory that can be gone, another one, or in a boot state that
// nobody approved.
type chip struct {
	t        testing.TB
	mu       sync.Mutex
	keys     map[string]*ecdsa.PrivateKey // by public area
	err      error                        // of everything
	boot     error                        // of the service key
	create   error
	activate error
	created  int
	signed   int
	hook     func(string) // told before every step
}

func (c *chip) step(what string) {
	if c.hook != nil {
		c.hook(what)
	}
}

func (c *chip) Create(_ context.Context, use enrolment.Use) (tss2.File, error) {
	c.step("create")
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := errors.Join(c.err, c.create); err != nil {
		return tss2.File{}, err
	}
	key := serverauthtest.NewKey(c.t)
	attributes, bound := enrolmenttest.ReportingAttributes, []byte(nil)
	if use == enrolment.Service {
		attributes, bound = enrolmenttest.ServiceAttributes, make([]byte, 32)
	}
	f := tss2.File{Kind: tss2.Loadable, EmptyAuth: use == enrolment.Reporting, Parent: tpm.HandleSRK, Public: enrolmenttest.Area(attributes, &key.PublicKey, bound), Private: []byte("private")}
	c.keys[string(f.Public)] = key
	c.created++
	return f, nil
}

func (c *chip) Describe(_ context.Context, use enrolment.Use, key tss2.File) (enrolment.Request, error) {
	c.step("describe")
	c.mu.Lock()
	defer c.mu.Unlock()
	return enrolment.Request{Keys: []enrolment.Key{{Use: use, Public: key.Public}}}, c.err
}

func (c *chip) Activate(_ context.Context, blob credential.Blob) ([]byte, error) {
	c.step("activate")
	c.mu.Lock()
	defer c.mu.Unlock()
	return blob.Secret, errors.Join(c.err, c.activate)
}

func (c *chip) Signer(_ context.Context, use enrolment.Use, key tss2.File) (crypto.Signer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	k := c.keys[string(key.Public)]
	if k == nil {
		return nil, tpm.ErrOtherTPM
	}
	return signer{c, k, use}, nil
}

type signer struct {
	chip *chip
	key  *ecdsa.PrivateKey
	use  enrolment.Use
}

func (s signer) Public() crypto.PublicKey { return s.key.Public() }

func (s signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.chip.mu.Lock()
	defer s.chip.mu.Unlock()
	if s.chip.err != nil {
		return nil, s.chip.err
	}
	if s.use == enrolment.Service && s.chip.boot != nil {
		return nil, fmt.Errorf("sign: %w", s.chip.boot)
	}
	s.chip.signed++
	return s.key.Sign(rand.Reader, digest, opts)
}

// fleet is a registrar in memory.
type fleet struct {
	t     testing.TB
	ca    serverauthtest.Authority
	certs []*x509.Certificate // of cacerts

	mu     sync.Mutex
	err    error // of everything
	refuse error // of enrolment
	list   []byte
	life   time.Duration
	change func(*x509.Certificate) // of what is issued
	other  crypto.PublicKey        // certified in the place of the key that asks
	asked  []string
	hook   func(string) // told before every step
	shown  []string     // the certificate's serial number that a renewal showed
	id     int
}

func (f *fleet) dial(_ string, c *tls.Config) (identity.CA, error) { return &client{f, c}, nil }

type client struct {
	*fleet
	config *tls.Config
}

func (c *client) Close() {}

func (c *client) ask(what string) error {
	if c.hook != nil {
		c.hook(what)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, what)
	if c.config.MinVersion != tls.VersionTLS13 || c.config.RootCAs == nil || c.config.VerifyConnection == nil || c.config.InsecureSkipVerify {
		c.t.Error("asked with settings that fall back to less")
	}
	return c.err
}

func (c *client) CACerts(context.Context) ([]*x509.Certificate, error) {
	return c.certs, c.ask("cacerts")
}

func (c *client) CRL(context.Context) ([]byte, error) {
	err := c.ask("crl")
	if err == nil && c.list == nil {
		err = &est.Error{Status: 404}
	}
	return c.list, err
}

func (c *client) Challenge(_ context.Context, r enrolment.Request) (enrolment.Challenge, error) {
	if err := c.ask("challenge " + string(r.Keys[0].Use)); err != nil {
		return enrolment.Challenge{}, err
	}
	if r.Tenant != "acme" || r.Serial != "pump-1" || r.Version != enrolment.Version {
		c.t.Errorf("request of %s of %s, version %d", r.Serial, r.Tenant, r.Version)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id++
	return enrolment.Challenge{ID: fmt.Sprint(r.Keys[0].Use, "/", c.id), Credential: credential.Blob{Secret: []byte("secret")}}, nil
}

func (c *client) Enroll(_ context.Context, csr []byte, id string, secret []byte) ([]*x509.Certificate, error) {
	if err := c.ask("enroll"); err != nil {
		return nil, err
	}
	if len(c.config.Certificates) != 0 {
		c.t.Error("an enrolment shows a certificate")
	}
	return c.issue(csr, id, secret)
}

func (c *client) Reenroll(_ context.Context, csr []byte, id string, secret []byte) ([]*x509.Certificate, error) {
	if err := c.ask("reenroll"); err != nil {
		return nil, err
	}
	if len(c.config.Certificates) != 1 {
		c.t.Fatal("a renewal shows no certificate")
	}
	c.mu.Lock()
	c.shown = append(c.shown, c.config.Certificates[0].Leaf.SerialNumber.String())
	c.mu.Unlock()
	return c.issue(csr, id, secret)
}

func (f *fleet) issue(csr []byte, id string, secret []byte) ([]*x509.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil || r.CheckSignature() != nil || string(secret) != "secret" || r.Subject.CommonName != "pump-1" {
		f.t.Errorf("certification request: %v, secret %q", err, secret)
		return nil, err
	}
	use, _, _ := strings.Cut(id, "/")
	key := crypto.PublicKey(r.PublicKey)
	if f.other != nil {
		key = f.other
	}
	c := f.certify("acme", "pump-1", enrolment.Use(use), key)
	return []*x509.Certificate{c, f.ca.Cert}, nil
}

func (f *fleet) certify(tenant, device string, use enrolment.Use, key crypto.PublicKey) *x509.Certificate {
	uri, err := url.Parse(issued.URI(tenant, device, use))
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: device, Organization: []string{tenant}}, URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(f.life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if f.change != nil {
		f.change(template)
	}
	return f.ca.Certify(f.t, template, key)
}

func (f *fleet) set(change func(*fleet)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fleet) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.asked
	f.asked = nil
	return a
}

func (f *fleet) count(what string) int {
	n := 0
	for _, a := range f.took() {
		if a == what {
			n++
		}
	}
	return n
}

type recorder struct {
	mu     sync.Mutex
	events []string
}

func (r *recorder) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
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

// world is a manufactured device, with a registrar.
type world struct {
	t      *testing.T
	config identity.Config
	chip   *chip
	fleet  *fleet
	rec    *recorder
	store  *idstore.Store
}

// life is how long the certificates of the tests last: the role looks at them once
// a minute, and a year of that takes too long.
const life = 2 * 24 * time.Hour

const year = 365 * 24 * time.Hour

// bubble runs a test in a bubble of its own time, which begins in 2000.
func bubble(t *testing.T, body func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { body(t, newWorld(t)) })
}

func newWorld(t *testing.T) *world {
	ca := serverauthtest.NewAuthority(t, "fleet", time.Now())
	w := &world{
		t: t, chip: &chip{t: t, keys: make(map[string]*ecdsa.PrivateKey), create: nil},
		fleet: &fleet{t: t, ca: ca, certs: []*x509.Certificate{ca.Cert}, life: life}, rec: &recorder{},
	}
	w.config = identity.Config{
		State: t.TempDir(), Trust: t.TempDir(), Tenant: "acme", Device: "pump-1", TPM: w.chip, Registrar: "https://registrar.example",
		ServerName: "registrar.example", Recorder: w.rec, Dial: w.fleet.dial,
	}
	w.store = idstore.Open(w.config.State)
	srk := serverauthtest.NewKey(t)
	area := enrolmenttest.Area(enrolmenttest.ReportingAttributes, &srk.PublicKey, nil)
	if err := w.store.SetDevice(idstore.Device{Tenant: "acme", Serial: "pump-1", SRK: area, Made: time.Now()}); err != nil {
		t.Fatal(err)
	}
	w.write(filepath.Join(w.config.Trust, "fleet/root.pem"), ca.PEM())
	return w
}

func (w *world) write(path string, b []byte) {
	w.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

// run starts the role; stop ends it.
func (w *world) run() (r *identity.Role, stop func()) {
	w.t.Helper()
	r = identity.New(w.config)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	synctest.Wait()
	return r, func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// generations lists a use's generations: number, then c for a certificate, + for
// connected; the newest first.
func (w *world) generations(use enrolment.Use) string {
	w.t.Helper()
	all, err := w.store.Generations(use)
	if err != nil {
		w.t.Error(err)
	}
	var out []string
	for _, g := range all {
		s := fmt.Sprint(g.Number)
		if g.Chain != nil {
			s += "c"
		}
		if g.Connected {
			s += "+"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func (w *world) recorded(want ...string) {
	w.t.Helper()
	if got := w.rec.take(); !slices.Equal(got, want) {
		w.t.Errorf("recorded %v, want %v", got, want)
	}
}

// connect takes the identity as the uplink does and says how it went.
func connect(t *testing.T, r *identity.Role, admitted bool) *tls.Config {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := r.TLS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.Outcome(c, admitted)
	synctest.Wait()
	return c
}

func use(s identity.Status, u enrolment.Use) identity.UseStatus {
	for _, x := range s.Uses {
		if x.Use == u {
			return x
		}
	}
	return identity.UseStatus{}
}
