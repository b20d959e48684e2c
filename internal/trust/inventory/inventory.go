// Package inventory is which components of a release have run on a device since
// its boot, as a set that is small enough to go with every answer to the fleet
// (IEC 62443-4-2, CR 7.8; FDA, section 524B): a bit for each component that the
// release's file baseline names, in the order of their names.
//
//	0         1                  33        35          35 + (n+7)/8
//	+---------+------------------+---------+-----------+
//	| version | baseline         | n       | bits      |
//	| 0x01    | SHA-256          | 2 bytes |           |
//	+---------+------------------+---------+-----------+
//
// n is the number of components, big-endian; bit i%8 (from the lowest) of byte i/8
// is set when component i has run. Bits behind the last component are zero, so that
// a set has one form. Which component a bit is, only the baseline tells.
package inventory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// Bounds of a set.
const (
	// MaxComponents bounds the components of a release.
	MaxComponents = 65000
	// MaxSize is the longest set, in bytes: below what evidence takes of it.
	MaxSize = headSize + (MaxComponents+7)/8

	version  = 1
	headSize = 1 + 32 + 2
)

// ErrMalformed: the bytes are no set.
var ErrMalformed = errors.New("not a set of components")

var (
	errTooMany = errors.New("make set: the release has more than 65000 components")
	errOther   = errors.New("name components: the set is of another number of them than the baseline has")
)

// Set is a set of the components of one baseline.
type Set struct {
	baseline [32]byte
	count    int
	bits     []byte
}

// New makes the empty set of a baseline's components.
func New(baseline [32]byte, count int) (*Set, error) {
	if count < 0 || count > MaxComponents {
		return nil, errTooMany
	}
	return &Set{baseline: baseline, count: count, bits: make([]byte, (count+7)/8)}, nil
}

// Baseline is the SHA-256 of the baseline whose components are counted.
func (s *Set) Baseline() [32]byte { return s.baseline }

// Count is the number of the baseline's components.
func (s *Set) Count() int { return s.count }

// Len is the number of those in the set.
func (s *Set) Len() int {
	n := 0
	for _, b := range s.bits {
		n += bits.OnesCount8(b)
	}
	return n
}

// Add puts component i in; false when it was there, or is none.
func (s *Set) Add(i int) bool {
	if i < 0 || i >= s.count || s.Has(i) {
		return false
	}
	s.bits[i/8] |= 1 << (i % 8)
	return true
}

// Has says whether component i is in the set.
func (s *Set) Has(i int) bool {
	return i >= 0 && i < s.count && s.bits[i/8]>>(i%8)&1 == 1
}

// Join adds what another set of the same components holds; false when it is of
// others.
func (s *Set) Join(other *Set) bool {
	if s.baseline != other.baseline || s.count != other.count {
		return false
	}
	for i, b := range other.bits {
		s.bits[i] |= b
	}
	return true
}

// Encode writes the set.
func (s *Set) Encode() []byte {
	b := make([]byte, 0, headSize+len(s.bits))
	b = append(b, version)
	b = append(b, s.baseline[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(s.count))
	return append(b, s.bits...)
}

// Parse reads what Encode writes, and nothing else.
func Parse(b []byte) (*Set, error) {
	if len(b) >= headSize && b[0] == version {
		count := int(binary.BigEndian.Uint16(b[headSize-2:]))
		set := b[headSize:]
		whole := count <= MaxComponents && len(set) == (count+7)/8
		if whole && (count%8 == 0 || set[len(set)-1]>>(count%8) == 0) {
			return &Set{baseline: [32]byte(b[1:]), count: count, bits: bytes.Clone(set)}, nil
		}
	}
	return nil, fmt.Errorf("parse set: %w (%d bytes)", ErrMalformed, len(b))
}

// Names gives the components in the set by name. components are the baseline's,
// sorted; another number of them is an error.
func (s *Set) Names(components []string) ([]string, error) {
	if len(components) != s.count {
		return nil, errOther
	}
	names := make([]string, 0, s.Len())
	for i, c := range components {
		if s.Has(i) {
			names = append(names, c)
		}
	}
	return names, nil
}

// Decode reads a set and gives its components by name, as Names does. The caller
// knows that the components are those of the baseline that the set names.
func Decode(b []byte, components []string) ([]string, error) {
	s, err := Parse(b)
	if err != nil {
		return nil, err
	}
	return s.Names(components)
}

// Split divides a component as baselines name it, name@version, at its last @
// that does not begin it; version is empty where it has none.
func Split(component string) (name, version string) {
	if i := strings.LastIndexByte(component, '@'); i > 0 {
		return component[:i], component[i+1:]
	}
	return component, ""
}
