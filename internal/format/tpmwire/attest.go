package tpmwire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"math/big"
)

// Numbers of attestations (TPM_GENERATED, section 6.2; TPM_ST, 6.9).
const (
	Generated     uint32 = 0xff544347
	AttestNV      uint16 = 0x8014
	AttestCertify uint16 = 0x8017
	AttestQuote   uint16 = 0x8018
)

// Bounds of an attestation's variable parts, in bytes: a name is an algorithm and
// a digest, of SHA-512 at most; qualifying data is a digest.
const (
	maxName  = 2 + 64
	maxExtra = 64
)

// clockSize is the size of a TPMS_CLOCK_INFO (section 10.11.6), versionSize that of
// the firmware version behind it.
const (
	clockSize   = 8 + 4 + 4 + 1
	versionSize = 8
)

// ParseCertify reads a TPMS_ATTEST of the type certify (section 10.12.12; made by
// TPM2_Certify, Part 3, section 18.2) and returns the Name of the object that it
// vouches for. Errors wrap ErrFormat. The caller verifies the signature: these
// bytes alone say nothing.
func ParseCertify(b []byte) (name []byte, err error) {
	in := NewReader(b)
	if magic := in.U32("magic"); in.Good() && magic != Generated {
		return nil, fmt.Errorf("%w: magic %08x: no TPM made it", ErrFormat, magic)
	}
	if tag := in.U16("type"); in.Good() && tag != AttestCertify {
		return nil, fmt.Errorf("%w: an attestation of the type %04x, want %04x (certify)", ErrFormat, tag, AttestCertify)
	}
	in.Sized(maxName, "signer's name")
	in.Sized(maxExtra, "qualifying data")
	in.Take(clockSize, "clock")
	in.Take(versionSize, "firmware version")
	name = bytes.Clone(in.Sized(maxName, "name"))
	in.Sized(maxName, "qualified name")
	if err := in.End(); err != nil {
		return nil, err
	}
	return name, nil
}

// ErrAlgorithm: a signature of another algorithm than ECDSA with SHA-256. It wraps
// ErrFormat.
var ErrAlgorithm = fmt.Errorf("%w: another signature algorithm", ErrFormat)

// Signature is a TPMT_SIGNATURE of ECDSA with SHA-256 (section 11.3.4).
type Signature struct {
	R, S []byte // at most 32 bytes each
}

// ParseSignature reads a TPMT_SIGNATURE. Errors wrap ErrFormat, those
// for another algorithm or hash ErrAlgorithm.
func ParseSignature(b []byte) (Signature, error) {
	in := NewReader(b)
	alg, hash := in.U16("algorithm"), in.U16("hash")
	if in.Good() && (alg != AlgECDSA || hash != AlgSHA256) {
		return Signature{}, fmt.Errorf("%w: %04x with hash %04x, want ECDSA with SHA-256", ErrAlgorithm, alg, hash)
	}
	s := Signature{R: in.Sized(maxScalar, "r"), S: in.Sized(maxScalar, "s")}
	if err := in.End(); err != nil {
		return Signature{}, err
	}
	return s, nil
}

// Verify says whether the signature is by a P-256 key over the bytes.
func (s Signature) Verify(key *ecdsa.PublicKey, signed []byte) bool {
	if key == nil || key.Curve != elliptic.P256() {
		return false
	}
	digest := sha256.Sum256(signed)
	return ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(s.R), new(big.Int).SetBytes(s.S))
}
