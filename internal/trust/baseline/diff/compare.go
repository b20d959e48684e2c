// Package diff compares file baselines (package baseline): what a device has with
// what its signed release says it should have, and one release with another. A
// comparison is a merge of two sorted streams in constant memory; what a
// difference means, by the release's flags, is a finding.
package diff

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"ward/internal/trust/baseline"
)

// Kind is how a device's entry differs from the release's.
type Kind uint8

// Kinds of a difference.
const (
	Changed    Kind = iota + 1
	Missing         // the device does not have it
	New             // the release does not name it
	Unreadable      // the device could not read it, or not its content
)

func (k Kind) String() string {
	switch k {
	case Changed:
		return "changed"
	case Missing:
		return "missing"
	case New:
		return "new"
	case Unreadable:
		return "unreadable"
	}
	return "none"
}

// What differs, in Difference.What; a security attribute is "xattr " and its
// name.
const (
	WhatType         = "type"
	WhatContent      = "content"
	WhatSize         = "size"
	WhatLink         = "link"
	WhatDevice       = "device"
	WhatVerity       = "verity"
	WhatMode         = "mode"
	WhatOwner        = "owner"
	WhatCapabilities = "capabilities"
	WhatXattr        = "xattr "
	WhatFlags        = "flags"
	WhatComponent    = "component"
)

// Difference is one between a release and a device.
type Difference struct {
	Path string
	Kind Kind
	Want *baseline.Entry // as the release has it; nil where it does not name it
	Have *baseline.Entry // as the device has it; nil where that is missing or unreadable
	// What differs of an entry that both have, in the order of the constants.
	What      []string
	Component string // of the SBOM, of what the release names
	Err       error  // of Unreadable, and of Changed where the content was not read

	// Listed tells of a path that is not the release's whether the release names
	// the folder that it lies in; Folder has the flags of the deepest one above
	// it that it names.
	Listed bool
	Folder baseline.Flags
}

// ErrOrder: entries of a device do not come in the order of baseline.ComparePaths.
var ErrOrder = errors.New("the device's entries are out of order")

// errNotRead is the content of a file that nobody has read or vouched for.
var errNotRead = errors.New("its content was not read, and nothing vouches for it")

// Compare holds a device's entries against the release's in one pass and in
// constant memory, and tells every difference once, in the order of the paths,
// whatever the flags say about it: what it means is Finding's. Both come in the
// order of baseline.ComparePaths. An entry's flags and component are the
// release's and are not compared; its content is the release's if the digest is,
// or the fs-verity digest, or if dm-verity vouches for it.
//
// have gives an error for an entry with Path set that could not be read, which
// may be a folder that was given before and whose names could not be read: that
// is told once, and nothing beneath it as missing. An error without a path ends
// the comparison; what was not compared by then is not told.
func Compare(want *baseline.Reader, have iter.Seq2[baseline.Entry, error], tell func(Difference)) error {
	return (&merge{want: want, tell: tell, differ: differences}).run(have)
}

// Releases is Compare for the baselines of two releases: flags and components are
// compared, too.
func Releases(a, b *baseline.Reader, tell func(Difference)) error {
	m := merge{want: a, tell: tell, differ: func(want, have *baseline.Entry) []string {
		what := differences(want, have)
		if want.Flags != have.Flags {
			what = append(what, WhatFlags)
		}
		if want.Component != have.Component {
			what = append(what, WhatComponent)
		}
		return what
	}}
	return m.run(func(yield func(baseline.Entry, error) bool) {
		for {
			e, err := b.Next()
			if err == io.EOF || !yield(e, err) || err != nil {
				return
			}
		}
	})
}

type merge struct {
	want   *baseline.Reader
	tell   func(Difference)
	differ func(want, have *baseline.Entry) []string

	next   baseline.Entry // the release's, if more
	more   bool
	last   string // the device's path before
	closed string // a path that could not be read; what lies beneath it is not known
}

func (m *merge) run(have iter.Seq2[baseline.Entry, error]) error {
	if err := m.advance(); err != nil {
		return err
	}
	for e, failed := range have {
		if failed != nil && e.Path == "" {
			return fmt.Errorf("read the device's entries: %w", failed)
		}
		if order := baseline.ComparePaths(m.last, e.Path); order > 0 || order == 0 && failed == nil {
			return fmt.Errorf("compare with baseline: %w: %s behind %s", ErrOrder, spell(e.Path), spell(m.last))
		}
		m.last = e.Path
		if err := m.missing(e.Path); err != nil {
			return err
		}
		if err := m.judge(&e, failed); err != nil {
			return err
		}
	}
	return m.missing("")
}

// advance takes the release's next entry.
func (m *merge) advance() error {
	e, err := m.want.Next()
	m.next, m.more = e, err == nil
	if err == io.EOF {
		return nil
	}
	return err
}

// missing tells of what the release has before a path, or, for the empty one, of
// all that is left.
func (m *merge) missing(before string) error {
	for m.more && (before == "" || baseline.ComparePaths(m.next.Path, before) < 0) {
		if m.closed == "" || !baseline.Within(m.next.Path, m.closed) {
			want := m.next
			m.tell(Difference{Path: want.Path, Kind: Missing, Want: &want, Component: want.Component})
		}
		if err := m.advance(); err != nil {
			return err
		}
	}
	return nil
}

// judge compares an entry of the device with the release's of the same path.
func (m *merge) judge(have *baseline.Entry, failed error) error {
	d := Difference{Path: have.Path, Kind: New, Have: have}
	named := m.more && m.next.Path == have.Path
	if named {
		want := m.next
		d.Want, d.Component, d.Kind = &want, want.Component, Changed
	} else {
		d.Folder, d.Listed = m.want.Holds(have.Path)
	}
	if failed != nil && (m.closed == "" || !baseline.Within(have.Path, m.closed)) {
		m.closed = have.Path
	}
	if d.settle(m.differ, failed) {
		m.tell(d)
	}
	if named {
		return m.advance()
	}
	return nil
}

// settle says what a difference is, of an entry that the device has or could not
// read; false: there is none.
func (d *Difference) settle(differ func(want, have *baseline.Entry) []string, failed error) bool {
	switch {
	case failed != nil:
		d.Kind, d.Have, d.Err = Unreadable, nil, failed
		return true
	case d.Want == nil:
		return true
	}
	d.What = differ(d.Want, d.Have)
	if d.Have.Type == d.Want.Type && !read(d.Want, d.Have) {
		d.Err = errNotRead
	}
	if len(d.What) == 0 && d.Err != nil {
		d.Kind = Unreadable
	}
	return len(d.What) > 0 || d.Err != nil
}

// differences lists what differs between two entries.
func differences(want, have *baseline.Entry) []string {
	if want.Type != have.Type {
		return []string{WhatType}
	}
	hashed := have.SHA256 != [32]byte{}
	verity := want.Verity != have.Verity
	both := want.Verity != [32]byte{} && have.Verity != [32]byte{}
	differs := [...]bool{
		hashed && have.SHA256 != want.SHA256 || !hashed && both && verity,
		want.Size != have.Size,
		want.Link != have.Link,
		want.Device != have.Device,
		verity && !have.Vouched,
		want.Mode != have.Mode,
		want.UID != have.UID || want.GID != have.GID,
	}
	var what []string
	for i, name := range [...]string{WhatContent, WhatSize, WhatLink, WhatDevice, WhatVerity, WhatMode, WhatOwner} {
		if differs[i] {
			what = append(what, name)
		}
	}
	if want.Xattrs == have.Xattrs {
		return what
	}
	// Names are taken from both, so that each that differs is met once or twice.
	what = attributesDiffer(what, want.Xattrs, have.Xattrs, want.Xattrs)
	return attributesDiffer(what, want.Xattrs, have.Xattrs, have.Xattrs)
}

// read tells whether the content of an entry of the release's type is known.
func read(want, have *baseline.Entry) bool {
	return have.Type != baseline.File || have.Vouched || have.SHA256 != [32]byte{} ||
		want.Verity != [32]byte{} && want.Verity == have.Verity
}

// attributesDiffer adds which of the named security attributes differ. An HMAC of
// EVM is the device's own.
func attributesDiffer(what []string, want, have, named baseline.Xattrs) []string {
	for named != "" {
		name, _, rest := named.Cut()
		named = rest
		a, released := want.Get(name)
		b, there := have.Get(name)
		if a == b && released == there || name == baseline.EVM && strings.HasPrefix(b, evmHMAC) {
			continue
		}
		name = WhatXattr + name
		if name == WhatXattr+baseline.Capability {
			name = WhatCapabilities
		}
		if !slices.Contains(what, name) {
			what = append(what, name)
		}
	}
	return what
}

// evmHMAC is the first byte of an EVM value that is an HMAC with the device's own
// key (EVM_XATTR_HMAC, security/integrity/integrity.h): no release can name it.
const evmHMAC = "02"
