// Package clinic is a clinical service that trusts the fleet's authority: it
// verifies what a device signs with its service key (RFC 5280; SEC 1, ECDSA).
package clinic

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Answer is what the guest's signer prints: chain and signature, or a refusal.
type Answer struct {
	Chain     string
	Signature []byte
	Status    int // of HTTP, of the refusal
	Refused   string
}

// Parse reads an answer.
func Parse(text []byte) (Answer, error) {
	var a Answer
	err := json.Unmarshal(text, &a)
	return a, err
}

// Verify wants the text signed by a key with a certificate for a name (a URI),
// issued by the root for clients, and returns that certificate.
func (a Answer) Verify(root *x509.Certificate, name, text string) (*x509.Certificate, error) {
	if a.Refused != "" {
		return nil, fmt.Errorf("the key is refused: %s", a.Refused)
	}
	block, _ := pem.Decode([]byte(a.Chain))
	if block == nil {
		return nil, errors.New("the key has no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return nil, err
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != name {
		return nil, fmt.Errorf("the certificate is for %v, want %s", leaf.URIs, name)
	}
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if sum := sha256.Sum256([]byte(text)); !ok || !ecdsa.VerifyASN1(public, sum[:], a.Signature) {
		return nil, errors.New("the signature is not by the certificate's key")
	}
	return leaf, nil
}
