package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/format/dsse"
)

func openPKI(t *testing.T) *Keys {
	t.Helper()
	p, err := Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificates(t *testing.T, text []byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func pool(a Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Cert)
	return p
}

func TestDeviceCertificate(t *testing.T) {
	p := openPKI(t)
	key := newKey(t)
	text, err := p.IssueDevice(key.Public(), "clinic", "pump-1")
	if err != nil {
		t.Fatal(err)
	}
	chain := certificates(t, text)
	if len(chain) != 2 || !chain[1].Equal(p.Fleet.Cert) {
		t.Fatalf("%d certificates, want the device's and the fleet's", len(chain))
	}
	leaf := chain[0]
	if leaf.Subject.CommonName != "pump-1" || strings.Join(leaf.Subject.Organization, "+") != "clinic" || !key.PublicKey.Equal(leaf.PublicKey) {
		t.Errorf("certificate of %s", leaf.Subject)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("CA %v, key usage %b: a device signs and does nothing else", leaf.IsCA, leaf.KeyUsage)
	}
	verify := func(a Authority, use x509.ExtKeyUsage, at time.Time) error {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool(a), KeyUsages: []x509.ExtKeyUsage{use}, CurrentTime: at})
		return err
	}
	for _, at := range []time.Time{notBefore, time.Now()} { // a device without a battery starts early
		if err := verify(p.Fleet, x509.ExtKeyUsageClientAuth, at); err != nil {
			t.Errorf("at %s: %v", at, err)
		}
	}
	if err := verify(p.Fleet, x509.ExtKeyUsageServerAuth, time.Now()); err == nil {
		t.Error("a device can play the broker")
	}
	if err := verify(p.Foreign, x509.ExtKeyUsageClientAuth, time.Now()); err == nil {
		t.Error("a foreign authority vouches for the device")
	}
	again, err := p.IssueDevice(key.Public(), "clinic", "pump-1")
	if err != nil {
		t.Fatal(err)
	}
	if certificates(t, again)[0].SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("two certificates have one serial number")
	}
}

func TestBrokerCertificates(t *testing.T) {
	p := openPKI(t)
	cases := []struct {
		file string
		name string
		by   Authority
		use  x509.ExtKeyUsage
		good bool
	}{
		{"broker", BrokerName, p.Fleet, x509.ExtKeyUsageServerAuth, true},
		{"broker", BrokerName, p.Foreign, x509.ExtKeyUsageServerAuth, false},
		{"broker", BrokerName, p.Fleet, x509.ExtKeyUsageClientAuth, false},
		{"broker-other-name", BrokerName, p.Fleet, x509.ExtKeyUsageServerAuth, false},
		{"broker-other-name", "elsewhere.ward.lab", p.Fleet, x509.ExtKeyUsageServerAuth, true},
		{"broker-foreign", BrokerName, p.Fleet, x509.ExtKeyUsageServerAuth, false},
		{"backend", "", p.Fleet, x509.ExtKeyUsageClientAuth, true},
		{"backend", "", p.Fleet, x509.ExtKeyUsageServerAuth, false},
		{"reader", "", p.Fleet, x509.ExtKeyUsageClientAuth, true},
	}
	for _, c := range cases {
		text, err := os.ReadFile(p.File(c.file + ".crt"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = certificates(t, text)[0].Verify(x509.VerifyOptions{Roots: pool(c.by), DNSName: c.name, KeyUsages: []x509.ExtKeyUsage{c.use}})
		if (err == nil) != c.good {
			t.Errorf("%s as %q under %s: %v", c.file, c.name, c.by.Cert.Subject.CommonName, err)
		}
	}
}

func TestKeysAreKeptAndPrivate(t *testing.T) {
	first := openPKI(t)
	names, err := filepath.Glob(first.File("*.key"))
	if err != nil || len(names) < 8 {
		t.Fatalf("keys %v, %v", names, err)
	}
	before := map[string][]byte{}
	for _, pattern := range []string{"*.key", "*.crt"} {
		files, err := filepath.Glob(first.File(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if before[f], err = os.ReadFile(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range names {
		info, err := os.Stat(n)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", filepath.Base(n), info.Mode().Perm())
		}
	}
	if info, err := os.Stat(first.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the key folder has mode %v, %v; want 0700", info.Mode().Perm(), err)
	}
	second, err := Open(first.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for f, b := range before {
		if after, err := os.ReadFile(f); err != nil || !bytes.Equal(after, b) {
			t.Errorf("%s was made anew: %v", filepath.Base(f), err)
		}
	}
	if !second.Release.Equal(first.Release) || !second.Receipt.Equal(first.Receipt) || !second.Stray.Equal(first.Stray) || !second.Fleet.Cert.Equal(first.Fleet.Cert) {
		t.Error("the second opening has other keys")
	}
}

func TestBrokenKeyIsNotReplaced(t *testing.T) {
	for _, name := range []string{"release.key", "fleet-ca.crt"} {
		p := openPKI(t)
		if err := os.WriteFile(p.File(name), []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(p.Dir)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
		if b, err := os.ReadFile(p.File(name)); err != nil || string(b) != "nothing" {
			t.Errorf("%s was written over", name)
		}
	}
}

func TestTrustAnchors(t *testing.T) {
	p := openPKI(t)
	anchors, err := p.TrustAnchors()
	if err != nil {
		t.Fatal(err)
	}
	if len(anchors) != 5 {
		t.Errorf("%d anchors, want release, policy, receipt, challenge and fleet", len(anchors))
	}
	for name, text := range anchors {
		if bytes.Contains(text, []byte("PRIVATE")) {
			t.Errorf("%s holds a private key", name)
		}
	}
	envelope, err := dsse.Sign("test", []byte("{}"), p.Release)
	if err != nil {
		t.Fatal(err)
	}
	stray, err := dsse.Sign("test", []byte("{}"), p.Stray)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := dsse.ParseKeyring(anchors["release/lab.pem"])
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := keys.Open(envelope, "test", 1); err != nil {
		t.Error(err)
	}
	if _, _, err := keys.Open(stray, "test", 1); err == nil {
		t.Error("a stray key's signature is accepted")
	}
	if cs := certificates(t, anchors["fleet/lab-ca.pem"]); len(cs) != 1 || !cs[0].Equal(p.Fleet.Cert) {
		t.Error("the fleet's root is another one")
	}
}
