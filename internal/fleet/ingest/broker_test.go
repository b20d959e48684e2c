package ingest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ward/internal/contracttest"
	"ward/internal/device/mqtt"
	"ward/internal/trust/presence"
)

// pki is an authority in a folder, with what it issued beside it.
type pki struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p := &pki{dir: t.TempDir(), cert: cert, key: key, pool: x509.NewCertPool()}
	p.pool.AddCert(cert)
	p.write(t, "ca.crt", "CERTIFICATE", der)
	return p
}

func (p *pki) file(name string) string { return filepath.Join(p.dir, name) }

func (p *pki) write(t testing.TB, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(p.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue makes a certificate and writes NAME.crt and NAME.key.
func (p *pki) issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"acme"}}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.cert, key.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, name+".crt", "CERTIFICATE", der)
	p.write(t, name+".key", "PRIVATE KEY", private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (p *pki) client(t testing.TB, name string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: p.pool, ServerName: "broker", Certificates: []tls.Certificate{p.issue(t, name)}}
}

// mosquitto is a real broker, set up as the MQTT contract says.
type mosquitto struct {
	t    testing.TB
	pki  *pki
	port int
	conf string
	cmd  *exec.Cmd
}

func startMosquitto(t testing.TB, p *pki) *mosquitto {
	t.Helper()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("mosquitto is not installed: run 'make deps'")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	p.issue(t, "broker")
	acl := p.file("acl")
	rights := "user wardfleet\ntopic read ward/v1/+/+/up/#\ntopic write ward/v1/+/+/down/#\n\nuser reader\ntopic read ward/v1/#\n"
	for _, d := range []string{"pump-1", "pump-2"} {
		rights += fmt.Sprintf("\nuser %[1]s\ntopic write ward/v1/acme/%[1]s/up/#\ntopic read ward/v1/acme/%[1]s/down/#\n", d)
	}
	conf := fmt.Sprintf("listener %d 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\ntls_version tlsv1.3\nrequire_certificate true\n"+
		"use_identity_as_username true\nallow_anonymous false\nacl_file %s\nuser root\npersistence false\nmax_packet_size 140000\nlog_dest none\n",
		port, p.file("ca.crt"), p.file("broker.crt"), p.file("broker.key"), acl)
	m := &mosquitto{t: t, pki: p, port: port, conf: p.file("mosquitto.conf")}
	for name, text := range map[string]string{acl: rights, m.conf: conf} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mosquitto) url() string { return fmt.Sprintf("tls://127.0.0.1:%d", m.port) }

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command("mosquitto", "-c", m.conf)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	for range 100 {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.port)); err == nil {
			conn.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.t.Fatal("mosquitto does not listen")
}

func (m *mosquitto) stop() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// reader is mosquitto_sub, which knows nothing of Ward.
type reader struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (r *reader) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(b)
}

// text is what was printed so far.
func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// lines are the messages so far: topic, a blank, payload.
func (r *reader) lines() []string {
	var lines []string
	for l := range strings.Lines(r.text()) {
		topic, digits, ok := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		payload, err := hex.DecodeString(digits)
		if ok && err == nil && strings.HasPrefix(topic, "ward/") && topic != probeTopic && strings.HasSuffix(l, "\n") {
			lines = append(lines, topic+" "+string(payload))
		}
	}
	return lines
}

// keepsContract checks everything that went over the wire so far.
func (r *reader) keepsContract(t testing.TB) {
	t.Helper()
	kinds := make(map[presence.Kind]int)
	for _, l := range r.lines() {
		topic, payload, _ := strings.Cut(l, " ")
		if err := contracttest.Check(topic, []byte(payload)); err != nil {
			t.Error(err)
		}
		if _, _, k, err := presence.ParseTopic(topic); err == nil {
			kinds[k]++
		}
	}
	t.Logf("mosquitto_sub saw %v, all of the contract", kinds)
}

// probeTopic has a retained message, by which mosquitto_sub shows that it has
// subscribed: what it prints about itself stays in its buffer.
const probeTopic = "ward/v1/acme/probe/down/receipt"

func (m *mosquitto) subscribe(t testing.TB) *reader {
	t.Helper()
	if _, err := exec.LookPath("mosquitto_sub"); err != nil {
		t.Skip("mosquitto_sub is not installed: run 'make deps'")
	}
	m.pki.issue(t, "reader")
	backend, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: m.url(), ClientID: "prober", TLS: m.pki.client(t, "wardfleet")})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	if err := backend.Publish(t.Context(), probeTopic, true, []byte("probe")); err != nil {
		t.Fatal(err)
	}
	r := &reader{}
	cmd := exec.Command("mosquitto_sub", "-h", "127.0.0.1", "-p", fmt.Sprint(m.port), "--cafile", m.pki.file("ca.crt"), "--cert", m.pki.file("reader.crt"),
		"--key", m.pki.file("reader.key"), "--insecure", "--tls-version", "tlsv1.3", "-i", "reader", "-q", "1", "-F", "%t %x", "-t", "ward/v1/#")
	cmd.Stdout, cmd.Stderr = r, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); r.keepsContract(t) })
	until(t, "mosquitto_sub subscribes", func() bool { return strings.Contains(r.text(), probeTopic) })
	return r
}
