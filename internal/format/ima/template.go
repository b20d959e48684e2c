package ima

import (
	"bytes"
	"strings"

	"ward/internal/format/pcr"
)

// fieldKind says how a template's field is laid out and what it holds.
type fieldKind uint8

const (
	fieldDigest    fieldKind = iota + 1 // d: 20 bytes, the template ima
	fieldName                           // n: the name, the template ima
	fieldDigestNG                       // d-ng, d-ngv2: "sha256:" NUL digest, "verity:sha256:" NUL digest
	fieldNameNG                         // n-ng: the name, NUL
	fieldSignature                      // sig
	fieldBuffer                         // buf
	fieldModDigest                      // d-modsig: as d-ng, of the file without its appended signature
	fieldModSig                         // modsig
	fieldText                           // xattrnames: text, NUL
	fieldHex                            // evmsig, xattrlengths, xattrvalues
	fieldUint16                         // imode
	fieldUint32                         // iuid, igid
	fieldHidden                         // x-sha256: the hash of data that are not shown
)

// fieldKinds are the kernel's template fields (ima_template.c,
// supported_fields).
var fieldKinds = map[string]fieldKind{
	"d":            fieldDigest,
	"n":            fieldName,
	"d-ng":         fieldDigestNG,
	"d-ngv2":       fieldDigestNG,
	"n-ng":         fieldNameNG,
	"sig":          fieldSignature,
	"buf":          fieldBuffer,
	"d-modsig":     fieldModDigest,
	"modsig":       fieldModSig,
	"evmsig":       fieldHex,
	"iuid":         fieldUint32,
	"igid":         fieldUint32,
	"imode":        fieldUint16,
	"xattrnames":   fieldText,
	"xattrlengths": fieldHex,
	"xattrvalues":  fieldHex,
	hiddenField:    fieldHidden,
}

// layout is a template: its name in the list and its fields. No fields: unknown.
type layout struct {
	name   string
	fields []fieldKind
}

// legacyName is the template whose fields carry no lengths, and whose name is
// hashed padded.
const legacyName = "ima"

// layouts are the kernel's templates.
var layouts = func() map[string]layout {
	m := make(map[string]layout)
	for name, format := range formats {
		m[name] = parseLayout(name, format)
	}
	return m
}()

// parseLayout reads a format string. A field that the kernel does not know
// leaves the whole layout unknown: what follows it cannot be told.
func parseLayout(name, format string) layout {
	l := layout{name: name}
	for field := range strings.SplitSeq(format, "|") {
		kind, ok := fieldKinds[field]
		if !ok || len(l.fields) == MaxFields {
			return layout{name: name}
		}
		l.fields = append(l.fields, kind)
	}
	return l
}

// layoutOf returns the template of a name in the list: a built-in one, or a
// format string, as kernels write it that were told one (ima_template_fmt=).
func (d *Decoder) layoutOf(name []byte) *layout {
	if d.last.name != string(name) {
		l, ok := layouts[string(name)]
		if !ok {
			format := string(name)
			l = parseLayout(format, format)
		}
		d.last = l
	}
	return &d.last
}

// takeFields fills in the entry from its template data, whose fields carry
// their lengths. It returns what is wrong, "" if nothing is.
func (d *Decoder) takeFields(e *Entry, l *layout) string {
	rest := e.Data
	for _, kind := range l.fields {
		if len(rest) < 4 {
			return "its template data end before a field"
		}
		n := d.uint32(rest)
		rest = rest[4:]
		if uint64(n) > uint64(len(rest)) {
			return "a field is longer than its template data"
		}
		field := rest[:n:n]
		rest = rest[n:]
		switch kind {
		case fieldDigestNG:
			if !e.Digest.Parse(field) {
				return "its digest names no algorithm"
			}
		case fieldDigest:
			e.Digest = FileDigest{Algorithm: "sha1", Digest: field}
		case fieldName, fieldNameNG:
			e.Path = d.stringOf(bytes.TrimSuffix(field, []byte{0}))
		case fieldSignature:
			e.Signature = notEmpty(field)
		case fieldModSig:
			e.ModSignature = notEmpty(field)
		case fieldBuffer:
			e.Buffer = notEmpty(field)
		case fieldHidden:
			if len(field) != pcr.SHA256.Size() {
				return "the hash of its hidden data is not of SHA-256"
			}
			e.Hidden = field
		}
	}
	if l.fields != nil && len(rest) != 0 {
		return "its template data have more fields than its template"
	}
	return ""
}

func notEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// Parse reads the bytes of a field d-ng, d-ngv2 or d-modsig: ["verity:" or "ima:"]
// algorithm ":" NUL digest. False: they are none. The digest is a part of them.
func (f *FileDigest) Parse(field []byte) bool {
	end := bytes.IndexByte(field, 0)
	if end < 1 || field[end-1] != ':' {
		return false
	}
	algorithm := field[:end-1]
	if colon := bytes.IndexByte(algorithm, ':'); colon >= 0 {
		f.Verity = string(algorithm[:colon]) == "verity"
		algorithm = algorithm[colon+1:]
	}
	f.Algorithm, f.Digest = algorithmName(algorithm), field[end+1:]
	return true
}

// algorithmName returns the name without allocating for the common ones.
func algorithmName(b []byte) string {
	switch string(b) {
	case "sha1":
		return "sha1"
	case "sha256":
		return "sha256"
	case "sha384":
		return "sha384"
	case "sha512":
		return "sha512"
	}
	return string(b)
}

// appendLegacy appends what the kernel hashes for the template ima: the digest
// and the name padded with zeros to 256 bytes, without lengths.
func appendLegacy(data, digest, name []byte) []byte {
	var padded [maxEventName]byte
	copy(padded[:], name)
	return append(append(data, digest...), padded[:]...)
}
