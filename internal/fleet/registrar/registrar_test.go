package registrar_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/fleet/registrar"
	"ward/internal/format/est"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/enrolment/enrolmenttest"
)

func openssl(t testing.TB, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed: run 'make deps'")
	}
	out, err := exec.Command("openssl", args...).CombinedOutput()
	return string(out), err
}

// A device enrols both keys with one challenge, is in the register with its
// attestation key, renews with its certificate, and OpenSSL takes what it was
// given.
//
// Verifies: SR-034
func TestEnrolAndRenew(t *testing.T) {
	w := newWorld(t, nil)
	d := w.maker.NewDevice(t, "pump-1")
	basic := w.challenge(d)
	chains := make(map[enrolment.Use][]*x509.Certificate)
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		certs := w.certs(w.do(enrollCall(t, basic, csrDER(t, d.Signer(use), "pump-1"))))
		if len(certs) != 1 || certs[0].Subject.CommonName != "pump-1" || certs[0].Subject.Organization[0] != tenant || certs[0].URIs[0].String() != issue.URI(tenant, "pump-1", use).String() {
			t.Fatalf("%s: %d certificates, %s %v", use, len(certs), certs[0].Subject, certs[0].URIs)
		}
		if out, err := openssl(t, "verify", "-CAfile", w.file("ca/ca.crt"), "-purpose", "sslclient", "-x509_strict", certFile(t, certs[0])); err != nil {
			t.Error(out)
		}
		chains[use] = certs
	}
	key, err := w.register().Lookup(time.Now(), tenant, "pump-1")
	if err != nil || key == nil || !key.Public.Equal(d.AK()) {
		t.Errorf("the verifier sees %+v, %v", key, err)
	}
	reporting := pair(chains[enrolment.Reporting], d.Signer(enrolment.Reporting))

	same := w.certs(w.do(reenrollCall(t, reporting, registrar.Basic{}, csrDER(t, d.Signer(enrolment.Reporting), ""))))
	if same[0].SerialNumber.Cmp(reporting.Leaf.SerialNumber) == 0 || !same[0].PublicKey.(*ecdsa.PublicKey).Equal(reporting.Leaf.PublicKey) {
		t.Error("the same key: no new certificate for it")
	}
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		d.NewKey(use)
	}
	basic = w.challenge(d)
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		next := w.certs(w.do(reenrollCall(t, reporting, basic, csrDER(t, d.Signer(use), ""))))
		if !next[0].PublicKey.(*ecdsa.PublicKey).Equal(d.Signer(use).Public()) {
			t.Errorf("%s: a certificate for another key", use)
		}
	}
	// A device whose certificate has expired enrols again.
	w.enroll(d, enrolment.Reporting)

	record, err := os.ReadFile(w.file("devices/acts.jsonl"))
	if err != nil || strings.Count(string(record), "\n") != 1 {
		t.Errorf("acts %s, %v", record, err)
	}
	record, err = os.ReadFile(w.file("devices/issued.jsonl"))
	if err != nil || strings.Count(string(record), `"act":"enrol"`) != 3 || strings.Count(string(record), `"act":"renew"`) != 3 {
		t.Errorf("certificates %s, %v", record, err)
	}
	if n := w.registrar.Counts()["issued"]; n != 6 || len(w.seen("issued")) != 6 {
		t.Errorf("%d issued", n)
	}
}

// Each request for a challenge that is refused: who asks is told why and what to
// do, and nobody is registered.
//
// Verifies: SR-034, SR-036
func TestChallengeRefusals(t *testing.T) {
	w := newWorld(t, nil)
	stranger := enrolmenttest.NewMaker(t)
	good := func() enrolment.Request { return w.maker.NewDevice(t, "pump-1").Request(tenant) }
	change := func(f func(*enrolment.Request)) enrolment.Request {
		r := good()
		f(&r)
		return r
	}
	pinned := w.maker.NewDevice(t, "pump-3")
	other := w.maker.NewDevice(t, "pump-3")
	spki := sha256.Sum256(pinned.EK.RawSubjectPublicKeyInfo)
	w.serials("# made in May", "", "pump-1", "pump-2", "pump-3,"+strings.ToUpper(hex.EncodeToString(spki[:])))
	noPolicy := good()
	noPolicy.Keys[1] = good().Keys[1] // certified by another attestation key
	for _, c := range []struct {
		name    string
		request enrolment.Request
		status  int
		kind    string
		reason  string
	}{
		{"a maker that is not known", stranger.NewDevice(t, "pump-1").Request(tenant), 403, "unknown-maker", "the operator adds the TPM maker's certificates"},
		{"no certificate of the endorsement key", change(func(r *enrolment.Request) { r.EK.Certificate = []byte{} }), 403, "ek-missing", "no certificate of the endorsement key"},
		{"a certificate that is not of an endorsement key", change(func(r *enrolment.Request) { r.EK.Certificate = w.maker.Intermediate.Raw }), 403, "ek-profile", "not a certificate of an endorsement key"},
		{"an attestation key that is none", change(func(r *enrolment.Request) { r.AK = r.Keys[0].Public }), 403, "ak", "not an attestation key"},
		{"a key of another TPM", noPolicy, 403, "key", "not a key of this TPM"},
		{"a serial number that is not in the list", w.maker.NewDevice(t, "pump-9").Request(tenant), 403, "serial", "the manufacturer adds it"},
		{"a serial number of another endorsement key", other.Request(tenant), 403, "serial-ek", "has another endorsement key"},
		{"another tenant", w.maker.NewDevice(t, "pump-1").Request("other"), 403, "tenant", "another tenant"},
	} {
		w.wants(c.name, challengeCall(t, c.request), c.status, c.kind, c.reason)
	}
	body := challengeCall(t, good()).body
	for _, c := range []struct {
		name   string
		call   call
		status int
		kind   string
	}{
		{"no JSON", call{body: []byte("hello")}, 400, "malformed"},
		{"empty", call{}, 400, "malformed"},
		{"cut", call{body: body[:len(body)/2]}, 400, "malformed"},
		{"followed", call{body: append(bytes.Clone(body), "{}"...)}, 400, "malformed"},
		{"too large", call{body: bytes.Repeat([]byte(" "), enrolment.MaxRequest+1)}, 413, "too-large"},
		{"too large, without its length", call{body: bytes.Repeat([]byte(" "), enrolment.MaxRequest+1), chunked: true}, 413, "too-large"},
		{"a form", call{kind: "application/x-www-form-urlencoded", body: body}, 415, "type"},
		{"another method", call{method: "PUT", body: body}, 405, "method"},
	} {
		if c.call.method == "" {
			c.call.method = "POST"
		}
		if c.call.kind == "" {
			c.call.kind = "application/json"
		}
		c.call.path = est.PathTPMChallenge
		w.wants(c.name, c.call, c.status, c.kind, "")
	}
	w.challenge(pinned)
	if all, err := w.register().Devices(); err != nil || len(all) != 0 {
		t.Errorf("registered without a proof: %+v, %v", all, err)
	}
	// The list is read again when it changes; one that cannot be read admits nobody.
	w.serials("pump-9")
	w.challenge(w.maker.NewDevice(t, "pump-9"))
	w.serials("pump 9")
	w.wants("a broken list", challengeCall(t, w.maker.NewDevice(t, "pump-9").Request(tenant)), 503, "fault", "which its log names")
	must(t, os.Remove(w.file("serials")))
	w.wants("no list", challengeCall(t, w.maker.NewDevice(t, "pump-9").Request(tenant)), 503, "fault", "try again later")
}

// Without a policy key nobody gets a service certificate.
//
// Verifies: SR-034
func TestNoPolicyKey(t *testing.T) {
	w := newWorld(t, func(_ *world, c *registrar.Config) { c.PolicyKey = nil })
	d := w.maker.NewDevice(t, "pump-1")
	w.wants("a service key", challengeCall(t, d.Request(tenant)), 403, "key", "")
	w.certs(w.do(enrollCall(t, w.challenge(d, enrolment.Reporting), csrDER(t, d.Signer(enrolment.Reporting), ""))))
}

// The register decides before the challenge and again at the enrolment.
//
// Verifies: SR-035, SR-036
func TestTakeovers(t *testing.T) {
	w := newWorld(t, nil)
	first := w.maker.NewDevice(t, "pump-1")
	old := w.enroll(first, enrolment.Reporting)
	second := w.maker.NewDevice(t, "pump-1")
	ask := func(d *enrolmenttest.Device) call { return challengeCall(t, d.Request(tenant)) }
	w.wants("another TPM under an enrolled name", ask(second), 403, "other-tpm", "wardfleet devices replace")
	renamed := *first
	renamed.Serial = "pump-2"
	w.wants("an enrolled TPM under another name", ask(&renamed), 403, "taken", "one TPM is one device for ever")
	cleared := *first
	cleared.NewAK()
	w.wants("an enrolled TPM with another attestation key", ask(&cleared), 403, "other-ak", "wardfleet devices replace")

	if _, err := w.register().Replace(time.Now(), tenant, "pump-1", "main board", ""); err != nil {
		t.Fatal(err)
	}
	basics := []registrar.Basic{w.challenge(second), w.challenge(w.maker.NewDevice(t, "pump-1"))}
	third := w.maker.NewDevice(t, "pump-1")
	late := w.challenge(third)
	w.certs(w.do(enrollCall(t, basics[0], csrDER(t, second.Signer(enrolment.Reporting), ""))))
	w.wants("a challenge from before the opening closed", enrollCall(t, late, csrDER(t, third.Signer(enrolment.Reporting), "")), 403, "other-tpm", "")
	w.wants("after the opening closed", ask(w.maker.NewDevice(t, "pump-1")), 403, "other-tpm", "")
	w.wants("the old board", ask(first), 403, "other-tpm", "")
	w.wants("the old board's certificate", reenrollCall(t, old, registrar.Basic{}, csrDER(t, first.Signer(enrolment.Reporting), "")), 403, "revoked", "")

	key, err := w.register().Lookup(time.Now(), tenant, "pump-1")
	if err != nil || !key.Public.Equal(second.AK()) {
		t.Errorf("the verifier sees %+v, %v", key, err)
	}
	if _, err := w.register().Revoke(time.Now(), tenant, "pump-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	w.wants("a revoked device", ask(second), 403, "revoked", "gets nothing more")
	must(t, os.RemoveAll(w.file("devices/acme")))
	w.wants("a revoked device whose file is gone", ask(second), 403, "revoked", "gets nothing more")
	w.wants("another TPM for it", ask(third), 403, "revoked", "gets nothing more")
}

// What stands between a challenge and a certificate.
//
// Verifies: SR-034, SR-036
func TestEnrolRefusals(t *testing.T) {
	w := newWorld(t, nil)
	d, other := w.maker.NewDevice(t, "pump-1"), w.maker.NewDevice(t, "pump-2")
	key := d.Signer(enrolment.Reporting)
	good := csrDER(t, key, "pump-1")
	basic := w.challenge(d)
	stray, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	broken := bytes.Clone(good)
	broken[len(broken)-1] ^= 1

	// The credential for one TPM tells another nothing.
	r := w.do(challengeCall(t, d.Request(tenant)))
	c, err := enrolment.ParseChallenge([]byte(r.body))
	must(t, err)
	if other.Activate(c.Credential) != nil {
		t.Error("another TPM opened the credential")
	}
	guess := registrar.Basic{ID: c.ID, Password: hex.EncodeToString(make([]byte, 32))}

	body := est.EncodeBody(good)
	for _, c := range []struct {
		name   string
		call   call
		status int
		kind   string
		reason string
	}{
		{"no secret", enrollCall(t, registrar.Basic{}, good), 401, "no-secret", "ask for a new challenge"},
		{"a secret that another TPM guesses", enrollCall(t, guess, good), 401, "secret", "ask for a new challenge"},
		{"another challenge's secret", enrollCall(t, registrar.Basic{ID: c.ID, Password: basic.Password}, good), 401, "secret", ""},
		{"an id that is not known", enrollCall(t, registrar.Basic{ID: strings.Repeat("0", 32), Password: basic.Password}, good), 401, "secret", ""},
		{"the secret in upper case", enrollCall(t, registrar.Basic{ID: basic.ID, Password: strings.ToUpper(basic.Password)}, good), 401, "secret", ""},
		{"no password", enrollCall(t, registrar.Basic{ID: basic.ID}, good), 401, "secret", ""},
		{"a key that was not in the request", enrollCall(t, basic, csrDER(t, stray, "")), 403, "csr-key", "not in the request"},
		{"an RSA key", enrollCall(t, basic, csrDER(t, rsaKey, "")), 400, "csr", "P-256"},
		{"a broken signature", enrollCall(t, basic, broken), 400, "csr", ""},
		{"another device's name", enrollCall(t, basic, csrDER(t, key, "pump-2")), 403, "csr-name", "names another device"},
		{"no certification request", enrollCall(t, basic, []byte("hello")), 400, "csr", ""},
		{"no base64", call{method: "POST", path: est.PathSimpleEnroll, kind: est.TypeCSR, basic: basic, body: good}, 400, "malformed", ""},
		{"too large", call{method: "POST", path: est.PathSimpleEnroll, kind: est.TypeCSR, basic: basic, body: bytes.Repeat(body, 60)}, 413, "too-large", ""},
		{"JSON", call{method: "POST", path: est.PathSimpleEnroll, kind: "application/json", basic: basic, body: body}, 415, "type", ""},
		{"GET", call{method: "GET", path: est.PathSimpleEnroll, basic: basic}, 405, "method", ""},
		{"an operation that is not offered", call{method: "POST", path: "/.well-known/est/serverkeygen", kind: est.TypeCSR, body: body}, 404, "not-found", "docs/registrar.md"},
	} {
		w.wants(c.name, c.call, c.status, c.kind, c.reason)
	}
	if all, err := w.register().Devices(); err != nil || len(all) != 0 {
		t.Errorf("registered: %+v, %v", all, err)
	}
	w.certs(w.do(enrollCall(t, basic, good))) // none of it cost the device its challenge
	w.wants("the same secret again", enrollCall(t, basic, good), 401, "spent", "ask for a new challenge")
	w.certs(w.do(enrollCall(t, basic, csrDER(t, d.Signer(enrolment.Service), ""))))
	w.wants("the service key again", enrollCall(t, basic, csrDER(t, d.Signer(enrolment.Service), "")), 401, "spent", "")

	for n := range 5 {
		w.wants(fmt.Sprint("guess ", n), enrollCall(t, registrar.Basic{ID: c.ID, Password: fmt.Sprint(n)}, good), 401, "secret", "")
	}
	w.wants("the right secret after five wrong ones", enrollCall(t, registrar.Basic{ID: c.ID, Password: hex.EncodeToString(d.Activate(c.Credential))}, good), 401, "secret", "")
}

// A challenge counts for its lifetime and not a moment longer.
//
// Verifies: SR-034
func TestChallengeExpires(t *testing.T) {
	w := newWorld(t, nil)
	d := w.maker.NewDevice(t, "pump-1")
	request, err := enrolment.EncodeRequest(d.Request(tenant))
	must(t, err)
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		good  bool
	}{{registrar.DefaultChallengeLifetime - time.Nanosecond, true}, {registrar.DefaultChallengeLifetime, false}} {
		text, err := w.registrar.Challenge(now, request)
		must(t, err)
		ch, err := enrolment.ParseChallenge(text)
		must(t, err)
		if ch.Expires != 300 {
			t.Errorf("it expires in %d seconds", ch.Expires)
		}
		basic := registrar.Basic{ID: ch.ID, Password: hex.EncodeToString(d.Activate(ch.Credential))}
		_, err = w.registrar.Enroll(t.Context(), now.Add(c.after), basic, csrDER(t, d.Signer(enrolment.Reporting), ""))
		if (err == nil) != c.good {
			t.Errorf("after %s: %v", c.after, err)
		}
		if err != nil && refusalOf(t, err).Status != 401 {
			t.Errorf("after %s: %+v", c.after, err)
		}
	}
}

// Who may renew with a certificate, and for what.
//
// Verifies: SR-034, SR-036
func TestRenewalRefusals(t *testing.T) {
	w := newWorld(t, nil)
	d, other := w.maker.NewDevice(t, "pump-1"), w.maker.NewDevice(t, "pump-2")
	key := d.Signer(enrolment.Reporting)
	basic := w.challenge(d)
	own := pair(w.certs(w.do(enrollCall(t, basic, csrDER(t, key, "")))), key)
	service := pair(w.certs(w.do(enrollCall(t, basic, csrDER(t, d.Signer(enrolment.Service), "")))), d.Signer(enrolment.Service))
	theirs := w.enroll(other, enrolment.Reporting)
	csr := csrDER(t, key, "")
	broker, err := tls.LoadX509KeyPair(w.file("ca/127.0.0.1.crt"), w.file("ca/127.0.0.1.key"))
	must(t, err)
	stray, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	// Of the fleet's own authority, and right in each letter, but not in the record.
	unrecorded, err := w.config.CA.Issue(t.Context(), time.Now(), issue.Want{Tenant: tenant, Device: "pump-1", Use: enrolment.Reporting, CSR: parsed(t, csrDER(t, stray, ""))})
	must(t, err)
	d.NewKey(enrolment.Reporting)
	next := csrDER(t, d.Signer(enrolment.Reporting), "")
	for _, c := range []struct {
		name   string
		call   call
		status int
		kind   string
		reason string
	}{
		{"no certificate", reenrollCall(t, nil, registrar.Basic{}, csr), 403, "certificate", "enrol anew with a challenge"},
		{"the service certificate", reenrollCall(t, service, registrar.Basic{}, csrDER(t, d.Signer(enrolment.Service), "")), 403, "certificate", "show the reporting certificate"},
		{"a certificate that is not in the record", reenrollCall(t, pair(unrecorded, stray), registrar.Basic{}, csrDER(t, stray, "")), 403, "certificate", ""},
		{"a new key without a challenge", reenrollCall(t, own, registrar.Basic{}, next), 401, "no-secret", "ask for a new challenge"},
		{"a new key that was not in the challenge", reenrollCall(t, own, basic, next), 403, "csr-key", ""},
		{"another device's challenge", reenrollCall(t, own, w.challenge(other), csrDER(t, other.Signer(enrolment.Service), "")), 403, "other-ak", ""},
		{"another device's certificate", reenrollCall(t, theirs, w.challenge(d), next), 403, "other-ak", ""},
		{"another device's name", reenrollCall(t, own, registrar.Basic{}, csrDER(t, key, "pump-2")), 403, "csr-name", ""},
		{"a broken request", reenrollCall(t, own, registrar.Basic{}, csr[:20]), 400, "csr", ""},
	} {
		w.wants(c.name, c.call, c.status, c.kind, c.reason)
	}
	for name, cert := range map[string]*tls.Certificate{
		"of another authority": foreign(t, key), "of a server": &broker, "expired": expired(t, w, key),
	} {
		if r, err := w.try(reenrollCall(t, cert, registrar.Basic{}, csr)); err == nil {
			t.Errorf("a certificate %s: %d %s, want a failed handshake", name, r.status, r.body)
		}
	}
	if n := w.registrar.Counts()["handshake"]; n != 3 {
		t.Errorf("%d failed handshakes are counted, want 3", n)
	}
	// A connection may last longer than the certificate that it began with.
	shown := []*x509.Certificate{own.Leaf}
	_, err = w.registrar.Reenroll(t.Context(), own.Leaf.NotAfter.Add(time.Second), shown, registrar.Basic{}, csr)
	if r := refusalOf(t, err); r.Status != 403 || r.Kind != "certificate" {
		t.Errorf("a certificate that expired meanwhile: %v", err)
	}
	elsewhere := w.config
	elsewhere.Tenant = "other"
	second, err := registrar.New(elsewhere)
	must(t, err)
	_, err = second.Reenroll(t.Context(), time.Now(), shown, registrar.Basic{}, csr)
	if r := refusalOf(t, err); r.Status != 403 || r.Kind != "certificate" {
		t.Errorf("at another tenant's registrar: %v", err)
	}
	// An opening is for who enrols, not for who renews.
	if _, err := w.register().Replace(time.Now(), tenant, "pump-1", "cleared", ""); err != nil {
		t.Fatal(err)
	}
	cleared := *d
	cleared.NewAK()
	w.wants("another attestation key through an opening", reenrollCall(t, own, w.challenge(&cleared), next), 403, "other-ak", "")
	if _, err := w.register().Revoke(time.Now(), tenant, "pump-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	w.wants("a revoked certificate", reenrollCall(t, own, registrar.Basic{}, csr), 403, "revoked", "gets nothing more")
	w.certs(w.do(reenrollCall(t, theirs, registrar.Basic{}, csrDER(t, other.Signer(enrolment.Reporting), ""))))
}

func parsed(t testing.TB, der []byte) *x509.CertificateRequest {
	t.Helper()
	c, err := issue.ParseCSR(der)
	must(t, err)
	return c
}

// foreign is a certificate of an authority that is not the fleet's.
func foreign(t testing.TB, key crypto.Signer) *tls.Certificate {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	must(t, issue.MakeCA(time.Now(), dir, "Acme Fleet", nil))
	return issuedBy(t, dir, time.Now(), key)
}

// expired is one of the fleet's own that is over.
func expired(t testing.TB, w *world, key crypto.Signer) *tls.Certificate {
	t.Helper()
	return issuedBy(t, w.file("ca"), time.Now().Add(-time.Minute), key)
}

func issuedBy(t testing.TB, dir string, when time.Time, key crypto.Signer) *tls.Certificate {
	t.Helper()
	ca, err := issue.LoadCA(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"), issue.MinLifetime, "")
	must(t, err)
	certs, err := ca.Issue(t.Context(), when, issue.Want{Tenant: tenant, Device: "pump-1", Use: enrolment.Reporting, CSR: parsed(t, csrDER(t, key, ""))})
	must(t, err)
	return pair(certs, key)
}

// The revocation list holds what was issued to a revoked device, as soon as it is
// revoked, and OpenSSL refuses it; its number grows, also over a restart.
//
// Verifies: SR-035
func TestRevocationList(t *testing.T) {
	w := newWorld(t, nil)
	one, two := w.enroll(w.maker.NewDevice(t, "pump-1"), enrolment.Reporting), w.enroll(w.maker.NewDevice(t, "pump-2"), enrolment.Reporting)
	list := func() *x509.RevocationList {
		t.Helper()
		r := w.do(call{method: "GET", path: est.PathCRL})
		if r.status != 200 || r.header.Get("Content-Type") != est.TypeCRL {
			t.Fatalf("%d %s", r.status, r.body)
		}
		l, err := w.config.CA.VerifyCRL([]byte(r.body))
		must(t, err)
		must(t, os.WriteFile(w.file("crl.pem"), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l.Raw}), 0o600))
		return l
	}
	first := list()
	if len(first.RevokedCertificateEntries) != 0 || !bytes.Equal(list().Raw, first.Raw) {
		t.Error("a list with nothing in it, made anew for each who asks")
	}
	if life := time.Until(first.NextUpdate); life > issue.DefaultCRLLifetime || life < issue.DefaultCRLLifetime-time.Minute {
		t.Errorf("it counts for %s", life)
	}
	if _, err := w.register().Revoke(time.Now(), tenant, "pump-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	second := list()
	if len(second.RevokedCertificateEntries) != 1 || second.RevokedCertificateEntries[0].SerialNumber.Cmp(one.Leaf.SerialNumber) != 0 || second.Number.Cmp(first.Number) <= 0 {
		t.Errorf("number %s after %s, %+v", second.Number, first.Number, second.RevokedCertificateEntries)
	}
	args := []string{"verify", "-CAfile", w.file("ca/ca.crt"), "-crl_check", "-CRLfile", w.file("crl.pem"), "-purpose", "sslclient"}
	if out, err := openssl(t, append(args, certFile(t, one.Leaf))...); err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("the revoked one: %s", out)
	}
	if out, err := openssl(t, append(args, certFile(t, two.Leaf))...); err != nil {
		t.Errorf("the other: %s", out)
	}
	restarted, err := registrar.New(w.config)
	must(t, err)
	now, last := time.Now(), second.Number
	for _, after := range []time.Duration{0, time.Second, issue.DefaultCRLLifetime/3 - time.Second, issue.DefaultCRLLifetime / 3, -24 * time.Hour} {
		der, err := restarted.CRL(now.Add(after))
		must(t, err)
		l, err := w.config.CA.VerifyCRL(der)
		must(t, err)
		again := after == time.Second || after == issue.DefaultCRLLifetime/3-time.Second
		if again != (l.Number.Cmp(last) == 0) || l.Number.Cmp(last) < 0 {
			t.Errorf("after %s: number %s after %s", after, l.Number, last)
		}
		last = l.Number
	}
	// One from another authority, or a lost one, sets nothing back.
	for _, do := range []func() error{
		func() error { return os.WriteFile(w.file("devices/crl.der"), []byte("hello"), 0o600) },
		func() error { return os.Remove(w.file("devices/crl.der")) },
	} {
		must(t, do())
		der, _, err := registrar.NewCRL(now.Add(issue.DefaultCRLLifetime), w.register(), w.config.CA, time.Hour)
		must(t, err)
		if l, err := w.config.CA.VerifyCRL(der); err != nil || l.Number.Cmp(last) <= 0 {
			t.Errorf("number %v, %v", l, err)
		}
	}
}

// TLS 1.2 is refused, and a client without a certificate is not.
//
// Verifies: SR-036
func TestTLS13Only(t *testing.T) {
	w := newWorld(t, nil)
	address := strings.TrimPrefix(w.url, "https://")
	if conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 was taken")
	} else if !strings.Contains(err.Error(), "protocol version") {
		t.Error(err)
	}
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: w.roots, NextProtos: []string{"h2", "http/1.1"}})
	must(t, err)
	defer conn.Close()
	if s := conn.ConnectionState(); s.Version != tls.VersionTLS13 || s.NegotiatedProtocol != "http/1.1" {
		t.Errorf("%x, %s", s.Version, s.NegotiatedProtocol)
	}
}

// Who floods is held up, with the time to wait, and fills no log.
//
// Verifies: SR-036
func TestFlood(t *testing.T) {
	w := newWorld(t, func(_ *world, c *registrar.Config) { c.PerSource = 1 })
	served := 0
	for {
		r := w.do(call{method: "GET", path: est.PathCSRAttrs})
		if r.status == 429 {
			if wait, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || wait != 1 {
				t.Errorf("try again in %q", r.header.Get("Retry-After"))
			}
			break
		}
		if served++; r.status != 200 || served > 1000 {
			t.Fatalf("request %d: %d %s", served, r.status, r.body)
		}
	}
	if served < 10 {
		t.Errorf("%d requests at once were served, want ten times the rate", served)
	}
	if n := w.registrar.Counts()["rate"]; n != 1 {
		t.Errorf("%d counted", n)
	}
	if n := len(w.seen("refused")); n != 0 {
		t.Errorf("%d lines told of it", n)
	}
}

// A device that asks for certificates without an end is held up.
//
// Verifies: SR-036
func TestTooManyCertificates(t *testing.T) {
	w := newWorld(t, nil)
	d := w.maker.NewDevice(t, "pump-1")
	own := w.enroll(d, enrolment.Reporting)
	for n := range 119 {
		must(t, w.register().Record(time.Now(), register.Issued{Act: "renew", Tenant: tenant, Device: "pump-1", Use: "reporting", Life: 1, Serial: fmt.Sprintf("%04x", n+1), NotAfter: time.Now().Add(time.Hour)}))
	}
	w.wants("the next", reenrollCall(t, own, registrar.Basic{}, csrDER(t, d.Signer(enrolment.Reporting), "")), 429, "often", "try again later")
	w.enroll(w.maker.NewDevice(t, "pump-2"), enrolment.Reporting)
}

// A TPM that asks again and again pushes out its own challenges alone.
//
// Verifies: SR-036
func TestChallengesOfOneTPM(t *testing.T) {
	w := newWorld(t, nil)
	d, other := w.maker.NewDevice(t, "pump-1"), w.maker.NewDevice(t, "pump-2")
	theirs := w.challenge(other)
	var all []registrar.Basic
	for range 9 {
		all = append(all, w.challenge(d))
	}
	csr := csrDER(t, d.Signer(enrolment.Reporting), "")
	w.wants("the oldest of nine", enrollCall(t, all[0], csr), 401, "secret", "")
	w.certs(w.do(enrollCall(t, all[1], csr)))
	w.certs(w.do(enrollCall(t, theirs, csrDER(t, other.Signer(enrolment.Reporting), ""))))
}

// Connections that say nothing do not keep others out.
//
// Verifies: SR-036
func TestSilentConnections(t *testing.T) {
	w := newWorld(t, nil)
	address := strings.TrimPrefix(w.url, "https://")
	closed := 0
	var open []net.Conn
	for range 140 {
		conn, err := net.Dial("tcp", address)
		must(t, err)
		open = append(open, conn)
	}
	for _, conn := range open[128:] {
		must(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, io.EOF) || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			closed++
		}
	}
	if closed != 12 {
		t.Errorf("%d of 140 were closed, want 12", closed)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
	for { // the registrar sees the ends of connections when it reads
		if r, err := w.try(call{method: "GET", path: est.PathCSRAttrs}); err == nil && r.status == 200 {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("nobody is served")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// away is an authority that gives nothing at first.
type away struct {
	issue.Authority
	calls int
}

func (a *away) Issue(ctx context.Context, now time.Time, w issue.Want) ([]*x509.Certificate, error) {
	if a.calls++; a.calls == 1 {
		return nil, fmt.Errorf("%w: at https://ca.internal", issue.ErrAway)
	}
	return a.Authority.Issue(ctx, now, w)
}

// An authority that is away costs the device no challenge, and is not described to
// it.
//
// Verifies: SR-036
func TestAuthorityAway(t *testing.T) {
	w := newWorld(t, func(_ *world, c *registrar.Config) { c.Authority, c.CA = &away{Authority: c.CA}, nil })
	d := w.maker.NewDevice(t, "pump-1")
	basic := w.challenge(d)
	enrol := enrollCall(t, basic, csrDER(t, d.Signer(enrolment.Reporting), ""))
	w.wants("away", enrol, 503, "away", "the issuing authority gives no certificates now; try again later")
	if r := w.do(enrol); r.status != 200 || strings.Contains(r.body, "internal") {
		t.Errorf("%d %s", r.status, r.body)
	}
	w.wants("a list that another publishes", call{method: "GET", path: est.PathCRL}, 404, "not-found", "upstream authority")
}

// An application from a device without a network is judged as over the network,
// and the answer is for its TPM alone.
//
// Verifies: SR-034, SR-036
func TestAnswer(t *testing.T) {
	w := newWorld(t, nil)
	d, other := w.maker.NewDevice(t, "pump-1"), w.maker.NewDevice(t, "pump-2")
	apply := func(d *enrolmenttest.Device, csrs ...[]byte) []byte {
		t.Helper()
		b, err := enrolment.EncodeApplication(enrolment.Application{Request: d.Request(tenant), CSRs: csrs})
		must(t, err)
		return b
	}
	both := [][]byte{csrDER(t, d.Signer(enrolment.Reporting), "pump-1"), csrDER(t, d.Signer(enrolment.Service), "")}
	text, err := w.registrar.Answer(t.Context(), time.Now(), apply(d, both...))
	must(t, err)
	answer, err := enrolment.ParseAnswer(text)
	must(t, err)
	if other.Activate(answer.Credential) != nil {
		t.Error("another TPM opened it")
	}
	issued, err := answer.Open(d.Activate(answer.Credential))
	must(t, err)
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		leaf, err := x509.ParseCertificate(issued.Chains[use][0])
		if err != nil || !leaf.PublicKey.(*ecdsa.PublicKey).Equal(d.Signer(use).Public()) || leaf.URIs[0].String() != issue.URI(tenant, "pump-1", use).String() {
			t.Errorf("%s: %v, %v", use, leaf, err)
		}
	}
	if list, err := w.config.CA.VerifyCRL(issued.CRL); err != nil || list.Number == nil {
		t.Errorf("revocation list: %v", err)
	}
	if _, err := w.registrar.Answer(t.Context(), time.Now(), apply(d, both[0])); err != nil {
		t.Errorf("again: %v", err)
	}
	third := w.maker.NewDevice(t, "pump-3")
	for name, c := range map[string]struct {
		file   []byte
		status int
		kind   string
	}{
		"another TPM":          {apply(w.maker.NewDevice(t, "pump-1"), both...), 403, "other-tpm"},
		"another's request":    {apply(third, both[0]), 403, "csr-key"},
		"a serial number":      {apply(w.maker.NewDevice(t, "pump-9"), both[0]), 403, "serial"},
		"a maker":              {apply(enrolmenttest.NewMaker(t).NewDevice(t, "pump-3"), both[0]), 403, "unknown-maker"},
		"no file of this kind": {[]byte("hello"), 400, "malformed"},
	} {
		_, err := w.registrar.Answer(t.Context(), time.Now(), c.file)
		if r := refusalOf(t, err); r.Status != c.status || r.Kind != c.kind {
			t.Errorf("%s: %d %s: %v", name, r.Status, r.Kind, err)
		}
	}
	if _, err := w.register().Device(tenant, "pump-3"); !errors.Is(err, register.ErrUnknown) {
		t.Errorf("a refused device is registered: %v", err)
	}
}

// Verifies: SR-036
func TestNewRefuses(t *testing.T) {
	w := newWorld(t, nil)
	for name, change := range map[string]func(*registrar.Config){
		"no tenant":    func(c *registrar.Config) { c.Tenant = "" },
		"no makers":    func(c *registrar.Config) { c.Makers = nil },
		"no serials":   func(c *registrar.Config) { c.Serials = nil },
		"no authority": func(c *registrar.Config) { c.Authority = nil },
		"no roots":     func(c *registrar.Config) { c.Roots = nil },
		"no register":  func(c *registrar.Config) { c.Devices = nil },
		"a short list": func(c *registrar.Config) { c.CRLLifetime = time.Second },
		"no rate":      func(c *registrar.Config) { c.PerSource = -1 },
	} {
		c := w.config
		change(&c)
		if _, err := registrar.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
