package baseline

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Reader reads a baseline entry by entry in constant memory.
type Reader struct {
	in      *bufio.Reader
	line    int // number of the line last read, from 1
	last    string
	pending *Entry   // returned next
	before  folder   // returned last, whatever it is; without a path at the beginning
	inside  bool     // and that was a folder
	open    []folder // that the entry before that one lies in, itself included
}

// folder is one that the baseline lists, with its flags.
type folder struct {
	path  string
	flags Flags
}

// NewReader reads the header; ErrHeader if it is not a baseline's.
func NewReader(r io.Reader) (*Reader, error) {
	b := &Reader{in: bufio.NewReaderSize(r, maxLine)}
	line, err := b.next()
	if err != nil && !errors.Is(err, errLine) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err != nil || string(line) != header {
		return nil, fmt.Errorf("read baseline: %w: the first line is not %q", ErrHeader, header)
	}
	return b, nil
}

// errLine is a line that is too long or has no end.
var errLine = errors.New("read line")

// next returns the next line without its end. It is valid until the next call.
func (r *Reader) next() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	r.line++
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: line %d is longer than %d bytes", errLine, r.line, maxLine)
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, fmt.Errorf("%w: line %d is cut short", errLine, r.line)
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	}
	return nil, fmt.Errorf("read baseline: %w", err)
}

// Next returns the next entry, io.EOF after the last one. Errors name the line.
func (r *Reader) Next() (Entry, error) {
	r.pass()
	e := r.pending
	if e == nil {
		line, err := r.next()
		if err == io.EOF {
			return Entry{}, io.EOF
		}
		if err != nil {
			return Entry{}, fmt.Errorf("parse baseline: %w", err)
		}
		if e, err = r.entry(line); err != nil {
			return Entry{}, err
		}
	}
	r.pending = nil
	r.before, r.inside = folder{e.Path, e.Flags}, e.Type == Directory
	return *e, nil
}

// Skip passes over all entries up to a path, itself included.
func (r *Reader) Skip(path string) error {
	for {
		e, err := r.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case ComparePaths(e.Path, path) > 0:
			r.pending, r.before = &e, folder{}
			return nil
		}
	}
}

// pass leaves the entry that was returned last behind: the folders that a path
// behind it may lie in are those that it lies in, and itself.
func (r *Reader) pass() {
	if r.before.path == "" {
		return
	}
	for len(r.open) > 0 && !Within(r.before.path, r.open[len(r.open)-1].path) {
		r.open = r.open[:len(r.open)-1]
	}
	if r.inside {
		r.open = append(r.open, r.before)
	}
	r.before = folder{}
}

// Holds returns the flags of the deepest folder of the baseline that a path lies
// in, and whether it lies in it directly. The path stands before the entry
// returned last, and behind the one before that.
func (r *Reader) Holds(path string) (flags Flags, listed bool) {
	for i := len(r.open) - 1; i >= 0; i-- {
		if f := r.open[i]; f.path != path && Within(path, f.path) {
			return f.flags, f.path == Parent(path)
		}
	}
	return 0, path == "/"
}

// Within tells whether a path is a folder or lies beneath it.
func Within(path, folder string) bool {
	return folder == "/" || strings.HasPrefix(path, folder) && (len(path) == len(folder) || path[len(folder)] == '/')
}

// Parent is the folder of an absolute path; that of "/" is "/".
func Parent(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 {
		return "/"
	}
	return path[:i]
}

// entry parses the line that was read last.
func (r *Reader) entry(line []byte) (*Entry, error) {
	if r.line > MaxEntries+1 {
		return nil, fmt.Errorf("parse baseline line %d: more than %d entries", r.line, MaxEntries)
	}
	e, err := parseEntry(string(line))
	if err == nil && r.line > 2 && ComparePaths(r.last, e.Path) >= 0 {
		err = fmt.Errorf("path %q is out of order", shorten(e.Path))
	}
	if err != nil {
		return nil, fmt.Errorf("parse baseline line %d: %w", r.line, err)
	}
	r.last = e.Path
	return &e, nil
}

// Check reads a baseline to its end and returns its digest.
func Check(r io.Reader) ([32]byte, error) {
	h := sha256.New()
	in, err := NewReader(io.TeeReader(r, h))
	if err != nil {
		return [32]byte{}, err
	}
	for {
		if _, err := in.Next(); err == io.EOF {
			return [32]byte(h.Sum(nil)), nil
		} else if err != nil {
			return [32]byte{}, err
		}
	}
}

// fieldCount is the number of fields of a line.
const fieldCount = 11

func parseEntry(line string) (Entry, error) {
	f := strings.SplitN(line, " ", fieldCount+1)
	if len(f) != fieldCount {
		return Entry{}, fmt.Errorf("%d fields, want %d", len(f), fieldCount)
	}
	var e Entry
	var err error
	if len(f[0]) != 1 {
		return e, fmt.Errorf("type %q: want one letter", shorten(f[0]))
	}
	e.Type = Type(f[0][0])
	mode, err := strconv.ParseUint(f[1], 8, 12)
	if err != nil || len(f[1]) != 4 {
		return e, fmt.Errorf("mode %q: want four octal digits", shorten(f[1]))
	}
	e.Mode = uint16(mode)
	var n [3]uint64
	for i, bits := range [...]int{32, 32, 63} {
		if n[i], err = decimal(f[2+i], bits); err != nil {
			return e, fmt.Errorf("%s: %w", [...]string{"uid", "gid", "size"}[i], err)
		}
	}
	e.UID, e.GID, e.Size = uint32(n[0]), uint32(n[1]), int64(n[2])
	if err := e.parseContent(f[5]); err != nil {
		return e, err
	}
	if f[6] != "-" {
		if e.Verity, err = parseSum(f[6]); err != nil || e.Verity == [32]byte{} {
			return e, fmt.Errorf("verity %q: want a digest in 64 lower-case hexadecimal digits, not all zero", shorten(f[6]))
		}
	}
	if f[7] != "-" {
		if e.Xattrs = Xattrs(f[7]); e.Xattrs == "" {
			return e, errors.New("empty field")
		}
	}
	flags, err := unescape(f[8])
	if err != nil {
		return e, err
	}
	if e.Flags, err = ParseFlags(flags); err != nil {
		return e, err
	}
	if e.Component, err = unescape(f[9]); err != nil {
		return e, err
	}
	if e.Path, err = unescape(f[10]); err != nil {
		return e, err
	}
	return e, e.check()
}

// parseSum reads a SHA-256 in its only spelling.
func parseSum(s string) (sum [32]byte, err error) {
	if len(s) != 2*len(sum) || strings.ToLower(s) != s {
		return sum, errors.New("want 64 lower-case hexadecimal digits")
	}
	_, err = hex.Decode(sum[:], []byte(s))
	return sum, err
}

// parseContent reads the field whose meaning depends on the type.
func (e *Entry) parseContent(s string) error {
	switch e.Type {
	case File:
		var err error
		if e.SHA256, err = parseSum(s); err != nil {
			return fmt.Errorf("content %q: want a SHA-256 in 64 lower-case hexadecimal digits", shorten(s))
		}
	case Symlink:
		link, err := unescape(s)
		if err != nil {
			return err
		}
		e.Link = link
	case CharDevice, BlockDevice:
		major, minor, _ := strings.Cut(s, ":")
		a, err1 := decimal(major, 32)
		b, err2 := decimal(minor, 32)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("content %q: want major:minor", shorten(s))
		}
		e.Device = Device{uint32(a), uint32(b)}
	default:
		if s != "-" {
			return fmt.Errorf("content %q: want - for type %c", shorten(s), e.Type)
		}
	}
	return nil
}
