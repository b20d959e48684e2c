package baseline

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
)

// Writer writes a baseline entry by entry.
type Writer struct {
	out     *bufio.Writer
	sum     hash.Hash
	entries int
	last    string
	line    []byte
}

// NewWriter writes the header and returns a Writer. What is written is complete
// only after Close.
func NewWriter(w io.Writer) (*Writer, error) {
	sum := sha256.New()
	bw := &Writer{out: bufio.NewWriter(io.MultiWriter(w, sum)), sum: sum}
	if _, err := bw.out.WriteString(header + "\n"); err != nil {
		return nil, fmt.Errorf("write baseline: %w", err)
	}
	return bw, nil
}

// Write adds an entry. Entries come in the order of Compare.
func (w *Writer) Write(e Entry) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("write baseline entry %q: %w", e.Path, err)
	}
	if w.entries > 0 && Compare(w.last, e.Path) >= 0 {
		return fmt.Errorf("write baseline entry %q: out of order behind %q", e.Path, w.last)
	}
	if w.entries == MaxEntries {
		return fmt.Errorf("write baseline entry %q: more than %d entries", e.Path, MaxEntries)
	}
	w.line = appendEntry(w.line[:0], &e)
	if _, err := w.out.Write(w.line); err != nil {
		return fmt.Errorf("write baseline: %w", err)
	}
	w.entries++
	w.last = e.Path
	return nil
}

// Close flushes and returns the baseline's digest. It does not close the
// underlying writer.
func (w *Writer) Close() ([32]byte, error) {
	if err := w.out.Flush(); err != nil {
		return [32]byte{}, fmt.Errorf("write baseline: %w", err)
	}
	return [32]byte(w.sum.Sum(nil)), nil
}

// Digest is the digest by which a release manifest names the baseline: the
// SHA-256 of its bytes.
func Digest(r io.Reader) ([32]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return [32]byte{}, fmt.Errorf("read baseline: %w", err)
	}
	return [32]byte(h.Sum(nil)), nil
}

// Reader reads a baseline entry by entry in constant memory.
type Reader struct {
	in   *bufio.Reader
	line int // number of the line last read, from 1
	last string
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
	line, err := r.next()
	if errors.Is(err, io.EOF) {
		return Entry{}, io.EOF
	}
	if err != nil {
		return Entry{}, fmt.Errorf("parse baseline: %w", err)
	}
	if r.line > MaxEntries+1 {
		return Entry{}, fmt.Errorf("parse baseline line %d: more than %d entries", r.line, MaxEntries)
	}
	e, err := parseEntry(string(line))
	if err == nil && r.line > 2 && Compare(r.last, e.Path) >= 0 {
		err = fmt.Errorf("path %q is out of order", shorten(e.Path))
	}
	if err != nil {
		return Entry{}, fmt.Errorf("parse baseline line %d: %w", r.line, err)
	}
	r.last = e.Path
	return e, nil
}

// fieldCount is the number of fields of a line.
const fieldCount = 9

func appendEntry(b []byte, e *Entry) []byte {
	b = fmt.Appendf(b, "%c %04o %d %d %d ", e.Type, e.Mode, e.UID, e.GID, e.Size)
	switch e.Type {
	case File:
		b = hex.AppendEncode(b, e.SHA256[:])
	case Symlink:
		b = appendEscaped(b, e.Link)
	case CharDevice, BlockDevice:
		b = fmt.Appendf(b, "%d:%d", e.Device.Major, e.Device.Minor)
	default:
		b = append(b, '-')
	}
	b = append(b, ' ')
	b = appendEscaped(b, e.Flags.String())
	b = append(b, ' ')
	b = appendEscaped(b, e.Component)
	b = append(b, ' ')
	b = appendEscaped(b, e.Path)
	return append(b, '\n')
}

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
	flags, err := unescape(f[6])
	if err != nil {
		return e, err
	}
	if e.Flags, err = ParseFlags(flags); err != nil {
		return e, err
	}
	if e.Component, err = unescape(f[7]); err != nil {
		return e, err
	}
	if e.Path, err = unescape(f[8]); err != nil {
		return e, err
	}
	return e, e.check()
}

// parseContent reads the field whose meaning depends on the type.
func (e *Entry) parseContent(s string) error {
	switch e.Type {
	case File:
		n, err := hex.Decode(e.SHA256[:], []byte(s[:min(len(s), 2*len(e.SHA256))]))
		if err != nil || n != len(e.SHA256) || len(s) != 2*n || strings.ToLower(s) != s {
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

// decimal reads a number in its only spelling.
func decimal(s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil || len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("number %q: want a decimal number of at most %d bits", shorten(s), bits)
	}
	return n, nil
}

// plain tells whether a byte stands for itself.
func plain(c byte) bool { return c > ' ' && c < 0x7f && c != '\\' }

func appendEscaped(b []byte, s string) []byte {
	switch s {
	case "":
		return append(b, '-')
	case "-":
		return append(b, `\055`...)
	}
	for i := range len(s) {
		if plain(s[i]) {
			b = append(b, s[i])
		} else {
			b = append(b, '\\', '0'+s[i]>>6, '0'+s[i]>>3&7, '0'+s[i]&7)
		}
	}
	return b
}

// unescape is appendEscaped's inverse; it refuses every other spelling.
func unescape(s string) (string, error) {
	if s == "-" {
		return "", nil
	}
	if strings.IndexByte(s, '\\') < 0 {
		for i := range len(s) {
			if !plain(s[i]) {
				return "", fmt.Errorf("field %q: byte %#02x is not escaped", shorten(s), s[i])
			}
		}
		if s == "" {
			return "", errors.New("empty field")
		}
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case plain(c):
		case c == '\\' && i+3 < len(s):
			n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
			if err != nil || plain(byte(n)) && s != `\055` {
				return "", fmt.Errorf("field %q: escape at byte %d is not one that is written", shorten(s), i)
			}
			c = byte(n)
			i += 3
		default:
			return "", fmt.Errorf("field %q: byte %d is not escaped", shorten(s), i)
		}
		b = append(b, c)
	}
	return string(b), nil
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
