// Package build makes a release's file baseline (package baseline) on the build
// host: from a root tree, or from a tar archive of one (POSIX.1-2001 pax with
// the records SCHILY.xattr of star and GNU tar). The tree is a staged folder,
// whose owners are the builder's and are replaced by a table, or the mounted
// image of the root file system. Files are hashed as streams.
package build

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"ward/internal/format/fsverity"
	"ward/internal/trust/baseline"
)

// Options of Tree and Tar.
type Options struct {
	// Owners replaces owners where it names a path or a folder above it.
	Owners *Owners
	// Exclude lists absolute paths that are left out, with what lies below
	// them.
	Exclude []string
	// Self is where the baseline itself lies. It cannot hold its own digest:
	// where its folder is in the tree, it is listed as an empty file that may
	// change; the signed manifest vouches for its content.
	Self string
	// Marks adds flags to a path and what lies below it. No flags end what a folder
	// above it would add.
	Marks map[string]baseline.Flags
	// Verity lists the files, or the folders of files, that have fs-verity on
	// the device.
	Verity []string
	// Component names the entry of the SBOM that a file, link or device belongs
	// to; sum is zero for what is no regular file. Nil: none is known.
	Component func(path string, sum [32]byte) string

	// Host reads from a tree what io/fs has no place for.
	Host Host
}

// Host reads what only the build host's kernel tells about a tree; a field that
// is nil is not known. Names are as io/fs has them.
type Host struct {
	// Device returns the numbers of a device file; nil refuses trees with some.
	Device func(fs.FileInfo) (baseline.Device, error)
	// Owner returns the owner that a file has in the tree; nil: everything
	// belongs to uid and gid 0.
	Owner func(fs.FileInfo) (uid, gid uint32, err error)
	// Xattrs returns the security attributes of a name, which may be a link; nil:
	// there are none.
	Xattrs func(name string) (map[string][]byte, error)
}

// Summary counts what was written.
type Summary struct {
	Entries, Files int
	Bytes          int64 // of all regular files
	Digest         [32]byte
}

// check finds options that name no path.
func (o *Options) check() error {
	paths := map[string][]string{"exclude": o.Exclude, "verity": o.Verity}
	if o.Self != "" {
		paths["self"] = []string{o.Self}
	}
	for p := range o.Marks {
		paths["mark"] = append(paths["mark"], p)
	}
	for option, list := range paths {
		for _, p := range list {
			if err := baseline.CheckPath(p); err != nil {
				return fmt.Errorf("%s: %w", option, err)
			}
		}
	}
	return nil
}

// Tree walks a root tree, in which root is "/", and writes its baseline. A file
// with an x bit, and one that is an ELF image or a kernel module, gets the flag
// exec. Symbolic links are recorded, not followed. A name that is not UTF-8 is an
// error: io/fs cannot open it (Tar can read it).
func Tree(w io.Writer, root fs.FS, o Options) (Summary, error) {
	b, err := newBuilder(w, o)
	if err != nil {
		return Summary{}, err
	}
	t := tree{builder: b, root: root}
	if err := fs.WalkDir(root, ".", t.visit); err != nil {
		return Summary{}, fmt.Errorf("walk tree: %w", err)
	}
	return b.close()
}

// builder writes entries that come in the order of their paths.
type builder struct {
	out *baseline.Writer
	o   Options
	sum Summary
	buf []byte

	home, self bool // the baseline's folder was met, the baseline itself is written
}

func newBuilder(w io.Writer, o Options) (*builder, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	out, err := baseline.NewWriter(w)
	if err != nil {
		return nil, err
	}
	b := &builder{out: out, o: o, buf: make([]byte, 128<<10)}
	b.self = o.Self == "" || b.excluded(o.Self)
	return b, nil
}

func (b *builder) excluded(path string) bool { return beneath(path, b.o.Exclude) }

// beneath tells whether a path is one of a list or lies below one.
func beneath(path string, list []string) bool {
	for _, p := range list {
		if p == "/" || path == p || strings.HasPrefix(path, p) && path[len(p)] == '/' {
			return true
		}
	}
	return false
}

// write adds an entry, and before it the baseline's own when its turn has come.
func (b *builder) write(e baseline.Entry) error {
	if !b.self && baseline.ComparePaths(b.o.Self, e.Path) <= 0 {
		if err := b.writeSelf(); err != nil {
			return err
		}
	}
	if e.Path == b.o.Self && b.home {
		return nil
	}
	if e.Type == baseline.Directory && e.Path == baseline.Parent(b.o.Self) {
		b.home = true
	}
	return b.put(e)
}

func (b *builder) writeSelf() error {
	b.self = true
	if !b.home {
		return nil
	}
	return b.put(b.owned(baseline.Entry{Path: b.o.Self, Type: baseline.File, Mode: 0o644, SHA256: sha256.Sum256(nil), Flags: baseline.Mutable}))
}

// owned gives an entry the owner that the table has for it.
func (b *builder) owned(e baseline.Entry) baseline.Entry {
	if owner, ok := b.o.Owners.of(e.Path); ok {
		e.UID, e.GID = owner.UID, owner.GID
		if owner.Mode != nil {
			e.Mode = *owner.Mode
		}
	}
	return e
}

// put completes an entry by flags and component, and writes it.
func (b *builder) put(e baseline.Entry) error {
	for p := e.Path; ; p = baseline.Parent(p) {
		flags, marked := b.o.Marks[p]
		e.Flags |= flags
		if p == "/" || marked && flags == 0 {
			break
		}
	}
	if b.o.Component != nil && e.Type != baseline.Directory && e.Path != b.o.Self {
		e.Component = b.o.Component(e.Path, e.SHA256)
	}
	b.sum.Entries++
	if e.Type == baseline.File {
		b.sum.Files++
		b.sum.Bytes += e.Size
	}
	return b.out.Write(e)
}

func (b *builder) close() (Summary, error) {
	if !b.self {
		if err := b.writeSelf(); err != nil {
			return Summary{}, err
		}
	}
	var err error
	b.sum.Digest, err = b.out.Close()
	return b.sum, err
}

// content hashes a regular file and looks at its first bytes.
func (b *builder) content(e *baseline.Entry, f io.Reader) error {
	h := sha256.New()
	var to io.Writer = h
	var v *fsverity.Hash
	if beneath(e.Path, b.o.Verity) {
		v = new(fsverity.Hash)
		to = io.MultiWriter(h, v)
	}
	n, err := io.ReadFull(f, b.buf)
	if err != nil && !errors.Is(err, io.EOF) && err != io.ErrUnexpectedEOF {
		return err
	}
	if e.Mode&0o111 != 0 || runs(e.Path, b.buf[:n]) {
		e.Flags |= baseline.Exec
	}
	to.Write(b.buf[:n]) // a hash takes everything
	e.Size = int64(n)
	if n == len(b.buf) {
		rest, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{f}, b.buf)
		if err != nil {
			return err
		}
		e.Size += rest
	}
	h.Sum(e.SHA256[:0])
	if v != nil {
		e.Verity = v.Sum()
	}
	return nil
}

// runs tells ELF images (System V gABI, "ELF Identification") and kernel
// modules, which may be compressed, from plain files.
func runs(path string, head []byte) bool {
	if bytes.HasPrefix(head, []byte("\x7fELF")) {
		return true
	}
	for _, suffix := range []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"} {
		if strings.HasSuffix(path, suffix) {
			return true
		}
	}
	return false
}
