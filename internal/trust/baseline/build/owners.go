package build

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"ward/internal/trust/baseline"
)

// Owner says who owns a part of the tree.
type Owner struct {
	UID, GID uint32
	// Mode replaces the mode found in the tree, for this path alone; nil keeps
	// it.
	Mode *uint16
}

// Owners is the table of owners for a tree that was staged without root.
type Owners struct {
	table map[string]Owner
}

// maxOwnersLine bounds a line of an owners file: an escaped path and numbers.
const maxOwnersLine = 4*4096 + 64

// ParseOwners reads a table of owners: lines of "path uid gid" or "path uid gid
// mode", the path absolute and escaped as in a baseline, the mode octal. Empty
// lines and those that begin with # are skipped. A line covers its path and
// what lies below it, unless a longer path covers it too; the mode is for the
// path itself only. Errors name the line.
func ParseOwners(r io.Reader) (*Owners, error) {
	o := &Owners{table: make(map[string]Owner)}
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxOwnersLine)
	n := 0
	for in.Scan() {
		n++
		f := strings.Fields(in.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		path, owner, err := parseOwner(f)
		if err != nil {
			return nil, fmt.Errorf("parse owners line %d: %w", n, err)
		}
		if _, twice := o.table[path]; twice {
			return nil, fmt.Errorf("parse owners line %d: %q stands twice", n, path)
		}
		o.table[path] = owner
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("parse owners line %d: %w", n+1, err)
	}
	return o, nil
}

func parseOwner(f []string) (string, Owner, error) {
	if len(f) != 3 && len(f) != 4 {
		return "", Owner{}, fmt.Errorf("%d fields, want path uid gid, or path uid gid mode", len(f))
	}
	path, err := baseline.Unescape(f[0])
	if err != nil {
		return "", Owner{}, err
	}
	if err := baseline.CheckPath(path); err != nil {
		return "", Owner{}, err
	}
	uid, err := id(f[1])
	if err != nil {
		return "", Owner{}, fmt.Errorf("uid: %w", err)
	}
	gid, err := id(f[2])
	if err != nil {
		return "", Owner{}, fmt.Errorf("gid: %w", err)
	}
	owner := Owner{UID: uid, GID: gid}
	if len(f) == 4 {
		m, err := strconv.ParseUint(f[3], 8, 12)
		if err != nil {
			return "", Owner{}, fmt.Errorf("mode %.80q: want octal digits, at most 7777", f[3])
		}
		mode := uint16(m)
		owner.Mode = &mode
	}
	return path, owner, nil
}

// id reads a user's or group's number.
func id(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || len(s) > 1 && s[0] == '0' {
		return 0, errors.New("want a decimal number of at most 32 bits")
	}
	return uint32(n), nil
}

// of returns the owner of a path by the longest prefix of whole components;
// false where the table has none.
func (o *Owners) of(path string) (Owner, bool) {
	if o == nil {
		return Owner{}, false
	}
	if owner, ok := o.table[path]; ok {
		return owner, true
	}
	for p := path; p != "/"; {
		p = baseline.Parent(p)
		if owner, ok := o.table[p]; ok {
			owner.Mode = nil
			return owner, true
		}
	}
	return Owner{}, false
}
