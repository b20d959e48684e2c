package issue_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/format/est"
	"ward/internal/trust/enrolment"
)

// upstream starts an EST server that answers with what answer makes, and returns
// a client of it.
func upstream(t *testing.T, roots *issue.Roots, answer http.HandlerFunc) *issue.Upstream {
	t.Helper()
	_, dir := newCA(t, time.Hour, "")
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "127.0.0.1.crt"), filepath.Join(dir, "127.0.0.1.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(answer)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	u, err := issue.NewUpstream(s.URL+"/fleet", filepath.Join(dir, "ca.crt"), filepath.Join(dir, "registrar.test.crt"), filepath.Join(dir, "registrar.test.key"), roots)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// What another EST server issues is taken when it is what was wanted, and nothing
// else is.
//
// Verifies: SR-034
func TestUpstream(t *testing.T) {
	root := newAuthority(t, "Fleet Root", nil)
	issuing, foreign := newAuthority(t, "Fleet Issuing", root), newAuthority(t, "Fleet Root", nil)
	roots, err := issue.LoadRoots(write(t, "root.pem", certPEM(root.cert)))
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	want := issue.Want{Tenant: "acme", Device: "pump-1", Use: enrolment.Reporting, CSR: csr(t, key, "pump-1")}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	pump := pkix.Name{CommonName: "pump-1"}
	certs := func(all ...*x509.Certificate) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || r.URL.Path != "/.well-known/est/fleet/simpleenroll" || r.Header.Get("Content-Type") != est.TypeCSR || string(body) != string(est.EncodeBody(want.CSR.Raw)) {
				t.Errorf("asked at %s, %v", r.URL.Path, r.Header)
			}
			var ders [][]byte
			for _, c := range all {
				ders = append(ders, c.Raw)
			}
			der, err := est.EncodeCerts(ders)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", est.TypeCerts)
			_, _ = w.Write(est.EncodeBody(der))
		}
	}
	leaf := func(c x509.Certificate, by *authority) *x509.Certificate { return sign(t, &c, key.Public(), by, nil) }
	good := leaf(x509.Certificate{Subject: pump, ExtKeyUsage: client}, issuing)
	for name, answer := range map[string]http.HandlerFunc{
		"with those above it": certs(good, issuing.cert),
		"in another order":    certs(root.cert, issuing.cert, good),
		"with its name":       certs(leaf(x509.Certificate{Subject: pump, ExtKeyUsage: client, URIs: uri(t, "urn:ward:acme:pump-1")}, issuing), issuing.cert),
	} {
		chain, err := upstream(t, roots, answer).Issue(t.Context(), time.Now(), want)
		if err != nil || len(chain) != 2 || chain[0].Subject.CommonName != "pump-1" || !chain[1].Equal(issuing.cert) {
			t.Errorf("%s: %d certificates, %v", name, len(chain), err)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", code) }
	}
	past := time.Now().Add(-time.Hour)
	for name, answer := range map[string]http.HandlerFunc{
		"for another key":      certs(sign(t, &x509.Certificate{Subject: pump, ExtKeyUsage: client}, newKey(t).Public(), issuing, nil), issuing.cert),
		"of another device":    certs(leaf(x509.Certificate{Subject: pkix.Name{CommonName: "pump-2"}, ExtKeyUsage: client}, issuing), issuing.cert),
		"with another's name":  certs(leaf(x509.Certificate{Subject: pump, ExtKeyUsage: client, URIs: uri(t, "urn:ward:acme:pump-2")}, issuing), issuing.cert),
		"for service":          certs(leaf(x509.Certificate{Subject: pump, ExtKeyUsage: client, URIs: uri(t, "urn:ward:acme:pump-1:service")}, issuing), issuing.cert),
		"for servers":          certs(leaf(x509.Certificate{Subject: pump, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, issuing), issuing.cert),
		"for servers too":      certs(leaf(x509.Certificate{Subject: pump, ExtKeyUsage: append(client, x509.ExtKeyUsageServerAuth)}, issuing), issuing.cert),
		"for everything":       certs(leaf(x509.Certificate{Subject: pump}, issuing), issuing.cert),
		"an authority":         certs(leaf(x509.Certificate{Subject: pump, ExtKeyUsage: client, IsCA: true}, issuing), issuing.cert),
		"expired":              certs(leaf(x509.Certificate{Subject: pump, ExtKeyUsage: client, NotBefore: past, NotAfter: past.Add(time.Minute)}, issuing), issuing.cert),
		"of another authority": certs(leaf(x509.Certificate{Subject: pump, ExtKeyUsage: client}, foreign), foreign.cert),
		"a chain with a gap":   certs(good),
		"to be approved":       status(http.StatusAccepted),
		"refused":              status(http.StatusForbidden),
		"in trouble":           status(http.StatusInternalServerError),
		"elsewhere":            func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
		"text":                 func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") },
		"no certificates":      func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Type", est.TypeCerts) },
		"without an end": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", est.TypeCerts)
			_, _ = io.WriteString(w, strings.Repeat("A", 2*est.MaxBody))
		},
	} {
		chain, err := upstream(t, roots, answer).Issue(t.Context(), time.Now(), want)
		if !errors.Is(err, issue.ErrAway) || chain != nil {
			t.Errorf("%s: %d certificates, %v", name, len(chain), err)
		}
	}
	// Nobody there; and the host's trust store counts for nothing.
	_, dir := newCA(t, time.Hour, "")
	file := func(name string) string { return filepath.Join(dir, name) }
	s := httptest.NewTLSServer(http.NotFoundHandler())
	for name, address := range map[string]string{"another server's roots": s.URL, "nobody": "https://127.0.0.1:1"} {
		u, err := issue.NewUpstream(address, file("ca.crt"), file("registrar.test.crt"), file("registrar.test.key"), roots)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Issue(t.Context(), time.Now(), want); !errors.Is(err, issue.ErrAway) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Close()
	for _, address := range []string{"http://host", "host:443", "https://", "https://user@host", "https://host/?a=b"} {
		if _, err := issue.NewUpstream(address, file("ca.crt"), file("registrar.test.crt"), file("registrar.test.key"), roots); err == nil {
			t.Errorf("%s: taken", address)
		}
	}
}
