package serverauthtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth"
)

// Server is one server, and why it must be refused.
type Server struct {
	Name string
	TLS  *tls.Config
	Code finding.Code // empty: it must be accepted
	Step serverauth.Step
}

// World is a fleet with its servers.
type World struct {
	Fleet    Authority
	Host     string
	Servers  []Server
	CRL      []byte // names the revoked server
	Now      time.Time
	Accepted *tls.Config // of the server as it should be
}

// NewWorld makes the servers for a host name. Key and certificate of each are new.
func NewWorld(t testing.TB, host string, now time.Time) *World {
	t.Helper()
	w := &World{Fleet: NewAuthority(t, "fleet", now), Host: host, Now: now}
	foreign := NewAuthority(t, "somebody else", now)
	self := Authority{Key: NewKey(t)}
	shortRSA, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	revoked := w.template()
	good := w.config(t, w.Fleet, w.template(), NewKey(t))
	w.Accepted = good
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	w.Servers = []Server{
		{"as it should be", good, "", ""},
		{"other CA", w.config(t, foreign, w.template(), NewKey(t)), finding.LinkServerUntrusted, serverauth.Trust},
		{"other name", w.config(t, w.Fleet, w.changed(func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere.example"} }), NewKey(t)), finding.LinkServerName, serverauth.Name},
		{"expired", w.config(t, w.Fleet, w.changed(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }), NewKey(t)), finding.LinkServerExpired, serverauth.Time},
		{"not yet valid", w.config(t, w.Fleet, w.changed(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), NewKey(t)), finding.LinkServerNotYetValid, serverauth.Time},
		{"revoked", w.config(t, w.Fleet, revoked, NewKey(t)), finding.LinkServerRevoked, serverauth.Revocation},
		{"TLS 1.2 only", old, finding.LinkTLSVersion, serverauth.Version},
		{"RSA-1024", w.config(t, w.Fleet, w.template(), shortRSA), finding.LinkServerWeak, serverauth.Strength},
		{"curve P-521", w.config(t, w.Fleet, w.template(), p521), finding.LinkServerWeak, serverauth.Strength},
		{"self-signed", w.config(t, self, w.template(), self.Key), finding.LinkServerUntrusted, serverauth.Trust},
		{"client use only", w.config(t, w.Fleet, w.changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), NewKey(t)), finding.LinkServerUsage, serverauth.Usage},
	}
	w.CRL = w.Fleet.CRL(t, 1, now.Add(-time.Hour), w.Servers[5].TLS.Certificates[0].Leaf)
	return w
}

// Policy is the one that a device of this fleet has.
func (w *World) Policy(t testing.TB) serverauth.Policy {
	t.Helper()
	list, err := serverauth.ParseCRL(w.CRL, []*x509.Certificate{w.Fleet.Cert})
	if err != nil {
		t.Fatal(err)
	}
	return serverauth.Policy{Roots: []*x509.Certificate{w.Fleet.Cert}, Name: w.Host, CRLs: []*x509.RevocationList{list}, Now: w.Now}
}

// Client is the TLS configuration of a device of this fleet: its policy beside
// the library's own verification.
func (w *World) Client(t testing.TB) *tls.Config {
	t.Helper()
	p := w.Policy(t)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: w.Fleet.Pool(), ServerName: w.Host, Time: func() time.Time { return w.Now },
		VerifyConnection: func(cs tls.ConnectionState) error { return serverauth.Check(cs.PeerCertificates, p) },
	}
}

func (w *World) template() *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: w.Host}, DNSNames: []string{w.Host}, NotBefore: w.Now.AddDate(-1, 0, 0), NotAfter: w.Now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

func (w *World) changed(change func(*x509.Certificate)) *x509.Certificate {
	c := w.template()
	change(c)
	return c
}

func (w *World) config(t testing.TB, by Authority, template *x509.Certificate, key crypto.Signer) *tls.Config {
	t.Helper()
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{Pair(key, by.Certify(t, template, key.Public()))},
		Time: func() time.Time { return w.Now },
	}
}
