// Package recovery writes and reads the key that opens a device's volumes
// without its TPM, in a form that people can copy from paper: eight groups of
// six digits. Each group is a number below 65,536 times eleven, so that a wrong
// digit and two neighbouring digits in the wrong order are found, and the group
// is named: ten is one less than eleven, so each changes the remainder. The
// passphrase is the text of String, ASCII (the form follows no standard).
package recovery

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	groups = 8
	digits = 6
	factor = 11
	values = 1 << 16 // of each group: 16 of the key's 128 bits
	// maxTyped bounds what is read, in bytes: the digits, and blanks between them.
	maxTyped = 256
)

// ErrKey: what was typed is no recovery key. The error names the group.
var ErrKey = errors.New("not a recovery key")

// Key is a recovery key: 128 random bits.
type Key [groups * 2]byte

// New makes a key of random bytes.
func New(random io.Reader) (Key, error) {
	var k Key
	if _, err := io.ReadFull(random, k[:]); err != nil {
		return Key{}, fmt.Errorf("make recovery key: %w", err)
	}
	return k, nil
}

// String writes the key: groups with a hyphen between.
func (k Key) String() string {
	all := make([]string, groups)
	for i := range all {
		all[i] = fmt.Sprintf("%0*d", digits, factor*int(binary.BigEndian.Uint16(k[2*i:])))
	}
	return strings.Join(all, "-")
}

// Parse reads what somebody typed: the digits, with hyphens and blanks wherever
// they please. Errors wrap ErrKey and name the first group that is wrong.
func Parse(typed []byte) (Key, error) {
	if len(typed) > maxTyped {
		return Key{}, fmt.Errorf("%w: %d characters, at most %d are read", ErrKey, len(typed), maxTyped)
	}
	var all []byte
	for i, c := range typed {
		switch {
		case c >= '0' && c <= '9':
			all = append(all, c)
		case c == '-' || c == ' ' || c == '\t' || c == '\r' || c == '\n':
		default:
			return Key{}, fmt.Errorf("%w: character %d is %q, want digits", ErrKey, i+1, rune(c))
		}
	}
	// The groups first: a wrong digit is better told than a missing one.
	var k Key
	for g := range min(groups, len(all)/digits) {
		n := 0
		for _, c := range all[g*digits : (g+1)*digits] {
			n = 10*n + int(c-'0')
		}
		if n%factor != 0 || n/factor >= values {
			return Key{}, fmt.Errorf("%w: group %d of %d, %s, has a wrong or missing digit", ErrKey, g+1, groups, all[g*digits:(g+1)*digits])
		}
		binary.BigEndian.PutUint16(k[2*g:], uint16(n/factor))
	}
	if len(all) != groups*digits {
		return Key{}, fmt.Errorf("%w: %d digits, want %d groups of %d", ErrKey, len(all), groups, digits)
	}
	return k, nil
}
