package issue_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/trust/enrolment"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csr(t testing.TB, key crypto.Signer, name string) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := issue.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newCA(t testing.TB, lifetime time.Duration, crlURL string) (*issue.CA, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := issue.MakeCA(time.Now(), dir, "Test CA", []string{"registrar.test", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	ca, err := issue.LoadCA(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"), lifetime, crlURL)
	if err != nil {
		t.Fatal(err)
	}
	return ca, dir
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func certPEM(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func openssl(t testing.TB, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed: run 'make deps'")
	}
	out, err := exec.Command("openssl", args...).CombinedOutput()
	return string(out), err
}

// OpenSSL reads the profile in what is issued, and takes it for TLS clients alone.
//
// Verifies: SR-034
func TestProfile(t *testing.T) {
	ca, dir := newCA(t, time.Hour, "http://registrar.test/.well-known/ward/crl")
	key := newKey(t)
	for use, want := range map[enrolment.Use][]string{
		enrolment.Reporting: {"Subject: O = acme, CN = pump-1\n", "URI:urn:ward:acme:pump-1\n"},
		enrolment.Service:   {"Subject: O = acme, OU = service, CN = pump-1\n", "URI:urn:ward:acme:pump-1:service\n"},
	} {
		now := time.Now()
		chain, err := ca.Issue(t.Context(), now, issue.Want{Tenant: "acme", Device: "pump-1", Use: use, CSR: csr(t, key, "a name of its own")})
		if err != nil || len(chain) != 1 {
			t.Fatalf("%d certificates, %v", len(chain), err)
		}
		leaf := chain[0]
		file := write(t, "leaf.pem", certPEM(leaf))
		text, err := openssl(t, "x509", "-in", file, "-noout", "-text")
		if err != nil {
			t.Fatal(text)
		}
		for _, w := range append(want, "Version: 3", "TLS Web Client Authentication\n", "X509v3 Key Usage: critical\n                Digital Signature\n",
			"CA:FALSE", "Subject Key Identifier", "Authority Key Identifier", "URI:http://registrar.test/.well-known/ward/crl", "NIST CURVE: P-256", "ecdsa-with-SHA256") {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in\n%s", use, w, text)
			}
		}
		if out, err := openssl(t, "verify", "-CAfile", filepath.Join(dir, "ca.crt"), "-purpose", "sslclient", "-x509_strict", file); err != nil {
			t.Error(out)
		}
		for _, purpose := range []string{"sslserver", "smimesign", "crlsign"} {
			if out, err := openssl(t, "verify", "-CAfile", filepath.Join(dir, "ca.crt"), "-purpose", purpose, file); err == nil {
				t.Errorf("good for %s: %s", purpose, out)
			}
		}
		if n := leaf.SerialNumber.BitLen(); n > 120 || n < 80 {
			t.Errorf("serial number of %d bits", n)
		}
		if before, after := now.Sub(leaf.NotBefore), leaf.NotAfter.Sub(now); after > time.Hour || after < time.Hour-2*time.Second || before < 0 || before > 5*time.Minute+2*time.Second {
			t.Errorf("good from %s to %s", leaf.NotBefore, leaf.NotAfter)
		}
	}
}

// No certificate lives beyond its authority, nor before it; an authority that is
// over gives none.
//
// Verifies: SR-034
func TestLifetimeIsTheAuthoritysAtMost(t *testing.T) {
	ca, dir := newCA(t, 20*365*24*time.Hour, "")
	root, err := issue.LoadCertificates(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	want := issue.Want{Tenant: "acme", Device: "pump-1", Use: enrolment.Reporting, CSR: csr(t, newKey(t), "")}
	for _, now := range []time.Time{root[0].NotBefore, time.Now(), root[0].NotAfter.Add(-time.Second)} {
		chain, err := ca.Issue(t.Context(), now, want)
		if err != nil {
			t.Fatal(err)
		}
		if chain[0].NotBefore.Before(root[0].NotBefore) || !chain[0].NotAfter.Equal(root[0].NotAfter) {
			t.Errorf("at %s: from %s to %s", now, chain[0].NotBefore, chain[0].NotAfter)
		}
	}
	for _, now := range []time.Time{root[0].NotBefore.Add(-time.Second), root[0].NotAfter} {
		if _, err := ca.Issue(t.Context(), now, want); !errors.Is(err, issue.ErrAway) {
			t.Errorf("at %s: %v", now, err)
		}
	}
}

// OpenSSL reads the revocation list, and refuses what stands on it.
//
// Verifies: SR-035
func TestCRL(t *testing.T) {
	ca, dir := newCA(t, time.Hour, "")
	now := time.Now()
	var files []string
	var revoked []x509.RevocationListEntry
	for n, device := range []string{"pump-1", "pump-2"} {
		chain, err := ca.Issue(t.Context(), now, issue.Want{Tenant: "acme", Device: device, Use: enrolment.Reporting, CSR: csr(t, newKey(t), "")})
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, write(t, device, certPEM(chain...)))
		if n == 0 {
			revoked = append(revoked, x509.RevocationListEntry{SerialNumber: chain[0].SerialNumber, RevocationTime: now, ReasonCode: issue.ReasonCessation})
		}
	}
	der, err := ca.CRL(now, big.NewInt(4711), 48*time.Hour, revoked)
	if err != nil {
		t.Fatal(err)
	}
	list := write(t, "crl.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	text, err := openssl(t, "crl", "-in", list, "-noout", "-text", "-CAfile", filepath.Join(dir, "ca.crt"))
	if err != nil || !strings.Contains(text, "verify OK") || !strings.Contains(text, "Cessation Of Operation") || !strings.Contains(text, "X509v3 CRL Number: \n                4711") {
		t.Errorf("%v\n%s", err, text)
	}
	args := []string{"verify", "-CAfile", filepath.Join(dir, "ca.crt"), "-crl_check", "-CRLfile", list, "-purpose", "sslclient"}
	if out, err := openssl(t, append(args, files[0])...); err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("the revoked one: %s", out)
	}
	if out, err := openssl(t, append(args, files[1])...); err != nil {
		t.Errorf("the other: %s", out)
	}
	if got, err := ca.VerifyCRL(der); err != nil || got.Number.Int64() != 4711 || len(got.RevokedCertificateEntries) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	other, _ := newCA(t, time.Hour, "")
	if _, err := other.VerifyCRL(der); err == nil {
		t.Error("a list of another authority was taken")
	}
	if _, err := ca.VerifyCRL(der[:20]); err == nil {
		t.Error("a cut list was taken")
	}
}

// Verifies: SR-034
func TestParseCSR(t *testing.T) {
	der := func(key crypto.Signer) []byte {
		b, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-1"}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := der(newKey(t))
	broken := append([]byte{}, good...)
	broken[len(broken)-1] ^= 1
	if _, err := issue.ParseCSR(good); err != nil {
		t.Error(err)
	}
	for name, b := range map[string][]byte{
		"RSA": der(rsaKey), "P-384": der(p384), "broken": broken, "cut": good[:len(good)-1], "followed": append(append([]byte{}, good...), 0),
		"empty": nil, "long": make([]byte, issue.MaxCSR+1),
	} {
		if _, err := issue.ParseCSR(b); !errors.Is(err, issue.ErrCSR) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseCSR(f *testing.F) {
	f.Add(csr(f, newKey(f), "pump-1").Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := issue.ParseCSR(b); err == nil && c.PublicKey.(*ecdsa.PublicKey).Curve != elliptic.P256() {
			t.Error("another curve")
		}
	})
}

// Verifies: SR-034
func TestLoadCARefuses(t *testing.T) {
	_, one := newCA(t, time.Hour, "")
	_, two := newCA(t, time.Hour, "")
	file := func(dir, name string) string { return filepath.Join(dir, name) }
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(small)
	if err != nil {
		t.Fatal(err)
	}
	weak := write(t, "weak.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	for name, c := range map[string]struct {
		cert, key string
		lifetime  time.Duration
		url       string
	}{
		"another's key":     {file(one, "ca.crt"), file(two, "ca.key"), time.Hour, ""},
		"no authority":      {file(one, "registrar.test.crt"), file(one, "registrar.test.key"), time.Hour, ""},
		"no certificate":    {file(one, "ca.key"), file(one, "ca.key"), time.Hour, ""},
		"no key":            {file(one, "ca.crt"), file(one, "ca.crt"), time.Hour, ""},
		"a weak key":        {file(one, "ca.crt"), weak, time.Hour, ""},
		"no file":           {file(one, "none"), file(one, "ca.key"), time.Hour, ""},
		"no time":           {file(one, "ca.crt"), file(one, "ca.key"), time.Second, ""},
		"a list at no host": {file(one, "ca.crt"), file(one, "ca.key"), time.Hour, "crl.der"},
		"a list by ldap":    {file(one, "ca.crt"), file(one, "ca.key"), time.Hour, "ldap://host/crl"},
	} {
		if _, err := issue.LoadCA(c.cert, c.key, c.lifetime, c.url); err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v is more than a line", name, err)
		}
	}
	if err := issue.MakeCA(time.Now(), one, "Another", nil); err == nil || !strings.Contains(err.Error(), "never replaced") {
		t.Errorf("made over another: %v", err)
	}
	if out, err := openssl(t, "verify", "-CAfile", file(one, "ca.crt"), "-purpose", "sslserver", "-verify_ip", "127.0.0.1", file(one, "127.0.0.1.crt")); err != nil {
		t.Error(out)
	}
}

// authority is one made by hand.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func sign(t testing.TB, template *x509.Certificate, public crypto.PublicKey, by *authority, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.BasicConstraintsValid = big.NewInt(time.Now().UnixNano()), true
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent := template
	if by != nil {
		parent, key = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newAuthority(t testing.TB, name string, by *authority) *authority {
	t.Helper()
	key := newKey(t)
	return &authority{sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, key.Public(), by, key), key}
}

func (a *authority) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// An issuing authority beneath a root is sent with the certificate, the root is
// not; and while a root is exchanged, who trusts the old one believes the new one.
//
// Verifies: SR-034
func TestIntermediateAndRollover(t *testing.T) {
	root := newAuthority(t, "Fleet Root", nil)
	issuing := newAuthority(t, "Fleet Issuing", root)
	ca, err := issue.LoadCA(write(t, "ca.crt", certPEM(issuing.cert, root.cert)), write(t, "ca.key", issuing.keyPEM(t)), time.Hour, "")
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Issue(t.Context(), time.Now(), issue.Want{Tenant: "acme", Device: "pump-1", Use: enrolment.Reporting, CSR: csr(t, newKey(t), "")})
	if err != nil || len(chain) != 2 || !chain[1].Equal(issuing.cert) {
		t.Fatalf("%d certificates, %v", len(chain), err)
	}

	next := newAuthority(t, "Fleet Root", nil) // the same name, another key (RFC 4210, section 4.4)
	newWithOld := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Fleet Root"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, next.key.Public(), root, nil)
	oldWithNew := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Fleet Root"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, root.key.Public(), next, nil)
	rollover := write(t, "rollover.pem", certPEM(next.cert, newWithOld, oldWithNew))
	roots, err := issue.LoadRoots(write(t, "old.pem", certPEM(root.cert)), rollover)
	if err != nil || len(roots.DER()) != 4 {
		t.Fatalf("%d certificates, %v", len(roots.DER()), err)
	}
	if got, err := roots.Verify(time.Now(), chain[0], chain[1]); err != nil || len(got) < 2 {
		t.Errorf("%d certificates, %v", len(got), err)
	}
	if roots, err = issue.LoadRoots(write(t, "old.pem", certPEM(root.cert, newWithOld))); err != nil {
		t.Fatal(err)
	}
	leaf := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "pump-1"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, newKey(t).Public(), next, nil)
	if _, err := roots.Verify(time.Now(), leaf); err != nil {
		t.Errorf("who trusts the old root alone: %v", err)
	}
	for name, file := range map[string]string{
		"no root":        write(t, "issuing.pem", certPEM(issuing.cert)),
		"a device's":     write(t, "leaf.pem", certPEM(root.cert, leaf)),
		"a key with it":  write(t, "key.pem", append(certPEM(root.cert), root.keyPEM(t)...)),
		"no certificate": write(t, "empty.pem", nil),
	} {
		if _, err := issue.LoadRoots(file); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func uri(t testing.TB, s string) []*url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return []*url.URL{u}
}
