package tpmwire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// Numbers of a public area (TPM_ALG_ID, section 6.3; TPM_ECC_CURVE, 6.4).
const (
	AlgSHA256 uint16 = 0x000b
	AlgNull   uint16 = 0x0010
	AlgECDSA  uint16 = 0x0018
	AlgECC    uint16 = 0x0023
	CurveP256 uint16 = 0x0003
)

// Attributes are what a key may do and where it may be (TPMA_OBJECT, section
// 8.3).
type Attributes uint32

const (
	FixedTPM             Attributes = 1 << 1
	ClearedAtStart       Attributes = 1 << 2 // stClear
	FixedParent          Attributes = 1 << 4
	SensitiveDataOrigin  Attributes = 1 << 5
	UserWithAuth         Attributes = 1 << 6
	AdminWithPolicy      Attributes = 1 << 7
	NoDA                 Attributes = 1 << 10
	EncryptedDuplication Attributes = 1 << 11
	Restricted           Attributes = 1 << 16
	Decrypt              Attributes = 1 << 17
	Sign                 Attributes = 1 << 18
)

var attributeNames = []struct {
	bit  Attributes
	name string
}{
	{FixedTPM, "fixedTPM"}, {ClearedAtStart, "stClear"}, {FixedParent, "fixedParent"}, {SensitiveDataOrigin, "sensitiveDataOrigin"},
	{UserWithAuth, "userWithAuth"}, {AdminWithPolicy, "adminWithPolicy"}, {NoDA, "noDA"}, {EncryptedDuplication, "encryptedDuplication"},
	{Restricted, "restricted"}, {Decrypt, "decrypt"}, {Sign, "sign"},
}

func (a Attributes) String() string {
	var names []string
	for _, n := range attributeNames {
		if a&n.bit != 0 {
			names = append(names, n.name)
			a &^= n.bit
		}
	}
	if a != 0 {
		names = append(names, fmt.Sprintf("%08x", uint32(a)))
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Bounds of variable parts, in bytes: a policy is a digest, of SHA-512 at most; a
// coordinate is one of P-256.
const (
	maxPolicy = 64
	maxScalar = 32
)

// Public is the public area of a P-256 key that signs (TPMT_PUBLIC of the type
// TPM_ALG_ECC, section 12.2.4), named by SHA-256.
type Public struct {
	Attributes Attributes
	Policy     []byte // empty: it has none
	Scheme     uint16 // AlgECDSA, always with SHA-256, or AlgNull: the caller chooses
	Key        *ecdsa.PublicKey
	Name       []byte // TPM2B_NAME: algorithm and digest of these bytes (Part 1, section 16)
}

// ParsePublic reads a TPMT_PUBLIC. A key of another kind, on another curve, for
// storage, with another scheme or a point off the curve is an error that wraps
// ErrFormat.
func ParsePublic(b []byte) (Public, error) {
	in := NewReader(b)
	kind, name := in.U16("type"), in.U16("name algorithm")
	p := Public{Attributes: Attributes(in.U32("attributes"))}
	if in.Good() && (kind != AlgECC || name != AlgSHA256) {
		return Public{}, fmt.Errorf("%w: a public area of type %04x with names of algorithm %04x, want ECC and SHA-256", ErrFormat, kind, name)
	}
	p.Policy = bytes.Clone(in.Sized(maxPolicy, "policy"))
	if in.U16("symmetric algorithm") != AlgNull && in.Good() {
		return Public{}, fmt.Errorf("%w: it is a storage key", ErrFormat)
	}
	switch p.Scheme = in.U16("scheme"); {
	case !in.Good() || p.Scheme == AlgNull:
	case p.Scheme != AlgECDSA:
		return Public{}, fmt.Errorf("%w: signature scheme %04x, want ECDSA", ErrFormat, p.Scheme)
	default:
		if hash := in.U16("scheme's hash"); hash != AlgSHA256 && in.Good() {
			return Public{}, fmt.Errorf("%w: a scheme with the hash %04x, want SHA-256", ErrFormat, hash)
		}
	}
	curve, kdf := in.U16("curve"), in.U16("key derivation")
	x, y := in.Sized(maxScalar, "x"), in.Sized(maxScalar, "y")
	switch err := in.End(); {
	case err != nil:
		return Public{}, err
	case curve != CurveP256 || kdf != AlgNull:
		return Public{}, fmt.Errorf("%w: curve %04x with key derivation %04x, want P-256 without one", ErrFormat, curve, kdf)
	}
	var err error
	if p.Key, err = point(x, y); err != nil {
		return Public{}, err
	}
	sum := sha256.Sum256(b)
	p.Name = append(binary.BigEndian.AppendUint16(nil, AlgSHA256), sum[:]...)
	return p, nil
}

// point is the key with these coordinates, which may lack leading zeros.
func point(x, y []byte) (*ecdsa.PublicKey, error) {
	const uncompressed = 4 // SEC 1, section 2.3.3
	b := make([]byte, 1+2*maxScalar)
	b[0] = uncompressed
	copy(b[1+maxScalar-len(x):], x)
	copy(b[1+2*maxScalar-len(y):], y)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b)
	if err != nil {
		return nil, fmt.Errorf("%w: the point is not on the curve: %w", ErrFormat, err)
	}
	return key, nil
}
