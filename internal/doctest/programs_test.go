package doctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The programs of docs/programs use the service identity through the local socket.
// Here the socket is a stub: it signs with a key in memory.

// authority issues the certificates of a test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{key: newKey(t), cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Authority"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}}
	a.cert.Raw = a.issue(t, a.cert, &a.key.PublicKey)
	var err error
	if a.cert, err = x509.ParseCertificate(a.cert.Raw); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a authority) issue(t *testing.T, template *x509.Certificate, public *ecdsa.PublicKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// stub is wardd's local socket, as far as the identity goes.
func stub(t *testing.T, chain string, sign func(digest []byte) ([]byte, error)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock") // a UNIX socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/identity/chain", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("use") != "service" {
			http.Error(w, "want the service identity", http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"chain": chain})
	})
	mux.HandleFunc("POST /v1/identity/sign", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Use    string `json:"use"`
			Digest []byte `json:"digest"`
		}
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil || q.Use != "service" || len(q.Digest) != 32 || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, fmt.Sprintf("%+v, %v", q, err), http.StatusBadRequest)
			return
		}
		signature, err := sign(q.Digest)
		if err != nil {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string][]byte{"signature": signature})
	})
	path := filepath.Join(dir, "wardd.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return path
}

// source is the path of a program of docs/programs.
func source(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../docs/programs", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func build(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command[0], err, out)
	}
}

// Verifies: SR-033
func TestProgramInGo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "client")
	// Named as a file it is built, whatever its build constraint.
	build(t, "go", "build", "-o", program, source(t, "client.go"))
	tryProgram(t, program)
}

// Verifies: SR-033
func TestProgramInC(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed: run 'make deps'")
	}
	probe := exec.Command("gcc", "-E", "-x", "c", "-")
	probe.Stdin = strings.NewReader("#include <openssl/ssl.h>\n")
	if probe.Run() != nil {
		t.Skip("OpenSSL's headers (libssl-dev) are not installed: run 'make deps'")
	}
	program := filepath.Join(t.TempDir(), "client")
	build(t, "gcc", "-Wall", "-Werror", "-o", program, source(t, "client.c"), "-lssl", "-lcrypto")
	tryProgram(t, program)
}

// tryProgram runs a program with sockets and servers that are as they should be, and
// with some that are not.
func tryProgram(t *testing.T, program string) {
	t.Helper()
	a, stranger := newAuthority(t), newAuthority(t)
	key, other := newKey(t), newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "SN-0001"}, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	chain := string(certPEM(a.issue(t, template, &key.PublicKey))) + string(certPEM(a.cert.Raw))
	with := func(k *ecdsa.PrivateKey) func([]byte) ([]byte, error) {
		return func(digest []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, k, digest) }
	}
	_, port, _ := net.SplitHostPort(clinicalService(t, a))
	roots := func(a authority) string {
		file := filepath.Join(t.TempDir(), "roots.pem")
		if err := os.WriteFile(file, certPEM(a.cert.Raw), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := stub(t, chain, with(key))
	for _, c := range []struct {
		name, roots, socket string
		want                string // printed; empty: the program fails
		complaint           string
	}{
		{"as documented", roots(a), good, "hello SN-0001", ""},
		{"a server of another authority", roots(stranger), good, "", "certificate"},
		{"no wardd", roots(a), filepath.Join(t.TempDir(), "none.sock"), "", "none.sock"},
		{"not an approved boot state", roots(a), stub(t, chain, func([]byte) ([]byte, error) {
			return nil, fmt.Errorf("the boot state is not approved")
		}), "", "the boot state is not approved"},
		{"a signature by another key", roots(a), stub(t, chain, with(other)), "", ""},
		{"a signature that is none", roots(a), stub(t, chain, func([]byte) ([]byte, error) { return []byte("signature"), nil }), "", ""},
		{"a long signature", roots(a), stub(t, chain, func([]byte) ([]byte, error) { return make([]byte, 4096), nil }), "", ""},
		{"no certificate", roots(a), stub(t, "", with(key)), "", "no certificate"},
	} {
		cmd := exec.CommandContext(t.Context(), program, "localhost", port, c.roots, c.socket)
		var complaint strings.Builder
		cmd.Stderr = &complaint
		out, err := cmd.Output()
		if c.want != "" && (err != nil || !strings.Contains(string(out), c.want)) {
			t.Errorf("%s: %v\n%s%s", c.name, err, out, complaint.String())
		}
		if c.want == "" && (err == nil || strings.Contains(string(out), "hello") || !strings.Contains(complaint.String(), c.complaint)) {
			t.Errorf("%s: %v, printed %q, want a complaint with %q:\n%s", c.name, err, out, c.complaint, complaint.String())
		}
	}
}

// clinicalService is a TLS 1.3 server that demands a client certificate of the
// authority, and greets whose it is.
func clinicalService(t *testing.T, a authority) string {
	t.Helper()
	key := newKey(t)
	der := a.issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}, &key.PublicKey)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s\n", r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	s.TLS = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
