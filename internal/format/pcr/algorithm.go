// Package pcr holds the arithmetic of platform configuration registers: hash
// algorithms of the banks, reset values, extending. It follows the TPM 2.0
// Library, Part 1 (17, PCR operations) and Part 2 (6.3, TPM_ALG_ID), and the
// TCG PC Client Platform TPM Profile for the reset values (4.6, PCR
// attributes). A register's value here is what a log says that it should be;
// only a TPM says what it is.
package pcr

import (
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"ward/internal/format/sm3"
)

// Algorithm is a TPM_ALG_ID (TPM 2.0 Library, Part 2, 6.3).
type Algorithm uint16

// The hash algorithms that firmware uses for banks.
const (
	SHA1   Algorithm = 0x0004
	SHA256 Algorithm = 0x000b
	SHA384 Algorithm = 0x000c
	SHA512 Algorithm = 0x000d
	SM3256 Algorithm = 0x0012
)

var algorithms = []struct {
	id   Algorithm
	name string
	size int
}{
	{SHA1, "sha1", 20},
	{SHA256, "sha256", 32},
	{SHA384, "sha384", 48},
	{SHA512, "sha512", 64},
	{SM3256, "sm3-256", 32},
}

// String returns "sha256" and the like; an unknown algorithm is its number in
// hexadecimal, "0x0027".
func (a Algorithm) String() string {
	for _, k := range algorithms {
		if k.id == a {
			return k.name
		}
	}
	return fmt.Sprintf("0x%04x", uint16(a))
}

// MarshalText writes the algorithm as String does.
func (a Algorithm) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (a *Algorithm) UnmarshalText(text []byte) error {
	if number, ok := strings.CutPrefix(string(text), "0x"); ok {
		v, err := strconv.ParseUint(number, 16, 16)
		if err != nil {
			return fmt.Errorf("parse hash algorithm %q: %w", text, err)
		}
		*a = Algorithm(v)
		return nil
	}
	v, err := ParseAlgorithm(string(text))
	if err == nil {
		*a = v
	}
	return err
}

// Size returns the length of a digest in bytes, 0 when the algorithm is unknown.
func (a Algorithm) Size() int {
	for _, k := range algorithms {
		if k.id == a {
			return k.size
		}
	}
	return 0
}

// Hash returns the algorithm as package crypto names it; false when that has no
// name for it.
func (a Algorithm) Hash() (crypto.Hash, bool) {
	switch a {
	case SHA1:
		return crypto.SHA1, true
	case SHA256:
		return crypto.SHA256, true
	case SHA384:
		return crypto.SHA384, true
	case SHA512:
		return crypto.SHA512, true
	}
	return 0, false
}

// New returns a hash of the algorithm, nil when this build cannot compute it.
func (a Algorithm) New() hash.Hash {
	if a == SM3256 {
		return sm3.New()
	}
	h, ok := a.Hash()
	if !ok {
		return nil
	}
	return h.New()
}

// Sum returns the digest of data, nil when this build cannot compute it.
func (a Algorithm) Sum(data []byte) Digest { return a.AppendSum(nil, data) }

// AppendSum appends the digest of data to b, nothing when this build cannot
// compute it.
func (a Algorithm) AppendSum(b, data []byte) []byte {
	switch a {
	case SHA1:
		sum := sha1.Sum(data)
		return append(b, sum[:]...)
	case SHA256:
		sum := sha256.Sum256(data)
		return append(b, sum[:]...)
	case SHA384:
		sum := sha512.Sum384(data)
		return append(b, sum[:]...)
	case SHA512:
		sum := sha512.Sum512(data)
		return append(b, sum[:]...)
	case SM3256:
		sum := sm3.Sum(data)
		return append(b, sum[:]...)
	}
	return b
}

// ParseAlgorithm reads an algorithm's name; case does not matter, and sm3_256
// is taken too.
func ParseAlgorithm(name string) (Algorithm, error) {
	lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	for _, k := range algorithms {
		if k.name == lower {
			return k.id, nil
		}
	}
	return 0, fmt.Errorf("parse hash algorithm %q: want sha1, sha256, sha384, sha512 or sm3-256", name)
}

// Digest is a digest's bytes; its text is lower-case hexadecimal.
type Digest []byte

func (d Digest) String() string { return hex.EncodeToString(d) }

// MarshalText writes lower-case hexadecimal.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d), nil }

// UnmarshalText reads hexadecimal of either case.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("parse digest: %w", err)
	}
	*d = b
	return nil
}
