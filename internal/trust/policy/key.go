package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Numbers of a public area (Part 2: TPM_ALG_ID, section 6.3; TPM_ECC_CURVE,
// 6.4; TPMA_OBJECT, 8.3).
const (
	algSHA256    uint16 = 0x000b
	algNull      uint16 = 0x0010
	algECDSA     uint16 = 0x0018
	algECC       uint16 = 0x0023
	curveP256    uint16 = 0x0003
	userWithAuth uint32 = 1 << 6
	signEncrypt  uint32 = 1 << 18
)

// ErrKey: the key is not one that policies can be signed with.
var ErrKey = errors.New("not a policy key")

// Key is the public part of a policy key, as the TPM knows it.
type Key struct {
	Public *ecdsa.PublicKey
	Area   []byte // TPMT_PUBLIC
	Name   []byte // TPM2B_NAME: algorithm and digest of the public area
}

// NewKey gives a P-256 key the public area by which every TPM and every build
// host names it: ECDSA with SHA-256, names by SHA-256, attributes userWithAuth
// and sign. The name is part of every policy that the key may approve.
func NewKey(public *ecdsa.PublicKey) (Key, error) {
	if public == nil || public.Curve != elliptic.P256() {
		return Key{}, fmt.Errorf("name policy key: %w: want a key on the curve P-256", ErrKey)
	}
	point, err := public.Bytes()
	if err != nil {
		return Key{}, fmt.Errorf("name policy key: %w: %w", ErrKey, err)
	}
	x, y := point[1:33], point[33:]
	area := numbers(algECC, algSHA256)
	area = binary.BigEndian.AppendUint32(area, userWithAuth|signEncrypt)
	area = append(area, numbers(0 /* no policy */, algNull, algECDSA, algSHA256, curveP256, algNull)...)
	area = append(append(area, numbers(uint16(len(x)))...), x...)
	area = append(append(area, numbers(uint16(len(y)))...), y...)
	return Key{Public: public, Area: area, Name: name(area)}, nil
}

func numbers(all ...uint16) []byte {
	var b []byte
	for _, n := range all {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

// name is the Name of an object or NV index by its public area (Part 1,
// section 16).
func name(area []byte) []byte {
	sum := sha256.Sum256(area)
	return append(numbers(algSHA256), sum[:]...)
}
