package baseline

import (
	"encoding/hex"
	"fmt"
	"sort"
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
// name=hexadecimal, sorted as text and joined by commas; empty without any. In
// names, what is no printable ASCII, and the space, backslash, comma and equals
// sign are escaped as in paths.
type Xattrs string

// NewXattrs spells attributes, the values by their names. Those whose names do
// not begin with "security." are left out. More than an entry can hold is an
// error.
func NewXattrs(values map[string][]byte) (Xattrs, error) {
	var fields []string
	for name, value := range values {
		if strings.HasPrefix(name, SecurityPrefix) {
			fields = append(fields, string(appendEscapedBut(nil, name, joints))+"="+hex.EncodeToString(value))
		}
	}
	sort.Strings(fields)
	x := Xattrs(strings.Join(fields, ","))
	return x, x.check()
}

// joints stand between names and values, and are escaped within names.
const joints = ",="

// Cut returns the first attribute, its name as it is spelled and its value in
// hexadecimal, and the others; an empty name: there is none.
func (x Xattrs) Cut() (name, value string, rest Xattrs) {
	field, others, _ := strings.Cut(string(x), ",")
	name, value, _ = strings.Cut(field, "=")
	return name, value, Xattrs(others)
}

// Get returns the value of one attribute in hexadecimal.
func (x Xattrs) Get(name string) (string, bool) {
	for x != "" {
		n, value, rest := x.Cut()
		if n == name {
			return value, true
		}
		x = rest
	}
	return "", false
}

// check finds what has no or another spelling.
func (x Xattrs) check() error {
	if len(x) > maxXattrs {
		return fmt.Errorf("xattrs of %d bytes, want at most %d", len(x), maxXattrs)
	}
	for rest, last, before, more := string(x), "", "", x != ""; more; {
		var field string
		field, rest, more = strings.Cut(rest, ",")
		name, value, ok := strings.Cut(field, "=")
		if !ok || len(name) <= len(SecurityPrefix) || len(name) > maxName || !strings.HasPrefix(name, SecurityPrefix) || name == last || field <= before ||
			len(value)%2 != 0 || strings.Trim(value, "0123456789abcdef") != "" {
			return fmt.Errorf("xattrs %q: want security.name=hexadecimal, sorted, joined by commas", shorten(string(x)))
		}
		if raw, err := unescapeBut(name, joints); err != nil || strings.IndexByte(raw, 0) >= 0 {
			return fmt.Errorf("xattr %q: want a name in its only spelling", shorten(name))
		}
		last, before = name, field
	}
	return nil
}
