package ima

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"ward/internal/format/pcr"
)

// firstRead is how much is read ahead. The buffer grows beyond it only as
// bytes of a longer entry arrive, never on the word of a length field.
const firstRead = 64 << 10

// namesChunk is how much is allocated at a time for the entries' names.
const namesChunk = 16 << 10

// byteOrder is the order of the integers in a list: that of the host, or little
// endian where the kernel runs with ima_canonical_fmt.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// Decoder reads a list entry by entry. Memory is bounded by the longest entry,
// not by the list.
type Decoder struct {
	r        io.Reader
	buf      []byte
	at, end  int   // what is read and not yet taken
	readErr  error // what ended the reading
	offset   int64 // of buf[at] in the list
	index    int
	ascii    bool
	order    byteOrder
	big      bool // order is big endian
	known    bool // the list's form was recognised
	ordered  bool // the ASCII list's order was looked for
	hashSize int
	last     layout // of the entry before: most have the same
	scratch  []byte // template data that the list does not hold as they are hashed
	names    strings.Builder
}

// NewDecoder returns a decoder. The first bytes tell whether the list is
// binary, of which byte order and with template hashes of which bank, or ASCII;
// the error wraps ErrFormat when they tell neither. An empty input is a list
// without entries.
func NewDecoder(r io.Reader) (*Decoder, error) { return NewDecoderAt(r, 0, 0) }

// NewDecoderAt returns a decoder that goes on in a list of which the first
// entries, offset bytes long, were read before: r begins behind them. Entries are
// numbered and placed from the list's begin.
func NewDecoderAt(r io.Reader, entries int, offset int64) (*Decoder, error) {
	d := &Decoder{r: r, order: binary.LittleEndian, hashSize: pcr.SHA1.Size(), index: entries, offset: offset}
	if err := d.begin(); err != nil {
		return nil, err
	}
	return d, nil
}

// begin looks at the first bytes, if there are any yet.
func (d *Decoder) begin() error {
	d.need(sniffed)
	if d.readErr != nil && !errors.Is(d.readErr, io.EOF) {
		return fmt.Errorf("read IMA list at offset %d: %w", d.offset+int64(d.end-d.at), d.readErr)
	}
	if d.at == d.end {
		return nil
	}
	if d.known = d.recognise(d.buf[d.at:d.end]); !d.known {
		return fmt.Errorf("parse IMA list: %w", ErrFormat)
	}
	return nil
}

// sniffed is how many bytes NewDecoder looks at: PCR, the longest template
// hash, the name's length and the longest name.
const sniffed = 4 + 64 + 4 + MaxTemplateName

// recognise sets form, byte order and hash size from a list's first bytes.
func (d *Decoder) recognise(b []byte) bool {
	if looksASCII(b) {
		d.ascii = true
		return true
	}
	for _, order := range []byteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, size := range []int{20, 32, 48, 64} {
			if beginsBinary(b, order, size) {
				d.order, d.big, d.hashSize = order, order == binary.BigEndian, size
				return true
			}
		}
	}
	return false
}

// looksASCII tells whether a list begins as "%2d " writes a PCR.
func looksASCII(b []byte) bool {
	for i, c := range b[:min(3, len(b))] {
		digit := c >= '0' && c <= '9'
		if !(digit && i < 2 || c == ' ' && (i == 0 || i == 2)) {
			return false
		}
	}
	return true
}

// beginsBinary tells whether b, as far as it goes, begins an entry.
func beginsBinary(b []byte, order binary.ByteOrder, hashSize int) bool {
	if len(b) < 4 {
		return false
	}
	if order.Uint32(b) >= pcr.Count {
		return false
	}
	name := 4 + hashSize + 4
	if len(b) < name {
		return hashSize == pcr.SHA1.Size() // cut short: what most lists have
	}
	n := order.Uint32(b[name-4:])
	if n == 0 || n > MaxTemplateName {
		return false
	}
	for _, c := range b[name:min(name+int(n), len(b))] {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// Next returns the next entry, io.EOF at a clean end, a *TruncatedError where
// the list ends inside an entry, and a *MalformedError where an entry cannot be
// read; the last two end the list. After io.EOF a later call reads on: a list that
// has grown since goes on with what is new. The entry's byte slices hold until the next
// call. Its strings hold for good, but keep a chunk of 16 KiB from which they were
// cut: Clone what is kept for long.
func (d *Decoder) Next() (e Entry, err error) {
	if d.at == d.end && d.readErr == io.EOF {
		d.readErr = nil
	}
	if !d.need(1) {
		return Entry{}, d.ended()
	}
	if !d.known {
		if err := d.begin(); err != nil {
			return Entry{}, err
		}
	}
	e.Index, e.Offset = d.index, d.offset
	var n int
	if d.ascii {
		n, err = d.nextASCII(&e)
	} else {
		n, err = d.nextBinary(&e)
	}
	if err != nil {
		return Entry{}, err
	}
	e.Violation, e.BigEndian = isZero(e.TemplateHash), d.big
	d.at += n
	d.offset += int64(n)
	d.index++
	return e, nil
}

// Position returns how many entries stand before the next one, and at which
// offset of the list it begins.
func (d *Decoder) Position() (entries int, offset int64) { return d.index, d.offset }

// ended is the error where there are fewer bytes than an entry needs.
func (d *Decoder) ended() error {
	switch {
	case !errors.Is(d.readErr, io.EOF):
		return fmt.Errorf("read IMA list at offset %d: %w", d.offset+int64(d.end-d.at), d.readErr)
	case d.at == d.end:
		return io.EOF
	}
	return &TruncatedError{Offset: d.offset, Index: d.index}
}

func (d *Decoder) malformed(format string, args ...any) error {
	return &MalformedError{Offset: d.offset, Index: d.index, Reason: fmt.Sprintf(format, args...)}
}

// need reads until n bytes from d.at on are there; false when they do not come.
func (d *Decoder) need(n int) bool {
	for d.end-d.at < n {
		if d.readErr != nil {
			return false
		}
		d.fill()
	}
	return true
}

// emptyReads bounds reads that give neither bytes nor an error.
const emptyReads = 100

// fill reads once more into the buffer, making room first.
func (d *Decoder) fill() {
	if d.at > 0 {
		copy(d.buf, d.buf[d.at:d.end])
		d.at, d.end = 0, d.end-d.at
	}
	if d.end == len(d.buf) {
		grown := make([]byte, max(firstRead, 2*len(d.buf)))
		copy(grown, d.buf[:d.end])
		d.buf = grown
	}
	for range emptyReads {
		n, err := d.r.Read(d.buf[d.end:])
		d.end += n
		d.readErr = err
		if n > 0 || err != nil {
			return
		}
	}
	d.readErr = io.ErrNoProgress
}

// stringOf returns b as a string. Strings are cut from a larger one, so that an
// entry costs no allocation of its own.
func (d *Decoder) stringOf(b []byte) string {
	if d.names.Cap()-d.names.Len() < len(b) {
		d.names.Reset()
		d.names.Grow(max(namesChunk, len(b)))
	}
	start := d.names.Len()
	d.names.Write(b)
	return d.names.String()[start:]
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
