package userlog

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"ward/internal/format/pcr"
)

// Bounds of a log. A boot of systemd writes some twenty records of 300 to 2,000
// bytes; what exceeds these is not read.
const (
	maxRecords   = 1 << 14
	maxRecord    = 64 << 10 // bytes of one record
	maxDepth     = 16       // of objects and arrays in one another; systemd's have 3
	maxDigests   = 16       // of one record; a TPM has at most as many banks
	maxAnomalies = 256
)

// recordSeparator begins each record (RFC 7464, section 2.2).
const recordSeparator = 0x1e

// Parse reads a log, whose records keep parts of the bytes given. It fails, with ErrFormat, only where there is not one
// record's begin; everything else that is wrong is an anomaly, and a log that was
// cut is read as far as it goes.
func Parse(b []byte) (*Log, error) {
	p := parser{log: &Log{Records: []Record{}, Anomalies: []Anomaly{}}}
	if len(b) == 0 {
		return p.log, nil
	}
	first := bytes.IndexByte(b, recordSeparator)
	if first < 0 {
		return nil, fmt.Errorf("parse user space log: %w", ErrFormat)
	}
	if first > 0 {
		p.anomaly(Malformed, -1, -1, 0, "%d bytes stand before the first record", first)
	}
	for at := first; at < len(b); {
		end := len(b)
		if i := bytes.IndexByte(b[at+1:], recordSeparator); i >= 0 {
			end = at + 1 + i
		}
		if p.index == maxRecords {
			p.anomaly(TooMany, -1, -1, int64(at), "it has more than %d records", maxRecords)
			break
		}
		p.record(b[at+1:end], int64(at), end == len(b))
		p.index++
		at = end
	}
	p.checkRecords()
	return p.log, nil
}

type parser struct {
	log   *Log
	index int // of the record that is read
}

// anomaly keeps an anomaly; the last one that is kept says that there are more.
func (p *parser) anomaly(kind AnomalyKind, index, register int, offset int64, format string, args ...any) {
	switch n := len(p.log.Anomalies); {
	case n < maxAnomalies-1:
		p.log.Anomalies = append(p.log.Anomalies, Anomaly{kind, index, register, offset, fmt.Sprintf(format, args...)})
	case n == maxAnomalies-1:
		p.log.Anomalies = append(p.log.Anomalies, Anomaly{TooMany, -1, -1, offset, "more anomalies are not listed"})
	}
}

// record reads the text of one record. The last one may be cut.
func (p *parser) record(text []byte, offset int64, last bool) {
	r := Record{Index: p.index, Offset: offset, PCR: -1}
	whole := bytes.TrimRight(text, " \t\r\n")
	switch {
	case last && !complete(whole):
		p.anomaly(Truncated, p.index, -1, offset, "the record is cut after %d bytes", len(text))
		return
	case len(whole) > maxRecord:
		p.anomaly(Malformed, p.index, -1, offset, "the record has %d bytes, at most %d", len(whole), maxRecord)
		return
	}
	if wrong := p.fields(&r, whole); wrong != "" {
		p.anomaly(Malformed, p.index, r.PCR, offset, "%s", wrong)
		return
	}
	p.log.Records = append(p.log.Records, r)
}

// complete tells whether a text that begins as a record has its end.
func complete(text []byte) bool {
	return len(text) > 0 && (text[0] != '{' || text[len(text)-1] == '}' && (depth(text) > maxDepth || json.Valid(text)))
}

// fields fills in the record. It returns what is wrong, "" if nothing is.
func (p *parser) fields(r *Record, text []byte) string {
	o, wrong := object(text)
	if wrong != "" {
		return wrong
	}
	if wrong := p.register(r, o); wrong != "" {
		return wrong
	}
	if wrong := p.digests(r, o["digests"]); wrong != "" {
		return wrong
	}
	if t, ok := o["content_type"]; ok && !readString(t, &r.ContentType) {
		return "its content_type is no string"
	}
	r.UntrustedContent = o["content"]
	if r.ContentType == "systemd" {
		return content(r)
	}
	return ""
}

// register reads which register the record is about: a PCR or an NV index.
func (p *parser) register(r *Record, o map[string]json.RawMessage) string {
	number, isPCR := o["pcr"]
	index, isNV := o["nv_index"]
	switch {
	case isPCR && isNV:
		return "it names both a PCR and an NV index"
	case isNV:
		n, err := strconv.ParseUint(string(index), 10, 32)
		if err != nil || n == 0 {
			return "its nv_index is not the number of one"
		}
		r.NVIndex = uint32(n)
		return ""
	case !isPCR:
		return "it names neither a PCR nor an NV index"
	}
	n, err := strconv.ParseUint(string(number), 10, 31)
	if err != nil {
		return "its pcr is not the number of a register"
	}
	r.PCR = int(n)
	if n >= pcr.Count {
		p.anomaly(PCROutOfRange, r.Index, r.PCR, r.Offset, "it names PCR %d", n)
	}
	return ""
}

// digests reads the array of digests; one that cannot be read is left out.
func (p *parser) digests(r *Record, raw json.RawMessage) string {
	if len(raw) == 0 || raw[0] != '[' {
		return "its digests are no array"
	}
	rest := skipSpace(raw[1:])
	for n := 0; rest[0] != ']'; n++ {
		if n == maxDigests {
			return fmt.Sprintf("it has more than %d digests", maxDigests)
		}
		end := valueEnd(rest)
		o, wrong := object(rest[:end])
		if rest = skipSpace(rest[end:]); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
		if wrong != "" {
			return "a digest: " + wrong
		}
		var name, value string
		if !readString(o["hashAlg"], &name) || !readString(o["digest"], &value) {
			return "a digest lacks hashAlg or digest"
		}
		a, err := pcr.ParseAlgorithm(name)
		if err != nil {
			p.anomaly(UnknownAlgorithm, r.Index, r.PCR, r.Offset, "a digest of %.32q", name)
			continue
		}
		d, err := hex.DecodeString(value)
		_, repeated := r.Digest(a)
		switch {
		case err != nil || len(d) != a.Size():
			p.anomaly(DigestMalformed, r.Index, r.PCR, r.Offset, "its digest of %s is not %d bytes in hexadecimal", a, a.Size())
		case repeated:
			p.anomaly(DigestRepeated, r.Index, r.PCR, r.Offset, "it has two digests of %s", a)
		default:
			r.Digests = append(r.Digests, Digest{a, d})
		}
	}
	return ""
}

// content reads the content that systemd writes; fields that it does not have
// stay empty, fields that are unknown are left in UntrustedContent.
func content(r *Record) string {
	if r.UntrustedContent == nil {
		return "it has no content"
	}
	o, wrong := object(r.UntrustedContent)
	if wrong != "" {
		return "its content: " + wrong
	}
	if s, ok := o["string"]; ok {
		r.String = new(string)
		if !readString(s, r.String) {
			return "its string is none"
		}
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{"eventType", &r.EventType}, {"bootId", &r.BootID}} {
		if s, ok := o[f.name]; ok && !readString(s, f.to) {
			return "its " + f.name + " is no string"
		}
	}
	if t, ok := o["timestamp"]; ok {
		var err error
		if r.Timestamp, err = strconv.ParseUint(string(t), 10, 64); err != nil {
			return "its timestamp is not a number of microseconds"
		}
	}
	return ""
}

// checkRecords checks what only the whole log tells: that all records have
// digests of the same algorithms, that they name one boot, and that a string
// which is vouched for is of the event type it is given out as.
func (p *parser) checkRecords() {
	algorithms := p.log.Algorithms()
	boot := ""
	for _, r := range p.log.Records {
		for _, a := range algorithms {
			if _, ok := r.Digest(a); !ok && r.Extends() {
				p.anomaly(DigestMissing, r.Index, r.PCR, r.Offset, "it has no digest of %s", a)
			}
		}
		if boot == "" {
			boot = r.BootID
		}
		if r.BootID != "" && r.BootID != boot {
			p.anomaly(BootDiffers, r.Index, r.PCR, r.Offset, "it names the boot %.64q", r.BootID)
		}
		if said, known := lookup(r.EventType); known && r.Standing() == Vouched {
			if is, ok := typeOf(*r.String); ok && is.name != said.name || !ok && said.prefix != "" {
				p.anomaly(TypeDiffers, r.Index, r.PCR, r.Offset, "its string is not one of the event type %q", said.name)
			}
		}
	}
}

func addAlgorithms(all []pcr.Algorithm, r Record) []pcr.Algorithm {
	for _, d := range r.Digests {
		if r.Extends() && !slices.Contains(all, d.Algorithm) {
			all = append(all, d.Algorithm)
		}
	}
	return all
}

// object reads the members of a JSON object, each as it stands there. Whoever
// reads a name that stands there twice sees what another reader does not: such an
// object is refused, as are text that is not UTF-8 and objects too deep.
func object(text []byte) (map[string]json.RawMessage, string) {
	switch {
	case len(text) == 0 || text[0] != '{':
		return nil, "it is no object"
	case !utf8.Valid(text):
		return nil, "it is not UTF-8"
	case depth(text) > maxDepth:
		return nil, fmt.Sprintf("it is more than %d levels deep", maxDepth)
	case !json.Valid(text):
		return nil, "it is no JSON"
	}
	members := make(map[string]json.RawMessage, 4)
	for rest := skipSpace(text[1:]); rest[0] != '}'; rest = skipSpace(rest) {
		end := valueEnd(rest)
		name, _ := unquote(rest[:end])
		rest = skipSpace(skipSpace(rest[end:])[1:]) // the colon
		end = valueEnd(rest)
		if _, twice := members[name]; twice {
			return nil, fmt.Sprintf("it names %.64q twice", name)
		}
		members[name] = json.RawMessage(rest[:end:end])
		if rest = skipSpace(rest[end:]); rest[0] == ',' {
			rest = rest[1:]
		}
	}
	return members, ""
}

func skipSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// valueEnd is the length of the value with which a piece of JSON begins. The JSON
// as a whole was checked, so that a value's end is told by brackets and quotes.
func valueEnd(b []byte) int {
	level, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; !quoted && level == 0 {
				return i + 1
			}
		case quoted:
		case c == '{' || c == '[':
			level++
		case c == '}' || c == ']':
			if level == 0 {
				return i
			}
			if level--; level == 0 {
				return i + 1
			}
		case level == 0 && bytes.IndexByte([]byte(", :\t\r\n"), c) >= 0:
			return i
		}
	}
	return len(b)
}

// depth is how many objects and arrays of a text stand in one another.
func depth(text []byte) int {
	level, deepest := 0, 0
	for i, quoted := 0, false; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

// readString reads a JSON string; a value that is none leaves to as it is.
func readString(raw json.RawMessage, to *string) bool {
	s, ok := unquote(raw)
	if ok {
		*to = s
	}
	return ok
}

// unquote reads a JSON string; false: the value is none.
func unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}
