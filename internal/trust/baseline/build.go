package baseline

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Options of Build.
type Options struct {
	// Owners replaces the tree's own owners, which on a build host are the
	// builder's.
	Owners *Owners
	// Exclude lists absolute paths that are left out, with what lies below
	// them: the baseline's own place, which cannot hold its own digest.
	Exclude []string
	// Marks adds flags to a path and what lies below it.
	Marks map[string]Flags
	// Device returns the numbers of a device file; fs.FileInfo has no portable
	// place for them. Nil refuses trees with device files.
	Device func(fs.FileInfo) (Device, error)
	// Component names the SBOM component of a regular file by its path and the
	// SHA-256 of its content, empty: it has none. Nil names none.
	Component func(path string, sum [32]byte) string
}

// Summary counts what Build wrote.
type Summary struct {
	Entries, Files int
	Bytes          int64 // of all regular files
	Digest         [32]byte
}

// Build walks a root tree, in which root is "/", and writes its baseline. Files
// are hashed as streams. A file with an x bit, and one that is an ELF image or a
// kernel module, gets the flag exec. Symbolic links are recorded, not followed.
// A name that is not UTF-8 is an error: io/fs cannot open it.
func Build(w io.Writer, root fs.FS, o Options) (Summary, error) {
	for _, p := range o.Exclude {
		if err := checkPath(p); err != nil {
			return Summary{}, fmt.Errorf("exclude: %w", err)
		}
	}
	for p := range o.Marks {
		if err := checkPath(p); err != nil {
			return Summary{}, fmt.Errorf("mark: %w", err)
		}
	}
	out, err := NewWriter(w)
	if err != nil {
		return Summary{}, err
	}
	b := builder{root: root, out: out, o: o, buf: make([]byte, 128<<10)}
	if err := fs.WalkDir(root, ".", b.visit); err != nil {
		return Summary{}, fmt.Errorf("walk tree: %w", err)
	}
	b.sum.Digest, err = out.Close()
	return b.sum, err
}

type builder struct {
	root fs.FS
	out  *Writer
	o    Options
	sum  Summary
	buf  []byte
}

func (b *builder) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if !fs.ValidPath(name) {
		return fmt.Errorf("name %q is not UTF-8: rename the file", name)
	}
	path := "/"
	if name != "." {
		path += name
	}
	for _, x := range b.o.Exclude {
		if x == path && d.IsDir() {
			return fs.SkipDir
		}
		if x == path {
			return nil
		}
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	e, err := b.entry(name, path, info)
	if err != nil {
		return err
	}
	b.sum.Entries++
	return b.out.Write(e)
}

func (b *builder) entry(name, path string, info fs.FileInfo) (Entry, error) {
	owner := b.o.Owners.of(path)
	e := Entry{Path: path, Mode: unixMode(info.Mode()), UID: owner.UID, GID: owner.GID}
	if owner.Mode != nil {
		e.Mode = *owner.Mode
	}
	for p := path; ; p = parent(p) {
		e.Flags |= b.o.Marks[p]
		if p == "/" {
			break
		}
	}
	var err error
	switch info.Mode().Type() {
	case 0:
		e.Type = File
		err = b.file(name, &e)
	case fs.ModeDir:
		e.Type = Directory
	case fs.ModeSymlink:
		e.Type, e.Mode = Symlink, 0o777
		e.Link, err = fs.ReadLink(b.root, name)
	case fs.ModeDevice | fs.ModeCharDevice:
		e.Type = CharDevice
		e.Device, err = b.device(info)
	case fs.ModeDevice:
		e.Type = BlockDevice
		e.Device, err = b.device(info)
	case fs.ModeNamedPipe:
		e.Type = Pipe
	case fs.ModeSocket:
		e.Type = Socket
	default:
		err = errors.New("neither file, folder, link, device, pipe nor socket")
	}
	if err != nil {
		return e, fmt.Errorf("read %q: %w", path, err)
	}
	return e, nil
}

func (b *builder) device(info fs.FileInfo) (Device, error) {
	if b.o.Device == nil {
		return Device{}, errors.New("device file, and no way to read its numbers")
	}
	return b.o.Device(info)
}

// file hashes a regular file and looks at its first bytes.
func (b *builder) file(name string, e *Entry) error {
	f, err := b.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.ReadFull(f, b.buf)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if e.Mode&0o111 != 0 || runs(e.Path, b.buf[:n]) {
		e.Flags |= Exec
	}
	h.Write(b.buf[:n])
	e.Size = int64(n)
	if n == len(b.buf) {
		rest, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, b.buf)
		if err != nil {
			return err
		}
		e.Size += rest
	}
	h.Sum(e.SHA256[:0])
	if b.o.Component != nil {
		e.Component = b.o.Component(e.Path, e.SHA256)
	}
	b.sum.Files++
	b.sum.Bytes += e.Size
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

func unixMode(m fs.FileMode) uint16 {
	u := uint16(m.Perm())
	if m&fs.ModeSetuid != 0 {
		u |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		u |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		u |= 0o1000
	}
	return u
}
