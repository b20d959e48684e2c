package quote

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"ward/internal/format/tpmwire"
)

// ErrKey: the bytes hold no attestation key that quotes can be verified with.
var ErrKey = errors.New("not an attestation key")

// maxKeyFile bounds what ParseKey reads, in bytes: a certificate with a chain.
const maxKeyFile = 64 << 10

// ParseKey reads the public part of an attestation key: PEM or DER of a
// SubjectPublicKeyInfo or an X.509 certificate (the first of a file), or a
// TPM2B_PUBLIC or TPMT_PUBLIC as tools write it. Where the form tells what the
// key may do, it must be fixed to its TPM, restricted and signing: a key that
// signs what it is given vouches for nothing. P-256 only. Errors wrap ErrKey.
//
// A certificate's own signature is not looked at: whoever hands over the file
// vouches for the key in it.
func ParseKey(b []byte) (*ecdsa.PublicKey, error) {
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("parse attestation key: %w: %d bytes, at most %d are read", ErrKey, len(b), maxKeyFile)
	}
	if block, _ := pem.Decode(b); block != nil {
		switch block.Type {
		case "PUBLIC KEY", "CERTIFICATE":
			b = block.Bytes
		default:
			return nil, fmt.Errorf("parse attestation key: %w: PEM of the type %.40q, want PUBLIC KEY or CERTIFICATE", ErrKey, block.Type)
		}
	}
	key, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("parse attestation key: %w: %w", ErrKey, err)
	}
	return key, nil
}

func parseKey(b []byte) (*ecdsa.PublicKey, error) {
	const sequence = 0x30 // of DER; a TPM's sizes and types begin with zero
	if len(b) == 0 || b[0] != sequence {
		return parsePublicArea(b)
	}
	public, err := x509.ParsePKIXPublicKey(b)
	if err != nil {
		c, certErr := x509.ParseCertificate(b)
		if certErr != nil {
			return nil, fmt.Errorf("neither a public key nor a certificate: %w", err)
		}
		public = c.PublicKey
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("want a key on the curve P-256")
	}
	return key, nil
}

// parsePublicArea reads a TPMT_PUBLIC of an ECC key, with or without the size of a
// TPM2B_PUBLIC before it.
func parsePublicArea(b []byte) (*ecdsa.PublicKey, error) {
	if len(b) > 2 && int(b[0])<<8|int(b[1]) == len(b)-2 {
		b = b[2:]
	}
	p, err := tpmwire.ParsePublic(b)
	if err != nil {
		return nil, err
	}
	const want = tpmwire.FixedTPM | tpmwire.Restricted | tpmwire.Sign
	if p.Attributes&want != want {
		return nil, fmt.Errorf("attributes %s: want a key that is fixed to its TPM, restricted and signing", p.Attributes)
	}
	return p.Key, nil
}
