// Package baseline holds the file baseline of a release: what every file,
// folder, link and device of the root file system is, as a text that streams in
// constant memory. Its first line names the format; each further line is one
// entry of eleven fields with one space between them:
//
//	ward-baseline 2
//	type mode uid gid size content verity xattrs flags component path
//
// in which type is a letter as find(1) prints it; mode is four octal digits;
// content is the SHA-256 of a regular file (FIPS 180-4), the target of a link,
// or major:minor of a device; verity is the digest of a file that has fs-verity
// (Documentation/filesystems/fsverity.rst); xattrs are the security attributes,
// file capabilities among them (xattr(7)), as name=hexadecimal, sorted by name
// and joined by commas; flags are words joined by commas; component names the
// entry of the SBOM. Fields without a value hold "-". Bytes that are no
// printable ASCII, the space and the backslash are written as a backslash and
// three octal digits, as in mtree(5) and /proc/mounts, so that any file name
// is one field; so are the comma and the equals sign in an attribute's name.
// Entries are sorted by path, component by component, which is the order of a
// walk of the tree: package diff holds the two against each other in one pass.
// Every value has one spelling. The baseline's digest is the SHA-256 of the file.
package baseline

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Bounds of what is read.
const (
	// maxPath is Linux's PATH_MAX; it bounds paths and link targets.
	maxPath = 4096
	// maxComponent bounds the name of an SBOM component.
	maxComponent = 256
	// maxLine holds a path and a link target, each byte of them escaped to
	// four, the security attributes, and 512 bytes for the other fields with
	// maxComponent escaped.
	maxLine = 2*4*maxPath + maxXattrs + 4*maxComponent + 512
	// MaxEntries bounds the entries of a baseline. A Debian desktop has about
	// 300,000 files, a device image 2,000 to 20,000.
	MaxEntries = 1 << 20
)

// header is the first line.
const header = "ward-baseline 2"

var (
	// ErrHeader: the text does not begin as a baseline does.
	ErrHeader = errors.New("not a file baseline of version 2")
	// ErrDigest: the text is not the one whose digest was asked for.
	ErrDigest = errors.New("the file baseline has another digest")
)

// Type is what an entry is.
type Type byte

// Types, as find(1) prints them.
const (
	File        Type = 'f'
	Directory   Type = 'd'
	Symlink     Type = 'l'
	CharDevice  Type = 'c'
	BlockDevice Type = 'b'
	Pipe        Type = 'p'
	Socket      Type = 's'
)

// Flags say what a file is for.
type Flags uint8

// Flags of an entry.
const (
	Exec     Flags = 1 << iota // a program, library or kernel module
	Config                     // settings
	Mutable                    // may change while the device is used
	Volatile                   // may come and go
)

var flagNames = []struct {
	flag Flags
	name string
}{{Exec, "exec"}, {Config, "config"}, {Mutable, "mutable"}, {Volatile, "volatile"}}

func (f Flags) String() string {
	var names []string
	for _, n := range flagNames {
		if f&n.flag != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// ParseFlags reads what String writes: words in the order of the constants.
func ParseFlags(s string) (Flags, error) {
	var f Flags
	if s == "" {
		return f, nil
	}
	for _, word := range strings.Split(s, ",") {
		g, ok := flagOf(word)
		if !ok || g <= f {
			return 0, fmt.Errorf("flags %q: want exec, config, mutable, volatile, in this order, joined by commas", shorten(s))
		}
		f |= g
	}
	return f, nil
}

func flagOf(word string) (Flags, bool) {
	for _, n := range flagNames {
		if n.name == word {
			return n.flag, true
		}
	}
	return 0, false
}

// Device is the pair of numbers of a device.
type Device struct{ Major, Minor uint32 }

// Entry is one line.
type Entry struct {
	Path      string // absolute, cleaned, any bytes but NUL
	Type      Type
	Mode      uint16 // permissions with set-uid, set-gid and sticky bits: 07777 at most
	UID, GID  uint32
	Size      int64    // bytes of a regular file, else 0
	SHA256    [32]byte // of a regular file's content, else zero
	Verity    [32]byte // fs-verity digest of a regular file that has one, else zero
	Xattrs    Xattrs   // security attributes
	Link      string   // of a symbolic link, else empty
	Device    Device   // of a device, else zero
	Flags     Flags
	Component string // of the SBOM, may be empty

	// Vouched says on a device that the content was not read because dm-verity
	// vouches for it. It has no place in a text.
	Vouched bool
}

// ComparePaths orders paths as a walk of the tree meets them: "/" stands before
// every other byte.
func ComparePaths(a, b string) int { return comparePaths(a, b) }

func comparePaths[A, B string | []byte](a A, b B) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return cmp.Compare(rank(a[i]), rank(b[i]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

func rank(c byte) byte {
	if c == '/' {
		return 0
	}
	return c
}

// check finds what has no spelling in the format.
func (e *Entry) check() error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	if e.Mode > 0o7777 {
		return fmt.Errorf("mode %o: want at most 7777", e.Mode)
	}
	if len(e.Component) > maxComponent {
		return fmt.Errorf("component of %d bytes, want at most %d", len(e.Component), maxComponent)
	}
	if e.Flags >= Volatile<<1 {
		return fmt.Errorf("flags %#x: unknown", uint8(e.Flags))
	}
	if e.Vouched {
		return errors.New("content that was not read")
	}
	if err := e.Xattrs.check(); err != nil {
		return err
	}
	if e.Type != File && (e.Size != 0 || e.SHA256 != [32]byte{} || e.Verity != [32]byte{}) || e.Size < 0 {
		return fmt.Errorf("type %c with size %d or a digest", e.Type, e.Size)
	}
	if e.Type != Symlink && e.Link != "" {
		return fmt.Errorf("type %c with a link target", e.Type)
	}
	if e.Type != CharDevice && e.Type != BlockDevice && e.Device != (Device{}) {
		return fmt.Errorf("type %c with device numbers", e.Type)
	}
	switch e.Type {
	case File, Directory, CharDevice, BlockDevice, Pipe, Socket:
		return nil
	case Symlink:
		if e.Link == "" || len(e.Link) > maxPath || strings.IndexByte(e.Link, 0) >= 0 {
			return fmt.Errorf("link target of %d bytes, want 1 to %d and no NUL", len(e.Link), maxPath)
		}
		return nil
	}
	return fmt.Errorf("type %q: want one of f d l c b p s", rune(e.Type))
}

// CheckPath finds what is no path of an entry: it wants an absolute, clean one
// without NUL.
func CheckPath(p string) error {
	if len(p) > maxPath {
		return fmt.Errorf("path of %d bytes, want at most %d", len(p), maxPath)
	}
	if p == "/" {
		return nil
	}
	if !strings.HasPrefix(p, "/") || strings.IndexByte(p, 0) >= 0 {
		return fmt.Errorf("path %q: want an absolute one without NUL", shorten(p))
	}
	for rest, more := p[1:], true; more; {
		var name string
		if name, rest, more = strings.Cut(rest, "/"); name == "" || name == "." || name == ".." {
			return fmt.Errorf("path %q: want no empty, . or .. component", shorten(p))
		}
	}
	return nil
}

// shorten bounds what an error repeats of its input.
func shorten(s string) string {
	const longest = 80
	if len(s) > longest {
		return s[:longest] + "..."
	}
	return s
}
