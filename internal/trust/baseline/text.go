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

// Write adds an entry. Entries come in the order of ComparePaths.
func (w *Writer) Write(e Entry) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("write baseline entry %q: %w", e.Path, err)
	}
	if w.entries > 0 && ComparePaths(w.last, e.Path) >= 0 {
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
	if e.Verity == [32]byte{} {
		b = append(b, '-')
	} else {
		b = hex.AppendEncode(b, e.Verity[:])
	}
	b = append(b, ' ')
	if e.Xattrs == "" {
		b = append(b, '-')
	}
	b = append(b, e.Xattrs...)
	b = append(b, ' ')
	b = appendEscaped(b, e.Flags.String())
	b = append(b, ' ')
	b = appendEscaped(b, e.Component)
	b = append(b, ' ')
	b = appendEscaped(b, e.Path)
	return append(b, '\n')
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

func appendEscaped(b []byte, s string) []byte { return appendEscapedBut(b, s, "") }

// appendEscapedBut escapes the bytes of but, too.
func appendEscapedBut(b []byte, s, but string) []byte {
	switch s {
	case "":
		return append(b, '-')
	case "-":
		return append(b, `\055`...)
	}
	for i := range len(s) {
		if plain(s[i]) && strings.IndexByte(but, s[i]) < 0 {
			b = append(b, s[i])
		} else {
			b = append(b, '\\', '0'+s[i]>>6, '0'+s[i]>>3&7, '0'+s[i]&7)
		}
	}
	return b
}

// Escape writes a text as a field of the format: "-" where it is empty.
func Escape(s string) string { return string(appendEscaped(nil, s)) }

// Unescape reads a field in which bytes are escaped, a path for example, and "-"
// as the empty text; it refuses every other spelling than the one that is
// written.
func Unescape(s string) (string, error) { return unescape(s) }

func unescape(s string) (string, error) { return unescapeBut(s, "") }

// unescapeBut is appendEscapedBut's inverse.
func unescapeBut(s, but string) (string, error) {
	if s == "-" {
		return "", nil
	}
	if s == "" {
		return "", errors.New("empty field")
	}
	var b []byte // from the first escape on
	for i := 0; i < len(s); i++ {
		c := s[i]
		itself := plain(c) && strings.IndexByte(but, c) < 0
		switch {
		case itself && b == nil:
			continue
		case itself:
		case c == '\\' && i+3 < len(s):
			n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
			if err != nil || plain(byte(n)) && strings.IndexByte(but, byte(n)) < 0 && s != `\055` {
				return "", fmt.Errorf("field %q: escape at byte %d is not one that is written", shorten(s), i)
			}
			if b == nil {
				b = append(make([]byte, 0, len(s)), s[:i]...)
			}
			c = byte(n)
			i += 3
		default:
			return "", fmt.Errorf("field %q: byte %d is not escaped", shorten(s), i)
		}
		b = append(b, c)
	}
	if b == nil {
		return s, nil
	}
	return string(b), nil
}
