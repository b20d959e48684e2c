package serverauth_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth"
	"ward/internal/trust/serverauth/serverauthtest"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// handshake connects and reads one byte, after which both sides have admitted
// each other.
func handshake(t *testing.T, client, server *tls.Config) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if conn := tls.Server(c, server); conn.Handshake() == nil {
			_, _ = conn.Write([]byte{1})
		}
	}()
	conn, err := (&tls.Dialer{Config: client}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// Every row of the list of servers that must be refused, against a real TLS
// server.
//
// Verifies: SR-044
func TestRefusals(t *testing.T) {
	w := serverauthtest.NewWorld(t, "broker.example", now)
	for _, s := range w.Servers {
		t.Run(s.Name, func(t *testing.T) {
			err := handshake(t, w.Client(t), s.TLS)
			if s.Code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("it was accepted")
			}
			r := serverauth.Explain(err)
			if r.Code != s.Code || r.Step != s.Step || r.Detail == "" || strings.Contains(r.Detail, "\n") {
				t.Errorf("%v\nexplained as %+v, want %s at %s", err, r, s.Code, s.Step)
			}
			if f := r.Finding(); f.Remedy == "" || f.Code != s.Code {
				t.Errorf("finding %+v", f)
			}
			if s.Name == "self-signed" && !strings.Contains(r.Detail, "self-signed") {
				t.Errorf("%q does not say so", r.Detail)
			}
		})
	}
}

// Check alone, without the library's own verification, comes to the same.
//
// Verifies: SR-044
func TestCheckAlone(t *testing.T) {
	w := serverauthtest.NewWorld(t, "broker.example", now)
	for _, s := range w.Servers {
		if s.Code == finding.LinkTLSVersion {
			continue // no matter of the certificate
		}
		err := serverauth.Check([]*x509.Certificate{s.TLS.Certificates[0].Leaf}, w.Policy(t))
		if got := serverauth.Explain(err).Code; got != s.Code {
			t.Errorf("%s: %v, want %q", s.Name, err, s.Code)
		}
	}
	for _, chain := range [][]*x509.Certificate{nil, make([]*x509.Certificate, 9)} {
		if err := serverauth.Check(chain, w.Policy(t)); !errors.Is(err, serverauth.ErrNoChain) || serverauth.Explain(err).Code != finding.LinkServerUntrusted {
			t.Errorf("%d certificates: %v", len(chain), err)
		}
	}
}

// A certificate whose signature is made with SHA-1 is weak, not only unknown.
// Go no longer makes one, so the algorithm of a good one is changed: the chain
// does not verify, and the reason that is told is the hash.
func TestBrokenHash(t *testing.T) {
	w := serverauthtest.NewWorld(t, "broker.example", now)
	raw := w.Accepted.Certificates[0].Leaf.Raw
	sha1 := oid(t, 1, 2, 840, 10045, 4, 1)
	der := rebuild(t, raw, sha1)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if cert.SignatureAlgorithm != x509.ECDSAWithSHA1 {
		t.Fatalf("algorithm %s", cert.SignatureAlgorithm)
	}
	err = serverauth.Check([]*x509.Certificate{cert}, w.Policy(t))
	if !errors.Is(err, serverauth.ErrWeakSign) || serverauth.Explain(err).Code != finding.LinkServerWeak {
		t.Errorf("%v", err)
	}
}

func oid(t *testing.T, arcs ...int) string {
	b, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rebuild gives a certificate another signature algorithm.
func rebuild(t *testing.T, raw []byte, algorithm string) []byte {
	t.Helper()
	var outer struct{ TBS, Algorithm, Signature asn1.RawValue }
	if _, err := asn1.Unmarshal(raw, &outer); err != nil {
		t.Fatal(err)
	}
	sequence := func(parts ...[]byte) []byte {
		b, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: []byte(strings.Join(texts(parts), ""))})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	alg := sequence([]byte(algorithm))
	var parts [][]byte
	rest := outer.TBS.Bytes
	for i := 0; len(rest) > 0; i++ {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			t.Fatal(err)
		}
		if i == 2 { // version, serial number, signature
			parts = append(parts, alg)
			continue
		}
		parts = append(parts, v.FullBytes)
	}
	return sequence(sequence(parts...), alg, outer.Signature.FullBytes)
}

func texts(parts [][]byte) []string {
	var out []string
	for _, p := range parts {
		out = append(out, string(p))
	}
	return out
}

// Verifies: SR-044
func TestRevocationLists(t *testing.T) {
	fleet, other := serverauthtest.NewAuthority(t, "fleet", now), serverauthtest.NewAuthority(t, "fleet", now)
	key := serverauthtest.NewKey(t)
	leaf := fleet.Certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "b"}, DNSNames: []string{"b"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	issuers := []*x509.Certificate{fleet.Cert}
	parse := func(der []byte) *x509.RevocationList {
		l, err := serverauth.ParseCRL(der, []*x509.Certificate{fleet.Cert, other.Cert})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	check := func(grace time.Duration, lists ...*x509.RevocationList) error {
		return serverauth.Check([]*x509.Certificate{leaf}, serverauth.Policy{Roots: issuers, Name: "b", Now: now, CRLs: lists, CRLGrace: grace})
	}
	fresh, stale := parse(fleet.CRL(t, 2, now.Add(-time.Hour))), parse(fleet.CRL(t, 1, now.Add(-72*time.Hour)))

	if err := check(0, fresh); err != nil {
		t.Errorf("a good list: %v", err)
	}
	if err := check(0, parse(fleet.CRL(t, 3, now.Add(-72*time.Hour), leaf))); !errors.Is(err, serverauth.ErrRevoked) {
		t.Errorf("revoked by an old list: %v", err)
	}
	// The device's policy: an old list is a finding and no refusal, for ever.
	if err := check(0, stale); err != nil {
		t.Errorf("a stale list silences the device: %v", err)
	}
	if err := serverauth.Stale(stale, now); !errors.Is(err, serverauth.ErrCRLStale) || serverauth.Explain(err).Code != finding.LinkCRLStale {
		t.Errorf("a stale list: %v", err)
	}
	if err := serverauth.Stale(fresh, now); err != nil {
		t.Errorf("a fresh list: %v", err)
	}
	// The strict policy refuses beyond its grace, and not before.
	if err := check(72*time.Hour, stale); err != nil {
		t.Errorf("within the grace: %v", err)
	}
	if err := check(time.Hour, stale); !errors.Is(err, serverauth.ErrCRLStale) {
		t.Errorf("beyond the grace: %v", err)
	}
	// A list of another authority with the same name.
	if err := check(0, parse(other.CRL(t, 1, now, leaf))); !errors.Is(err, serverauth.ErrCRLSignature) || serverauth.Explain(err).Code != finding.LinkCRLStale {
		t.Errorf("another authority's list: %v", err)
	}
	if _, err := serverauth.ParseCRL(other.CRL(t, 1, now), issuers); !errors.Is(err, serverauth.ErrCRLSignature) {
		t.Errorf("a list that nobody of the fleet signed: %v", err)
	}
	for _, b := range [][]byte{nil, []byte("hello"), make([]byte, serverauth.MaxCRL+1)} {
		if _, err := serverauth.ParseCRL(b, issuers); !errors.Is(err, serverauth.ErrCRLFormat) {
			t.Errorf("%d bytes that are no list: %v", len(b), err)
		}
	}
	if err := serverauth.Newer(stale, fresh); !errors.Is(err, serverauth.ErrCRLOlder) {
		t.Errorf("an older list is played back: %v", err)
	}
	if err := errors.Join(serverauth.Newer(fresh, stale), serverauth.Newer(fresh, fresh), serverauth.Newer(fresh, nil)); err != nil {
		t.Errorf("a newer list: %v", err)
	}
	// A hold that has ended is no revocation.
	held := *fresh
	held.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: leaf.SerialNumber, ReasonCode: 8}, {SerialNumber: big.NewInt(1)}, {}}
	if serverauth.Lists(&held, leaf) {
		t.Error("a hold that has ended revokes")
	}
}

// Two roots at once: servers of both are accepted.
//
// Verifies: SR-044
func TestTwoRoots(t *testing.T) {
	a, b := serverauthtest.NewWorld(t, "broker.example", now), serverauthtest.NewWorld(t, "broker.example", now)
	p := a.Policy(t)
	p.Roots = append(p.Roots, b.Fleet.Cert)
	for i, w := range []*serverauthtest.World{a, b} {
		if err := serverauth.Check([]*x509.Certificate{w.Accepted.Certificates[0].Leaf}, p); err != nil {
			t.Errorf("root %d: %v", i, err)
		}
	}
}

func TestExplainTheRest(t *testing.T) {
	for _, row := range []struct {
		err  error
		code finding.Code
		step serverauth.Step
	}{
		{nil, "", ""},
		{io.EOF, finding.LinkDown, serverauth.Reach},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, finding.LinkDown, serverauth.Reach},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: revoked certificate")}, finding.LinkRefused, serverauth.Admission},
		{errors.New("remote error: tls: revoked certificate"), finding.LinkRefused, serverauth.Admission},
		{errors.New("tls: server selected unsupported protocol version 302"), finding.LinkTLSVersion, serverauth.Version},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, finding.LinkServerUntrusted, serverauth.Trust},
		{errors.New("tls: something of its own"), finding.LinkServerUntrusted, serverauth.Trust},
		{fmt.Errorf("two\nlines: %w", x509.CertificateInvalidError{Reason: x509.NameConstraintsWithoutSANs}), finding.LinkServerUntrusted, serverauth.Trust},
	} {
		r := serverauth.Explain(row.err)
		if r.Code != row.code || r.Step != row.step || strings.Contains(r.Detail, "\n") {
			t.Errorf("%v: %+v, want %s at %s", row.err, r, row.code, row.step)
		}
	}
}

// FuzzParseCRL: whatever comes as a list gives a list of a known authority or an
// error, never a panic.
func FuzzParseCRL(f *testing.F) {
	fleet := serverauthtest.NewAuthority(f, "fleet", now)
	f.Add(fleet.CRL(f, 1, now, fleet.Cert))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := serverauth.ParseCRL(b, []*x509.Certificate{fleet.Cert})
		if (list == nil) == (err == nil) {
			t.Fatalf("list %v, error %v", list, err)
		}
		if list != nil {
			_ = serverauth.Lists(list, fleet.Cert)
			_ = serverauth.Stale(list, now)
			_ = serverauth.Newer(list, list)
		}
	})
}
