package ima

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"

	"ward/internal/format/pcr"
)

// maxLine bounds a line: template data in hexadecimal and what stands before.
const maxLine = 2*MaxTemplateData + 4096

// nextASCII reads an entry as ima_ascii_measurements_show writes it (ima_fs.c):
//
//	"%2d " PCR, template hash " " template's name { " " field } "\n"
//
// Fields that are empty leave the space before them. Spaces in names were
// written as underscores by the kernel. The list does not say in which byte order
// the kernel hashed the fields' lengths: little endian, unless big endian gives
// the first entry's hash.
func (d *Decoder) nextASCII(e *Entry) (size int, err error) {
	line, size, whole, err := d.line()
	if err != nil {
		return 0, err
	}
	wrong := d.takeLine(e, line)
	switch {
	case !whole && (wrong != "" || e.TemplateHash == nil || isZero(e.TemplateHash) || !e.Rehashes()):
		return 0, &TruncatedError{Offset: d.offset, Index: d.index}
	case wrong != "":
		return 0, d.malformed("%s", wrong)
	}
	return size, nil
}

// line returns the next line without its end, and its size with it. A last line
// may lack the end: whole is then false.
func (d *Decoder) line() (line []byte, size int, whole bool, err error) {
	seen := 0
	for {
		if i := bytes.IndexByte(d.buf[d.at+seen:d.end], '\n'); i >= 0 {
			n := seen + i
			return d.buf[d.at : d.at+n], n + 1, true, nil
		}
		seen = d.end - d.at
		switch {
		case seen > maxLine:
			return nil, 0, false, d.malformed("its line is longer than %d bytes", maxLine)
		case d.need(seen + 1):
		case d.ended() == nil || !isTruncated(d.ended()):
			return nil, 0, false, d.ended()
		default:
			return d.buf[d.at:d.end], seen, false, nil
		}
	}
}

func isTruncated(err error) bool {
	_, ok := err.(*TruncatedError)
	return ok
}

// takeLine fills in the entry from a line. It returns what is wrong, "" if
// nothing is.
func (d *Decoder) takeLine(e *Entry, line []byte) string {
	number, rest, _ := bytes.Cut(bytes.TrimLeft(line, " "), []byte{' '})
	n, err := strconv.ParseUint(string(number), 10, 8)
	if err != nil || n >= pcr.Count {
		return "its line does not begin with a PCR"
	}
	hash, rest, _ := bytes.Cut(rest, []byte{' '})
	name, rest, more := bytes.Cut(rest, []byte{' '})
	l := d.layoutOf(name)
	switch {
	case !slices.Contains([]int{20, 32, 48, 64}, len(hash)/2):
		return "its template hash is not as long as a digest"
	case l.fields == nil:
		return "its template " + strconv.Quote(string(name)) + " is unknown, so that its hash cannot be computed"
	case !more:
		return "its line has no fields"
	}
	d.scratch, err = hex.AppendDecode(d.scratch[:0], hash)
	if err != nil {
		return "its template hash is not hexadecimal"
	}
	size := len(d.scratch)
	e.PCR, e.Template = int(n), l.name
	if wrong := d.takeData(e, l, rest, size); wrong != "" {
		return wrong
	}
	if !d.ordered && !isZero(e.TemplateHash) && l.name != HiddenTemplate {
		d.ordered = true
		if !e.Rehashes() {
			d.order, d.big = binary.BigEndian, true
			d.takeData(e, l, rest, size)
		}
		if !e.Rehashes() {
			d.order, d.big = binary.LittleEndian, false
			d.takeData(e, l, rest, size)
		}
	}
	if l.name == legacyName {
		_, path, _ := bytes.Cut(rest, []byte{' '})
		e.Digest = FileDigest{Algorithm: "sha1", Digest: e.Data[:legacyDigest:legacyDigest]}
		e.Path = d.stringOf(path)
		return ""
	}
	return d.takeFields(e, l)
}

// takeData sets hash and data of an entry, whose hash are the first size
// bytes of scratch, from a line's fields in the present byte order.
func (d *Decoder) takeData(e *Entry, l *layout, fields []byte, size int) string {
	d.scratch = d.scratch[:size]
	wrong := d.appendFields(l, fields)
	e.TemplateHash, e.Data = d.scratch[:size:size], d.scratch[size:]
	return wrong
}

// appendFields appends the template data that a line's fields stand for to
// scratch. It returns what is wrong, "" if nothing is.
func (d *Decoder) appendFields(l *layout, rest []byte) string {
	if l.name == legacyName {
		return d.appendLegacyFields(rest)
	}
	for i, kind := range l.fields {
		var field []byte
		switch last := i == len(l.fields)-1; {
		case last && kind == fieldNameNG:
			field, rest = rest, nil
		case rest == nil: // an editor took the space at the line's end
		default:
			var more bool
			field, rest, more = bytes.Cut(rest, []byte{' '})
			if !more {
				rest = nil
			} else if last {
				return "its line has more fields than its template"
			}
		}
		start := len(d.scratch)
		d.scratch = d.order.AppendUint32(d.scratch, 0)
		if !d.appendField(kind, field) {
			return "its field " + strconv.Itoa(i+1) + " cannot be read"
		}
		d.order.PutUint32(d.scratch[start:], uint32(len(d.scratch)-start-4))
	}
	return ""
}

// appendField appends one field's bytes, without a length.
func (d *Decoder) appendField(kind fieldKind, field []byte) bool {
	var err error
	switch kind {
	case fieldDigestNG, fieldModDigest:
		if len(field) == 0 {
			return kind == fieldModDigest
		}
		i := bytes.LastIndexByte(field, ':')
		if i < 0 {
			return false
		}
		d.scratch = append(append(d.scratch, field[:i+1]...), 0)
		d.scratch, err = hex.AppendDecode(d.scratch, field[i+1:])
	case fieldNameNG:
		if len(field) == 0 {
			return false
		}
		d.scratch = append(append(d.scratch, field...), 0)
	case fieldText, fieldName:
		if len(field) > 0 {
			d.scratch = append(append(d.scratch, field...), 0)
		}
	case fieldUint16, fieldUint32:
		var n uint64
		if kind == fieldUint16 {
			n, err = strconv.ParseUint(string(field), 10, 16)
			d.scratch = d.order.AppendUint16(d.scratch, uint16(n))
		} else {
			n, err = strconv.ParseUint(string(field), 10, 32)
			d.scratch = d.order.AppendUint32(d.scratch, uint32(n))
		}
	default:
		d.scratch, err = hex.AppendDecode(d.scratch, field)
	}
	return err == nil
}

func (d *Decoder) appendLegacyFields(rest []byte) string {
	digest, path, more := bytes.Cut(rest, []byte{' '})
	if !more || hex.DecodedLen(len(digest)) != legacyDigest || len(path) >= maxEventName {
		return "its digest or its name is not as the template ima has them"
	}
	var sum [legacyDigest]byte
	if _, err := hex.Decode(sum[:], digest); err != nil {
		return "its digest is not hexadecimal"
	}
	d.scratch = appendLegacy(d.scratch, sum[:], path)
	return ""
}
