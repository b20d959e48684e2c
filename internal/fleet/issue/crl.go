package issue

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// DefaultCRLLifetime is how long a revocation list counts, MinCRLLifetime the
// shortest: a test's.
const (
	DefaultCRLLifetime = 7 * 24 * time.Hour
	MinCRLLifetime     = 30 * time.Second
)

// Reasons of a revocation (RFC 5280, section 5.3.1).
const (
	ReasonSuperseded = 4
	ReasonCessation  = 5
)

// CRL makes and signs a revocation list, DER.
func (c *CA) CRL(now time.Time, number *big.Int, lifetime time.Duration, revoked []x509.RevocationListEntry) ([]byte, error) {
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: number, ThisUpdate: later(now.Add(-skew), c.cert.NotBefore), NextUpdate: now.Add(lifetime), RevokedCertificateEntries: revoked,
	}, c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("make revocation list: %w", err)
	}
	return der, nil
}

// VerifyCRL reads a revocation list and says whether it is this authority's.
func (c *CA) VerifyCRL(der []byte) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("read revocation list: %w", err)
	}
	if err := list.CheckSignatureFrom(c.cert); err != nil {
		return nil, fmt.Errorf("read revocation list: %w", err)
	}
	return list, nil
}

// keyIdentifier is the key identifier of method 1 of RFC 7093, section 2: the
// leftmost 160 bits of SHA-256 over the public key's bits.
func keyIdentifier(public any) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("name key: %w", err)
	}
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(der, &spki); err != nil || len(rest) > 0 {
		return nil, errKeyIdentifier
	}
	sum := sha256.Sum256(spki.Key.Bytes)
	return sum[:20], nil
}
