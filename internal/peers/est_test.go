package peers

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/fleet/registrar"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/enrolment/enrolmenttest"
)

// estWorld is a registrar of ours, and the program est with GlobalSign's library.
type estWorld struct {
	t         *testing.T
	dir       string
	program   string
	maker     *enrolmenttest.Maker
	registrar *registrar.Registrar
	address   string
}

func newESTWorld(t *testing.T, authority func(w *estWorld, roots *issue.Roots) issue.Authority) *estWorld {
	t.Helper()
	w := &estWorld{t: t, dir: t.TempDir(), maker: enrolmenttest.NewMaker(t)}
	w.program = w.file("est")
	build := exec.Command("go", "build", "-o", w.program, ".")
	build.Dir, build.Env = "est", append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build est: %v\n%s", err, out)
	}
	w.must(issue.MakeCA(time.Now(), w.file("ca"), "Acme Fleet", []string{"127.0.0.1"}))
	w.must(os.Mkdir(w.file("devices"), 0o700))
	devices, err := register.Open(w.file("devices"))
	w.must(err)
	roots, err := issue.LoadRoots(w.file("ca/ca.crt"))
	w.must(err)
	w.registrar, err = registrar.New(registrar.Config{
		Tenant: "acme", Devices: devices, Serials: registrar.AnySerial(), Makers: []*x509.Certificate{w.maker.Root}, PolicyKey: &w.maker.PolicyKey,
		Authority: authority(w, roots), Roots: roots,
	})
	w.must(err)
	pair, err := tls.LoadX509KeyPair(w.file("ca/127.0.0.1.crt"), w.file("ca/127.0.0.1.key"))
	w.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	w.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.registrar.Serve(ctx, l, pair) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *estWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *estWorld) file(name string) string { return filepath.Join(w.dir, name) }

// put writes a PEM file and returns its path.
func (w *estWorld) put(name, kind string, der []byte) string {
	w.t.Helper()
	w.must(os.WriteFile(w.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return w.file(name)
}

func (w *estWorld) key(name string, key crypto.Signer) string {
	w.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	w.must(err)
	return w.put(name, "PRIVATE KEY", der)
}

func (w *estWorld) csr(name string, key crypto.Signer, r x509.CertificateRequest) string {
	w.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &r, key)
	w.must(err)
	return w.put(name, "CERTIFICATE REQUEST", der)
}

// challenge brings a challenge of the registrar, and opens it as the TPM does.
func (w *estWorld) challenge(d *enrolmenttest.Device) []string {
	w.t.Helper()
	request, err := enrolment.EncodeRequest(d.Request("acme"))
	w.must(err)
	text, err := w.registrar.Challenge(time.Now(), request)
	w.must(err)
	c, err := enrolment.ParseChallenge(text)
	w.must(err)
	return []string{"-user", c.ID, "-password", hex.EncodeToString(d.Activate(c.Credential))}
}

// ask runs GlobalSign's client.
func (w *estWorld) ask(verb string, flags ...string) (string, error) {
	args := append([]string{"-address", w.address, "-roots", w.file("ca/ca.crt")}, flags...)
	out, err := exec.Command(w.program, append(args, verb)...).CombinedOutput()
	return string(out), err
}

// cert reads the one certificate of an answer, and writes it to a file.
func (w *estWorld) cert(name, out string) (*x509.Certificate, string) {
	w.t.Helper()
	block, rest := pem.Decode([]byte(out))
	if block == nil || len(rest) != 0 {
		w.t.Fatalf("%s: no certificate: %s", name, out)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	w.must(err)
	return c, w.put(name, "CERTIFICATE", block.Bytes)
}

// GlobalSign's EST client enrols and renews at the registrar; the secret that the
// TPM opened is its password.
//
// Verifies: SR-034
func TestGlobalSignClient(t *testing.T) {
	w := newESTWorld(t, func(w *estWorld, _ *issue.Roots) issue.Authority {
		ca, err := issue.LoadCA(w.file("ca/ca.crt"), w.file("ca/ca.key"), time.Hour, "")
		w.must(err)
		return ca
	})
	if out, err := w.ask("cacerts"); err != nil || strings.Count(out, "BEGIN CERTIFICATE") != 1 {
		t.Errorf("cacerts: %v\n%s", err, out)
	}
	if out, err := w.ask("csrattrs"); err != nil || !strings.Contains(out, "1.2.840.10045.4.3.2") || !strings.Contains(out, "1.2.840.10045.3.1.7") {
		t.Errorf("csrattrs: %v\n%s", err, out)
	}
	d := w.maker.NewDevice(t, "pump-1")
	key := d.Signer(enrolment.Reporting)
	csr := w.csr("csr.pem", key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-1"}})
	basic := w.challenge(d)
	out, err := w.ask("enroll", append(basic, "-csr", csr)...)
	w.must(err)
	leaf, file := w.cert("reporting.pem", out)
	if leaf.Subject.CommonName != "pump-1" || leaf.URIs[0].String() != "urn:ward:acme:pump-1" {
		t.Errorf("enroll: %s, %v", leaf.Subject, leaf.URIs)
	}
	if out, err := w.ask("enroll", append(basic, "-csr", csr)...); err == nil || !strings.Contains(out, "401") || !strings.Contains(out, "ask for a new challenge") {
		t.Errorf("the same secret again: %v\n%s", err, out)
	}
	own := []string{"-cert", file, "-key", w.key("reporting.key", key)}
	if out, err = w.ask("reenroll", append(own, "-csr", csr)...); err != nil {
		t.Fatalf("reenroll: %v\n%s", err, out)
	}
	if again, _ := w.cert("again.pem", out); again.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("reenroll: no new certificate")
	}
	d.NewKey(enrolment.Reporting)
	next := w.csr("next.pem", d.Signer(enrolment.Reporting), x509.CertificateRequest{})
	if out, err := w.ask("reenroll", append(own, "-csr", next)...); err == nil || !strings.Contains(out, "401") {
		t.Errorf("a new key without a challenge: %v\n%s", err, out)
	}
	if out, err := w.ask("reenroll", append(append(own, w.challenge(d)...), "-csr", next)...); err != nil {
		t.Errorf("a new key: %v\n%s", err, out)
	}
	if out, err := w.ask("reenroll", "-csr", csr); err == nil || !strings.Contains(out, "403") {
		t.Errorf("without a certificate: %v\n%s", err, out)
	}
}

// GlobalSign's EST server issues for the registrar, and what it issues against the
// device's proof is not handed on.
//
// Verifies: SR-034
func TestGlobalSignServer(t *testing.T) {
	w := newESTWorld(t, func(w *estWorld, roots *issue.Roots) issue.Authority {
		var both []byte
		for _, name := range []string{"ca/ca.crt", "ca/ca.key"} {
			b, err := os.ReadFile(w.file(name))
			w.must(err)
			both = append(both, b...)
		}
		w.must(os.WriteFile(w.file("ca.pem"), both, 0o600))
		w.must(issue.MakeCA(time.Now(), w.file("infra"), "Infrastructure", []string{"127.0.0.1"}))
		server := exec.Command(w.program, "-address", "127.0.0.1:0", "-roots", w.file("infra/ca.crt"), "-ca", w.file("ca.pem"),
			"-cert", w.file("infra/127.0.0.1.crt"), "-key", w.file("infra/127.0.0.1.key"), "serve")
		in, err := server.StdinPipe()
		w.must(err)
		out, err := server.StdoutPipe()
		w.must(err)
		w.must(server.Start())
		w.t.Cleanup(func() { _ = in.Close(); _ = server.Wait() })
		line, err := bufio.NewReader(out).ReadString('\n')
		w.must(err)
		w.raPair()
		u, err := issue.NewUpstream("https://"+strings.TrimSpace(line), w.file("infra/ca.crt"), w.file("ra.pem"), w.file("ra.key"), roots)
		w.must(err)
		return u
	})
	d := w.maker.NewDevice(t, "pump-1")
	name, err := url.Parse("urn:ward:acme:pump-1")
	w.must(err)
	key := d.Signer(enrolment.Reporting)
	basic := w.challenge(d)
	forged, err := url.Parse("urn:ward:acme:pump-2")
	w.must(err)
	csr := w.csr("forged.pem", key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-1"}, URIs: []*url.URL{forged}})
	if out, err := w.ask("enroll", append(basic, "-csr", csr)...); err == nil || !strings.Contains(out, "503") {
		t.Errorf("another device's name: %v\n%s", err, out)
	}
	csr = w.csr("csr.pem", key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-1", Organization: []string{"acme"}}, URIs: []*url.URL{name}})
	out, err := w.ask("enroll", append(basic, "-csr", csr)...)
	if err != nil {
		t.Fatalf("enroll: %v\n%s", err, out)
	}
	leaf, file := w.cert("reporting.pem", out)
	if leaf.Subject.CommonName != "pump-1" || leaf.Issuer.CommonName != "Acme Fleet" {
		t.Errorf("enroll: %s by %s", leaf.Subject, leaf.Issuer)
	}
	if out, err := w.ask("reenroll", "-cert", file, "-key", w.key("reporting.key", key), "-csr", csr); err != nil {
		t.Errorf("reenroll: %v\n%s", err, out)
	}
}

// raPair makes the registrar's credentials at the upstream server: ra.pem, ra.key.
func (w *estWorld) raPair() {
	w.t.Helper()
	ca, err := issue.LoadCA(w.file("infra/ca.crt"), w.file("infra/ca.key"), time.Hour, "")
	w.must(err)
	key := w.maker.PolicySigner // any key
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	w.must(err)
	csr, err := issue.ParseCSR(der)
	w.must(err)
	certs, err := ca.Issue(w.t.Context(), time.Now(), issue.Want{Tenant: "acme", Device: "registrar", Use: enrolment.Reporting, CSR: csr})
	w.must(err)
	w.put("ra.pem", "CERTIFICATE", certs[0].Raw)
	w.key("ra.key", key)
}
