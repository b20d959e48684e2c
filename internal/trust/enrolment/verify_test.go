package enrolment_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/trust/enrolment"
	"ward/internal/trust/enrolment/enrolmenttest"
	"ward/internal/trust/policy"
)

var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// Verifies: SR-032
func TestVerify(t *testing.T) {
	maker := enrolmenttest.NewMaker(t)
	device := maker.NewDevice(t, "SN-0001")
	p, err := device.Request("acme").Verify(maker.Terms(now))
	if err != nil {
		t.Fatal(err)
	}
	if p.Tenant() != "acme" || p.Serial() != "SN-0001" || !p.AK().Equal(device.AK()) || p.EK() == [32]byte{} {
		t.Errorf("%+v", p)
	}
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		if public := device.Signer(use).Public(); p.Use(public) != use || !p.Key(use).Equal(public) {
			t.Errorf("%s: taken for %q", use, p.Use(public))
		}
	}
	if use := p.Use(device.AK()); use != "" {
		t.Errorf("the attestation key is taken for a key of the use %q", use)
	}
	if use := p.Use("no key"); use != "" {
		t.Errorf("a text is taken for a key of the use %q", use)
	}
	// A renewal has one key; it is the same TPM.
	device.NewKey(enrolment.Service)
	again, err := device.Request("acme", enrolment.Service).Verify(maker.Terms(now))
	if err != nil || again.Key(enrolment.Reporting) != nil || again.EK() != p.EK() || again.Key(enrolment.Service).Equal(p.Key(enrolment.Service)) {
		t.Errorf("one key: %+v, %v", again, err)
	}
	// Without a policy key service keys are refused, and reporting keys are not.
	terms := maker.Terms(now)
	terms.PolicyKey = nil
	if _, err := device.Request("acme", enrolment.Reporting).Verify(terms); err != nil {
		t.Errorf("reporting key without a policy key: %v", err)
	}
	if other, err := maker.NewDevice(t, "SN-0001").Request("acme").Verify(maker.Terms(now)); err != nil || other.EK() == p.EK() {
		t.Errorf("another TPM has the same id: %v", err)
	}
}

// Verifies: SR-032
func TestBadRequests(t *testing.T) {
	maker, stranger := enrolmenttest.NewMaker(t), enrolmenttest.NewMaker(t)
	device, other := maker.NewDevice(t, "SN-0001"), maker.NewDevice(t, "SN-0002")
	reporting, service := device.Signer(enrolment.Reporting).Public().(*ecdsa.PublicKey), device.Signer(enrolment.Service).Public().(*ecdsa.PublicKey)
	boot, wrong := policy.BootPolicy(maker.PolicyKey), policy.BootPolicy(stranger.PolicyKey)
	with := func(a tpm2.TPMAObject, f func(*tpm2.TPMAObject)) tpm2.TPMAObject { f(&a); return a }
	ak := func(f func(*tpm2.TPMAObject)) func(*enrolment.Request, *enrolment.Terms) {
		return func(r *enrolment.Request, _ *enrolment.Terms) {
			r.AK = enrolmenttest.Area(with(enrolmenttest.AKAttributes, f), device.AK(), nil)
		}
	}
	key := func(f func(*tpm2.TPMAObject)) func(*enrolment.Request, *enrolment.Terms) {
		return func(r *enrolment.Request, _ *enrolment.Terms) {
			r.Keys[0] = device.Certify(enrolment.Reporting, enrolmenttest.Area(with(enrolmenttest.ReportingAttributes, f), reporting, nil))
		}
	}
	bound := func(attributes tpm2.TPMAObject, digest []byte) func(*enrolment.Request, *enrolment.Terms) {
		return func(r *enrolment.Request, _ *enrolment.Terms) {
			r.Keys[1] = device.Certify(enrolment.Service, enrolmenttest.Area(attributes, service, digest))
		}
	}
	change := func(b []byte, at int) []byte { c := bytes.Clone(b); c[(at+len(c))%len(c)] ^= 1; return c }
	for _, c := range []struct {
		name string
		f    func(*enrolment.Request, *enrolment.Terms)
		want error
		text string
	}{
		{"version 2", func(r *enrolment.Request, _ *enrolment.Terms) { r.Version = 2 }, enrolment.ErrMessage, "version 2, this program reads 1"},
		{"no key", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys = nil }, enrolment.ErrMessage, "0 keys"},
		{"three keys", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys = append(r.Keys, r.Keys[0]) }, enrolment.ErrMessage, "3 keys"},
		{"a use twice", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys[1] = r.Keys[0] }, enrolment.ErrMessage, "two keys for the use"},
		{"an unknown use", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys[0].Use = "root" }, enrolment.ErrMessage, "unknown use"},
		{"a tenant with a slash", func(r *enrolment.Request, _ *enrolment.Terms) { r.Tenant = "a/b" }, enrolment.ErrMessage, "tenant"},
		{"no tenant", func(r *enrolment.Request, _ *enrolment.Terms) { r.Tenant = "" }, enrolment.ErrMessage, "tenant"},
		{"no serial number", func(r *enrolment.Request, _ *enrolment.Terms) { r.Serial = "" }, enrolment.ErrSerial, "1 to 64"},
		{"a serial number with a dot", func(r *enrolment.Request, _ *enrolment.Terms) { r.Serial = "1.2" }, enrolment.ErrSerial, "letters"},
		{"a long serial number", func(r *enrolment.Request, _ *enrolment.Terms) { r.Serial = strings.Repeat("1", 65) }, enrolment.ErrSerial, "1 to 64"},
		{"no EK certificate", func(r *enrolment.Request, _ *enrolment.Terms) { r.EK.Certificate = nil }, enrolment.ErrEKMissing, ""},
		{"EK certificate cut", func(r *enrolment.Request, _ *enrolment.Terms) { r.EK.Certificate = r.EK.Certificate[:100] }, enrolment.ErrEKProfile, "x509"},
		{"EK certificate changed", func(r *enrolment.Request, _ *enrolment.Terms) { r.EK.Certificate = change(r.EK.Certificate, -1) }, enrolment.ErrEKUntrusted, ""},
		{"EK certificate of an unknown maker", func(r *enrolment.Request, _ *enrolment.Terms) { r.EK = stranger.NewDevice(t, "x").Request("x").EK }, enrolment.ErrEKUntrusted, "unknown authority"},
		{"an unknown maker, its root in the chain", func(r *enrolment.Request, _ *enrolment.Terms) {
			r.EK = stranger.NewDevice(t, "x").Request("x").EK
			r.EK.Chain = append(r.EK.Chain, stranger.Root.Raw)
		}, enrolment.ErrEKUntrusted, "unknown authority"},
		{"no makers", func(_ *enrolment.Request, m *enrolment.Terms) { m.Makers = nil }, enrolment.ErrEKUntrusted, "unknown authority"},
		{"an intermediate authority alone", func(_ *enrolment.Request, m *enrolment.Terms) { m.Makers = []*x509.Certificate{maker.Intermediate} }, enrolment.ErrEKUntrusted, "unknown authority"},
		{"no way to the root", func(r *enrolment.Request, _ *enrolment.Terms) { r.EK.Chain = nil }, enrolment.ErrEKUntrusted, "unknown authority"},
		{"before the maker's time", func(_ *enrolment.Request, m *enrolment.Terms) { m.Now = enrolmenttest.Begin.Add(-time.Hour) }, enrolment.ErrEKUntrusted, "not yet valid"},
		{"no time at all", func(_ *enrolment.Request, m *enrolment.Terms) { m.Now = time.Time{} }, enrolment.ErrEKUntrusted, "no time"},
		{"a clock at 1970", func(_ *enrolment.Request, m *enrolment.Terms) { m.Now = time.Unix(0, 0) }, enrolment.ErrEKUntrusted, "not yet valid"},
		{"no AK", func(r *enrolment.Request, _ *enrolment.Terms) { r.AK = nil }, enrolment.ErrMessage, "attestation key of 0 bytes"},
		{"AK that is no public area", func(r *enrolment.Request, _ *enrolment.Terms) { r.AK = []byte("key") }, enrolment.ErrAK, ""},
		{"AK that can leave", ak(func(a *tpm2.TPMAObject) { a.FixedTPM = false }), enrolment.ErrAK, "want fixedTPM"},
		{"AK that can move", ak(func(a *tpm2.TPMAObject) { a.FixedParent = false }), enrolment.ErrAK, "want fixedTPM"},
		{"AK made elsewhere", ak(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }), enrolment.ErrAK, "want fixedTPM"},
		{"AK that signs anything", ak(func(a *tpm2.TPMAObject) { a.Restricted = false }), enrolment.ErrAK, "want fixedTPM"},
		{"AK that does not sign", ak(func(a *tpm2.TPMAObject) { a.SignEncrypt = false }), enrolment.ErrAK, "want fixedTPM"},
		{"AK that decrypts", ak(func(a *tpm2.TPMAObject) { a.Decrypt = true }), enrolment.ErrAK, "decrypt"},
		{"AK that is lost at a restart", ak(func(a *tpm2.TPMAObject) { a.STClear = true }), enrolment.ErrAK, "stClear"},
		{"AK of another device", func(r *enrolment.Request, _ *enrolment.Terms) { r.AK = other.Request("acme").AK }, enrolment.ErrKey, "not signed by the attestation key"},
		{"key that can leave", key(func(a *tpm2.TPMAObject) { a.FixedTPM = false }), enrolment.ErrKey, "want fixedTPM"},
		{"key that can move", key(func(a *tpm2.TPMAObject) { a.FixedParent = false }), enrolment.ErrKey, "want fixedTPM"},
		{"key made elsewhere", key(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }), enrolment.ErrKey, "want fixedTPM"},
		{"key that is restricted", key(func(a *tpm2.TPMAObject) { a.Restricted = true }), enrolment.ErrKey, "restricted"},
		{"key that decrypts", key(func(a *tpm2.TPMAObject) { a.Decrypt = true }), enrolment.ErrKey, "decrypt"},
		{"reporting key that needs a policy", key(func(a *tpm2.TPMAObject) { a.UserWithAuth = false }), enrolment.ErrKey, "want fixedTPM"},
		{"reporting key under administration by policy", key(func(a *tpm2.TPMAObject) { a.AdminWithPolicy = true }), enrolment.ErrKey, "adminWithPolicy"},
		{"reporting key with a policy", func(r *enrolment.Request, _ *enrolment.Terms) {
			r.Keys[0] = device.Certify(enrolment.Reporting, enrolmenttest.Area(enrolmenttest.ReportingAttributes, reporting, boot[:]))
		}, enrolment.ErrKey, "it has a policy"},
		{"service key without a policy", bound(enrolmenttest.ServiceAttributes, nil), enrolment.ErrKey, "want the boot policy"},
		{"service key under another policy key", bound(enrolmenttest.ServiceAttributes, wrong[:]), enrolment.ErrKey, "want the boot policy"},
		{"service key that needs no policy", bound(enrolmenttest.ReportingAttributes, boot[:]), enrolment.ErrKey, "userWithAuth"},
		{"service key under administration by policy", bound(with(enrolmenttest.ServiceAttributes, func(a *tpm2.TPMAObject) { a.AdminWithPolicy = true }), boot[:]), enrolment.ErrKey, "adminWithPolicy"},
		{"service key and no policy key here", func(_ *enrolment.Request, m *enrolment.Terms) { m.PolicyKey = nil }, enrolment.ErrKey, "no policy key is known"},
		{"service key for the reporting key", func(r *enrolment.Request, _ *enrolment.Terms) {
			r.Keys = []enrolment.Key{{enrolment.Reporting, r.Keys[1].Public, r.Keys[1].Attest, r.Keys[1].Signature}}
		}, enrolment.ErrKey, "want fixedTPM"},
		{"key that is no public area", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys[0].Public = []byte("key") }, enrolment.ErrKey, "no name algorithm"},
		{"key of another device", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys[0] = other.Request("acme").Keys[0] }, enrolment.ErrKey, "not signed by the attestation key"},
		{"statement about another key", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys[0].Attest = r.Keys[1].Attest }, enrolment.ErrKey, "about another key"},
		{"statement that no TPM made", func(r *enrolment.Request, _ *enrolment.Terms) {
			r.Keys[0].Attest = change(r.Keys[0].Attest, 0)
			r.Keys[0].Signature = device.Sign(r.Keys[0].Attest)
		}, enrolment.ErrKey, "no TPM made it"},
		{"a quote for a statement", func(r *enrolment.Request, _ *enrolment.Terms) {
			r.Keys[0].Attest = bytes.Clone(r.Keys[0].Attest)
			r.Keys[0].Attest[5] = 0x18
			r.Keys[0].Signature = device.Sign(r.Keys[0].Attest)
		}, enrolment.ErrKey, "of the type 8018"},
		{"statement changed", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys[0].Attest = change(r.Keys[0].Attest, -1) }, enrolment.ErrKey, "not signed"},
		{"statement cut", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys[0].Attest = r.Keys[0].Attest[:40] }, enrolment.ErrKey, "no signer's name"},
		{"signature changed", func(r *enrolment.Request, _ *enrolment.Terms) { r.Keys[0].Signature = change(r.Keys[0].Signature, -1) }, enrolment.ErrKey, "not signed"},
		{"signature of another algorithm", func(r *enrolment.Request, _ *enrolment.Terms) {
			r.Keys[0].Signature = append([]byte{0, 0x14}, r.Keys[0].Signature[2:]...)
		}, enrolment.ErrKey, "another signature algorithm"},
	} {
		r, terms := device.Request("acme"), maker.Terms(now)
		c.f(&r, &terms)
		p, err := r.Verify(terms)
		if p != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q with %q", c.name, err, c.want, c.text)
		}
		for _, sentinel := range sentinels {
			if err != nil && sentinel != c.want && errors.Is(err, sentinel) {
				t.Errorf("%s: %v is also %q", c.name, err, sentinel)
			}
		}
	}
}

var sentinels = []error{
	enrolment.ErrMessage, enrolment.ErrSerial, enrolment.ErrEKMissing, enrolment.ErrEKUntrusted, enrolment.ErrEKProfile,
	enrolment.ErrAK, enrolment.ErrKey, enrolment.ErrOtherTPM,
}

// What certificates of endorsement keys may look like.
//
// Verifies: SR-032
func TestCertificatesOfEndorsementKeys(t *testing.T) {
	maker := enrolmenttest.NewMaker(t)
	device := maker.NewDevice(t, "SN-0001")
	p256 := device.EK.PublicKey
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := func(bits int) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), bits-1, 1), E: 65537}
	}
	san := func(names ...asn1.RawValue) func(*x509.Certificate) {
		value, err := asn1.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		return func(c *x509.Certificate) { c.ExtraExtensions[0].Value = value }
	}
	directory := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: []byte{0x30, 0}}
	other := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: []byte{6, 1, 42, 0xa0, 2, 5, 0}}
	for _, c := range []struct {
		name string
		key  any
		f    func(*x509.Certificate)
		want error
		text string
	}{
		{"as the profile says", p256, func(*x509.Certificate) {}, nil, ""},
		{"P-384", &p384.PublicKey, func(*x509.Certificate) {}, nil, ""},
		{"RSA-2048", modulus(2048), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, nil, ""},
		{"without an alternative name", p256, func(c *x509.Certificate) { c.ExtraExtensions = nil }, nil, ""},
		{"alternative name that is not critical", p256, func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = false }, nil, ""},
		{"without extended key usages", p256, func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }, nil, ""},
		{"more extended key usages", p256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, nil, ""},
		{"neither key usage", p256, func(c *x509.Certificate) { c.UnknownExtKeyUsage, c.KeyUsage = nil, 0 }, enrolment.ErrEKProfile, "its key usage must be"},
		{"a signing key", p256, func(c *x509.Certificate) { c.UnknownExtKeyUsage, c.KeyUsage = nil, x509.KeyUsageDigitalSignature }, enrolment.ErrEKProfile, "its key usage must be"},
		{"a key that signs too", p256, func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.KeyUsage = nil, x509.KeyUsageKeyAgreement|x509.KeyUsageDigitalSignature
		}, enrolment.ErrEKProfile, "its key usage must be"},
		{"a TLS client", p256, func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}, enrolment.ErrEKProfile, "do not name endorsement keys"},
		{"an AK's purpose", p256, func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}
		}, enrolment.ErrEKProfile, "do not name endorsement keys"},
		{"an authority", p256, func(c *x509.Certificate) { c.IsCA = true }, enrolment.ErrEKProfile, "authority"},
		{"a key that signs certificates", p256, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign; c.IsCA = true }, enrolment.ErrEKProfile, "authority"},
		{"an unknown critical extension", p256, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
		}, enrolment.ErrEKProfile, "the critical extension 1.2.3.4 is not understood"},
		{"another name beside", p256, san(directory, other), enrolment.ErrEKProfile, "the critical extension 2.5.29.17 is not understood"},
		{"another name alone", p256, san(other), enrolment.ErrEKProfile, "2.5.29.17"},
		{"an alternative name without names", p256, san(), enrolment.ErrEKProfile, ""},
		{"RSA-1024", modulus(1024), func(*x509.Certificate) {}, enrolment.ErrEKProfile, "not an endorsement key of a known kind"},
		{"P-521", &p521.PublicKey, func(*x509.Certificate) {}, enrolment.ErrEKProfile, "not an endorsement key of a known kind"},
		{"expired", p256, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, enrolment.ErrEKUntrusted, "expired"},
		{"not yet good", p256, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }, enrolment.ErrEKUntrusted, "not yet valid"},
	} {
		template := enrolmenttest.EKTemplate(t)
		c.f(template)
		r := device.Request("acme")
		r.EK.Certificate = maker.Certify(template, c.key).Raw
		_, err := r.Verify(maker.Terms(now))
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %q", c.name, err, c.want, c.text)
		}
	}
}

// An intermediate authority among the makers helps a device that does not send it,
// and one that is self-signed and sent by the device helps nobody; what cannot be
// read among what a device sends is passed over.
func TestWaysToTheRoot(t *testing.T) {
	maker := enrolmenttest.NewMaker(t)
	r := maker.NewDevice(t, "SN-0001").Request("acme")
	terms := maker.Terms(now)
	r.EK.Chain = [][]byte{[]byte("no certificate"), maker.Root.Raw, maker.Intermediate.Raw}
	if _, err := r.Verify(terms); err != nil {
		t.Errorf("beside what cannot be read: %v", err)
	}
	r.EK.Chain = nil
	terms.Makers = append(terms.Makers, maker.Intermediate)
	if _, err := r.Verify(terms); err != nil {
		t.Errorf("with the intermediate authority configured: %v", err)
	}
}

// Two encodings of one endorsement key are one endorsement key.
func TestOneKeyOneID(t *testing.T) {
	maker := enrolmenttest.NewMaker(t)
	device := maker.NewDevice(t, "SN-0001")
	first, err := device.Request("acme").Verify(maker.Terms(now))
	if err != nil {
		t.Fatal(err)
	}
	r := device.Request("acme")
	r.EK.Certificate = maker.Certify(enrolmenttest.EKTemplate(t), device.EK.PublicKey).Raw
	second, err := r.Verify(maker.Terms(now))
	if err != nil || first.EK() != second.EK() {
		t.Errorf("another certificate for the same key: %x and %x, %v", first.EK(), second.EK(), err)
	}
}
