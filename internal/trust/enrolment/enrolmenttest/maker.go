// Package enrolmenttest makes devices that can enrol, for tests, without a TPM: a
// TPM maker with its authority, and devices whose endorsement key, attestation key
// and keys lie in memory. What they hand out has the bytes of TPM 2.0 Library, Part
// 2, written by go-tpm; they open credentials as TPM2_ActivateCredential does (Part
// 1, section 24).
package enrolmenttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
)

// Certificates of the maker are good from Begin on and never expire.
var (
	Begin = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	never = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) // RFC 5280, section 4.1.2.5
)

var (
	oidEKCertificate   = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidAlternativeName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidManufacturer    = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidModel           = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidVersion         = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
)

// Maker is a TPM maker and, for service keys, a device manufacturer with a policy
// key.
type Maker struct {
	t testing.TB

	Root         *x509.Certificate // self-signed
	Intermediate *x509.Certificate // signed by Root; signs the endorsement keys' certificates
	PolicyKey    policy.Key
	PolicySigner *ecdsa.PrivateKey // the private part of PolicyKey

	rootKey, intermediateKey *ecdsa.PrivateKey
}

// NewMaker makes a maker with a root and an intermediate authority.
func NewMaker(t testing.TB) *Maker {
	t.Helper()
	m := &Maker{t: t, rootKey: newKey(t), intermediateKey: newKey(t), PolicySigner: newKey(t)}
	m.Root = m.authority("Maker Root", &m.rootKey.PublicKey, nil, m.rootKey)
	m.Intermediate = m.authority("Maker Issuer", &m.intermediateKey.PublicKey, m.Root, m.rootKey)
	var err error
	if m.PolicyKey, err = policy.NewKey(&m.PolicySigner.PublicKey); err != nil {
		t.Fatal(err)
	}
	return m
}

// Terms trust this maker and its policy key.
func (m *Maker) Terms(now time.Time) enrolment.Terms {
	return enrolment.Terms{Makers: []*x509.Certificate{m.Root}, PolicyKey: &m.PolicyKey, Now: now}
}

func (m *Maker) authority(name string, public crypto.PublicKey, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	m.t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(m.t), Subject: pkix.Name{CommonName: name}, NotBefore: Begin, NotAfter: never,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = template
	}
	return sign(m.t, template, parent, public, key)
}

// EKTemplate is what the maker's certificates of endorsement keys have: purpose,
// key usage, and a critical alternative name with manufacturer, model and version.
func EKTemplate(t testing.TB) *x509.Certificate {
	t.Helper()
	return &x509.Certificate{
		SerialNumber: serial(t), NotBefore: Begin, NotAfter: never, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageKeyAgreement, UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidEKCertificate},
		ExtraExtensions: []pkix.Extension{{Id: oidAlternativeName, Critical: true, Value: alternativeName(t)}},
	}
}

// Certify signs a certificate of the maker's for an endorsement key.
func (m *Maker) Certify(template *x509.Certificate, ek crypto.PublicKey) *x509.Certificate {
	m.t.Helper()
	return sign(m.t, template, m.Intermediate, ek, m.intermediateKey)
}

// alternativeName names the TPM as EK Credential Profile, section 3.2.9, says.
func alternativeName(t testing.TB) []byte {
	t.Helper()
	var name pkix.RDNSequence
	for _, a := range []pkix.AttributeTypeAndValue{
		{Type: oidManufacturer, Value: "id:57415244"}, {Type: oidModel, Value: "memory"}, {Type: oidVersion, Value: "id:00010000"},
	} {
		name = append(name, pkix.RelativeDistinguishedNameSET{a})
	}
	directory, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: directory}})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n.Add(n, big.NewInt(1))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
