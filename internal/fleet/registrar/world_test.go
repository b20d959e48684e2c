package registrar_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/fleet/registrar"
	"ward/internal/format/est"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/enrolment/enrolmenttest"
)

const tenant = "acme"

// world is a registrar that listens, with a maker whose TPMs it knows.
type world struct {
	t         *testing.T
	maker     *enrolmenttest.Maker
	dir       string // ca/, devices/, serials
	config    registrar.Config
	registrar *registrar.Registrar
	url       string
	roots     *x509.CertPool
	listening chan struct{}

	mu     sync.Mutex
	events []registrar.Event
}

func newWorld(t *testing.T, change func(*world, *registrar.Config)) *world {
	t.Helper()
	w := &world{t: t, maker: enrolmenttest.NewMaker(t), dir: t.TempDir(), roots: x509.NewCertPool(), listening: make(chan struct{})}
	must(t, os.Mkdir(w.file("devices"), 0o700))
	must(t, issue.MakeCA(time.Now(), w.file("ca"), "Acme Fleet", []string{"127.0.0.1"}))
	w.serials("pump-1", "pump-2", "pump-3")
	c := registrar.Config{Tenant: tenant, Makers: []*x509.Certificate{w.maker.Root}, PolicyKey: &w.maker.PolicyKey}
	var err error
	c.CA, err = issue.LoadCA(w.file("ca/ca.crt"), w.file("ca/ca.key"), time.Hour, "")
	must(t, err)
	c.Authority = c.CA
	c.Roots, err = issue.LoadRoots(w.file("ca/ca.crt"))
	must(t, err)
	c.Devices = w.register()
	c.Serials, err = registrar.OpenSerials(w.file("serials"))
	must(t, err)
	c.Report = func(e registrar.Event) {
		if e.Kind == "listening" {
			close(w.listening)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}
	if change != nil {
		change(w, &c)
	}
	w.config = c
	w.registrar, err = registrar.New(c)
	must(t, err)
	text, err := os.ReadFile(w.file("ca/ca.crt"))
	must(t, err)
	w.roots.AppendCertsFromPEM(text)
	w.serve()
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// register opens the register as another process does.
func (w *world) register() *register.Register {
	w.t.Helper()
	r, err := register.Open(w.file("devices"))
	must(w.t, err)
	return r
}

func (w *world) serials(lines ...string) {
	w.t.Helper()
	must(w.t, os.WriteFile(w.file("serials.new"), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	must(w.t, os.Rename(w.file("serials.new"), w.file("serials")))
}

func (w *world) serve() {
	w.t.Helper()
	pair, err := tls.LoadX509KeyPair(w.file("ca/127.0.0.1.crt"), w.file("ca/127.0.0.1.key"))
	must(w.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	w.url = "https://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.registrar.Serve(ctx, l, pair) }()
	<-w.listening
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the registrar ended with %v", err)
		}
	})
}

// reply is an answer of the registrar.
type reply struct {
	status int
	header http.Header
	body   string
}

// call is a request that tests change before it goes out.
type call struct {
	method, path, kind string
	basic              registrar.Basic
	cert               *tls.Certificate
	body               []byte
	chunked            bool // its length is not told
}

func (w *world) do(c call) reply {
	w.t.Helper()
	r, err := w.try(c)
	must(w.t, err)
	return r
}

func (w *world) try(c call) (reply, error) {
	config := &tls.Config{RootCAs: w.roots}
	if c.cert != nil {
		config.Certificates = []tls.Certificate{*c.cert}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	var body io.Reader = bytes.NewReader(c.body)
	if c.chunked {
		body = io.MultiReader(body)
	}
	req, err := http.NewRequest(c.method, w.url+c.path, body)
	if err != nil {
		return reply{}, err
	}
	if c.kind != "" {
		req.Header.Set("Content-Type", c.kind)
	}
	if c.basic != (registrar.Basic{}) {
		req.SetBasicAuth(c.basic.ID, c.basic.Password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(b)}, err
}

func challengeCall(t testing.TB, r enrolment.Request) call {
	t.Helper()
	b, err := enrolment.EncodeRequest(r)
	must(t, err)
	return call{method: "POST", path: est.PathTPMChallenge, kind: "application/json", body: b}
}

// challenge asks for a challenge that must come, and opens it.
func (w *world) challenge(d *enrolmenttest.Device, uses ...enrolment.Use) registrar.Basic {
	w.t.Helper()
	r := w.do(challengeCall(w.t, d.Request(tenant, uses...)))
	if r.status != 200 {
		w.t.Fatalf("challenge: %d %s", r.status, r.body)
	}
	c, err := enrolment.ParseChallenge([]byte(r.body))
	must(w.t, err)
	return registrar.Basic{ID: c.ID, Password: hex.EncodeToString(d.Activate(c.Credential))}
}

func csrDER(t testing.TB, key crypto.Signer, name string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	must(t, err)
	return der
}

func enrollCall(t testing.TB, basic registrar.Basic, der []byte) call {
	t.Helper()
	return call{method: "POST", path: est.PathSimpleEnroll, kind: est.TypeCSR, basic: basic, body: est.EncodeBody(der)}
}

func reenrollCall(t testing.TB, cert *tls.Certificate, basic registrar.Basic, der []byte) call {
	t.Helper()
	c := enrollCall(t, basic, der)
	c.path, c.cert = est.PathSimpleReenroll, cert
	return c
}

// certs reads the certificates of an answer that must be good.
func (w *world) certs(r reply) []*x509.Certificate {
	w.t.Helper()
	if r.status != 200 {
		w.t.Fatalf("%d %s", r.status, r.body)
	}
	der, err := est.ParseBody([]byte(r.body))
	must(w.t, err)
	certs, err := est.ParseCerts(der)
	must(w.t, err)
	return certs
}

// enroll enrols a device, and returns its certificate with the key.
func (w *world) enroll(d *enrolmenttest.Device, use enrolment.Use) *tls.Certificate {
	w.t.Helper()
	basic := w.challenge(d)
	return pair(w.certs(w.do(enrollCall(w.t, basic, csrDER(w.t, d.Signer(use), "")))), d.Signer(use))
}

func pair(certs []*x509.Certificate, key crypto.Signer) *tls.Certificate {
	p := &tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, c := range certs {
		p.Certificate = append(p.Certificate, c.Raw)
	}
	return p
}

// seen returns what the registrar told of a kind.
func (w *world) seen(kind string) []registrar.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.events), func(e registrar.Event) bool { return e.Kind != kind })
}

// wants says whether a call is refused as it should be: its status, a reason in
// one line, counted, told.
func (w *world) wants(name string, c call, status int, kind, reason string) {
	w.t.Helper()
	before, told := w.registrar.Counts(), len(w.seen("refused"))
	r := w.do(c)
	if r.status != status || !strings.Contains(r.body, reason) {
		w.t.Errorf("%s: %d %s, want %d with %q", name, r.status, r.body, status, reason)
		return
	}
	if strings.Count(r.body, "\n") != 1 || !strings.HasSuffix(r.body, "\n") || !strings.Contains(r.body, "; ") || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
		w.t.Errorf("%s: %q is no line that says what to do", name, r.body)
	}
	after := w.registrar.Counts()
	before[kind]++
	if !maps.Equal(before, after) {
		w.t.Errorf("%s: counted %v, want one more %s than before", name, after, kind)
	}
	if events := w.seen("refused"); len(events) != told+1 || events[told].Refusal != kind || events[told].Status != status {
		w.t.Errorf("%s: told %+v", name, events[told:])
	}
	if got := r.header.Get("WWW-Authenticate") != ""; got != (status == 401) {
		w.t.Errorf("%s: asks for a password: %v", name, got)
	}
	if got := r.header.Get("Retry-After") != ""; got != (status == 429 || status == 503) {
		w.t.Errorf("%s: says when to try again: %v", name, got)
	}
}

func certFile(t testing.TB, c *x509.Certificate) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cert.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600))
	return file
}

// refusalOf is the refusal in an error of the role's own methods.
func refusalOf(t testing.TB, err error) *registrar.Refusal {
	t.Helper()
	var r *registrar.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("no refusal: %v", err)
	}
	return r
}
