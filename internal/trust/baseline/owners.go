package baseline

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Owner says who owns a part of the tree.
type Owner struct {
	UID, GID uint32
	// Mode replaces the mode found in the tree, for this path alone; nil keeps
	// it.
	Mode *uint16
}

// Owners is the table of owners for a tree that was staged without root. The
// zero Owners gives everything to uid and gid 0.
type Owners struct {
	table map[string]Owner
}

// maxOwnersLine bounds a line of an owners file: an escaped path and numbers.
const maxOwnersLine = 4*maxPath + 64

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
	path, err := unescape(f[0])
	if err != nil {
		return "", Owner{}, err
	}
	if err := checkPath(path); err != nil {
		return "", Owner{}, err
	}
	uid, err := decimal(f[1], 32)
	if err != nil {
		return "", Owner{}, fmt.Errorf("uid: %w", err)
	}
	gid, err := decimal(f[2], 32)
	if err != nil {
		return "", Owner{}, fmt.Errorf("gid: %w", err)
	}
	owner := Owner{UID: uint32(uid), GID: uint32(gid)}
	if len(f) == 4 {
		m, err := strconv.ParseUint(f[3], 8, 12)
		if err != nil {
			return "", Owner{}, fmt.Errorf("mode %q: want octal digits, at most 7777", shorten(f[3]))
		}
		mode := uint16(m)
		owner.Mode = &mode
	}
	return path, owner, nil
}

// of returns the owner of a path by the longest prefix of whole components.
func (o *Owners) of(path string) Owner {
	if o == nil || len(o.table) == 0 {
		return Owner{}
	}
	if owner, ok := o.table[path]; ok {
		return owner
	}
	for p := path; p != "/"; {
		p = parent(p)
		if owner, ok := o.table[p]; ok {
			owner.Mode = nil
			return owner
		}
	}
	return Owner{}
}

// parent is the folder of an absolute path; that of "/" is "/".
func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i <= 0 {
		return "/"
	}
	return p[:i]
}
