// Package mqtttest gives tests what stands at the other end of an MQTT link
// (OASIS MQTT 3.1.1), and between: the real broker mosquitto, a broker that does
// whatever a test wants of it, a proxy for CONNECT (RFC 9110, section 9.3.6) and
// a relay that cuts, swallows and slows, with an authority for all of them.
package mqtttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// ServerName is the name in every broker's certificate.
const ServerName = "broker"

// PKI is an authority in a folder, with what it issued beside it.
type PKI struct {
	Pool *x509.CertPool
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewPKI makes an authority.
func NewPKI(t testing.TB) *PKI {
	t.Helper()
	p := &PKI{dir: t.TempDir(), Pool: x509.NewCertPool()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, key := p.certify(t, template)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p.cert, p.key = cert, key
	p.Pool.AddCert(cert)
	p.write(t, "ca.crt", "CERTIFICATE", der)
	return p
}

func (p *PKI) certify(t testing.TB, template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := p.cert, p.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

func (p *PKI) file(name string) string { return filepath.Join(p.dir, name) }

func (p *PKI) write(t testing.TB, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(p.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Issue makes a certificate and writes NAME.crt and NAME.key.
func (p *PKI) Issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	der, key := p.certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{"acme"}}, DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, name+".crt", "CERTIFICATE", der)
	p.write(t, name+".key", "PRIVATE KEY", private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Client is the configuration of who connects under a name.
func (p *PKI) Client(t testing.TB, name string) *tls.Config {
	t.Helper()
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: p.Pool, ServerName: ServerName, Certificates: []tls.Certificate{p.Issue(t, name)}}
}

// Server is a broker's configuration: TLS 1.3, and a certificate of the
// authority from who connects.
func (p *PKI) Server(t testing.TB) *tls.Config {
	t.Helper()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{p.Issue(t, ServerName)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.Pool,
	}
}
