package baseline

import (
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

const (
	// maxXattrs bounds the text of an entry's attributes. A label of SELinux or
	// Smack has less than 256 bytes, a capability 24, a signature of IMA or EVM
	// with RSA 4096 has 524, and each is written with two digits a byte.
	maxXattrs = 16 << 10
	// maxName is XATTR_NAME_MAX, each byte escaped.
	maxName = 4 * 255
	// SecurityPrefix is what the names of security attributes begin with
	// (xattr(7), "Security extended attributes").
	SecurityPrefix = "security."
	// Capability is the attribute of file capabilities (capabilities(7)).
	Capability = "security.capability"

	// IMA is the attribute of a file's digest or signature, EVM that of its
	// metadata.
	IMA = "security.ima"
	EVM = "security.evm"
)

// Xattrs are the security attributes of an entry in their only spelling:
// name=hexadecimal, sorted by name and joined by commas; empty without any. In
// names, what is no printable ASCII, and the space, backslash, comma and equals
// sign are escaped as in paths.
type Xattrs string

// NewXattrs spells attributes, the values by their names. Those whose names do
// not begin with "security." are left out. More than an entry can hold is an
// error.
func NewXattrs(values map[string][]byte) (Xattrs, error) {
	var b []byte
	for _, name := range slices.SortedFunc(maps.Keys(values), func(a, c string) int {
		return strings.Compare(spellName(a), spellName(c))
	}) {
		if !strings.HasPrefix(name, SecurityPrefix) {
			continue
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(append(b, spellName(name)...), '=')
		b = hex.AppendEncode(b, values[name])
		if len(b) > maxXattrs {
			return "", fmt.Errorf("security attributes of more than %d bytes in their spelling", maxXattrs)
		}
	}
	x := Xattrs(b)
	return x, x.check()
}

// joints stand between names and values, and are escaped within names.
const joints = ",="

// spellName escapes a name so that it holds no joint.
func spellName(s string) string { return string(appendEscapedBut(nil, s, joints)) }

// All gives the attributes, names as they are spelled and values in hexadecimal.
func (x Xattrs) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for field := range strings.SplitSeq(string(x), ",") {
			name, value, _ := strings.Cut(field, "=")
			if field != "" && !yield(name, value) {
				return
			}
		}
	}
}

// Get returns the value of one attribute in hexadecimal.
func (x Xattrs) Get(name string) (string, bool) {
	for n, value := range x.All() {
		if n == name {
			return value, true
		}
	}
	return "", false
}

// check finds what has no or another spelling.
func (x Xattrs) check() error {
	if len(x) > maxXattrs {
		return fmt.Errorf("xattrs of %d bytes, want at most %d", len(x), maxXattrs)
	}
	for rest, last, more := string(x), "", x != ""; more; {
		var field string
		field, rest, more = strings.Cut(rest, ",")
		name, value, ok := strings.Cut(field, "=")
		if !ok || len(name) <= len(SecurityPrefix) || len(name) > maxName || !strings.HasPrefix(name, SecurityPrefix) || name <= last ||
			len(value)%2 != 0 || strings.Trim(value, "0123456789abcdef") != "" {
			return fmt.Errorf("xattrs %q: want security.name=hexadecimal, sorted by name, joined by commas", shorten(string(x)))
		}
		if raw, err := unescapeBut(name, joints); err != nil || strings.IndexByte(raw, 0) >= 0 {
			return fmt.Errorf("xattr %q: want a name in its only spelling", shorten(name))
		}
		last = name
	}
	return nil
}
