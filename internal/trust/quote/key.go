package quote

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// ErrKey: the bytes hold no attestation key that quotes can be verified with.
var ErrKey = errors.New("not an attestation key")

// Constants of a public area (TPM 2.0 Library, Part 2: TPM_ALG_ID, section 6.3;
// TPM_ECC_CURVE, 6.4; TPMA_OBJECT, 8.3).
const (
	algNull    = 0x0010
	algECC     = 0x0023
	algSHA256  = 0x000b
	curveP256  = 0x0003
	fixedTPM   = 1 << 1
	restricted = 1 << 16
	sign       = 1 << 18
	// maxPolicy bounds a key's authorisation policy, a digest.
	maxPolicy = 64
	// maxKeyFile bounds what ParseKey reads, in bytes: a certificate with a chain.
	maxKeyFile = 64 << 10
)

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

// parsePublicArea reads a TPMT_PUBLIC of an ECC key (Part 2, section 12.2.4),
// with or without the size of a TPM2B_PUBLIC before it.
func parsePublicArea(b []byte) (*ecdsa.PublicKey, error) {
	if len(b) > 2 && int(b[0])<<8|int(b[1]) == len(b)-2 {
		b = b[2:]
	}
	in := &reader{b: b}
	kind, name, attributes := in.u16("type"), in.u16("name algorithm"), in.u32("attributes")
	if in.bad == "" && (kind != algECC || name != algSHA256) {
		return nil, fmt.Errorf("a public area of type %04x with names of algorithm %04x, want ECC and SHA-256", kind, name)
	}
	in.sized(maxPolicy, "policy")
	if in.u16("symmetric algorithm") != algNull && in.bad == "" {
		return nil, errors.New("it is a storage key")
	}
	switch scheme := in.u16("scheme"); {
	case in.bad != "" || scheme == algNull:
	case scheme != algECDSA:
		return nil, fmt.Errorf("signature scheme %04x, want ECDSA", scheme)
	default:
		if hash := in.u16("scheme's hash"); hash != algSHA256 && in.bad == "" {
			return nil, fmt.Errorf("a scheme with the hash %04x, want SHA-256", hash)
		}
	}
	curve, kdf := in.u16("curve"), in.u16("key derivation")
	x, y := in.sized(maxScalar, "x"), in.sized(maxScalar, "y")
	switch err := in.end(); {
	case err != nil:
		return nil, err
	case curve != curveP256 || kdf != algNull:
		return nil, fmt.Errorf("curve %04x with key derivation %04x, want P-256 without one", curve, kdf)
	case attributes&fixedTPM == 0 || attributes&restricted == 0 || attributes&sign == 0:
		return nil, fmt.Errorf("attributes %08x: want a key that is fixed to its TPM, restricted and signing", attributes)
	}
	point := make([]byte, 1, 1+2*maxScalar)
	point[0] = 4 // uncompressed (SEC 1, section 2.3.3)
	point = append(point, bytes.Repeat([]byte{0}, maxScalar-len(x))...)
	point = append(append(append(point, x...), bytes.Repeat([]byte{0}, maxScalar-len(y))...), y...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, fmt.Errorf("the point is not on the curve: %w", err)
	}
	return key, nil
}
