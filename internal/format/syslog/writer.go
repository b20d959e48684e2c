package syslog

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cutMark stands where a text was cut.
const cutMark = "…"

// writer writes a message.
type writer struct{ b []byte }

// escaper says what stands for a character in a format: the character itself for an
// empty text.
type escaper func(r rune) string

// raw writes what needs no escape. It is kept out of line, since it is called from
// everywhere and wardd must stay small.
//
//go:noinline
func (w *writer) raw(s string) { w.b = append(w.b, s...) }

// name writes a space and a field of the header: printable US-ASCII without spaces,
// NILVALUE for none. What else there is becomes "?".
func (w *writer) name(s string, limit int) {
	if s == "" {
		s = "-"
	}
	w.raw(" ")
	for i, r := range s {
		if i >= limit {
			break
		}
		if r <= ' ' || r > '~' {
			r = '?'
		}
		w.b = append(w.b, byte(r))
	}
}

// text writes a text, each character by its escaper, in at most limit bytes.
// Characters that are not visible (control characters, line ends, marks that turn
// the direction of writing, bytes that are no UTF-8) are written as their escape in
// visible ones. A text that is longer ends with the mark; no escape is cut.
func (w *writer) text(s string, limit int, escape escaper) {
	start := len(w.b)
	end := start // where the text still fits with the mark behind it
	for _, r := range s {
		if len(w.b)-start <= limit-len(cutMark) {
			end = len(w.b)
		}
		if unicode.IsPrint(r) {
			w.rune(r, escape)
		} else {
			for _, c := range strings.Trim(strconv.QuoteRuneToASCII(r), "'") {
				w.rune(c, escape)
			}
		}
		if len(w.b)-start > limit {
			w.b = w.b[:end]
			w.raw(cutMark)
			return
		}
	}
}

func (w *writer) rune(r rune, escape escaper) {
	if s := escape(r); s != "" {
		w.raw(s)
		return
	}
	w.b = utf8.AppendRune(w.b, r)
}

// base64 writes a text in Base64.
func (w *writer) base64(s string, limit int) {
	var text writer
	text.text(s, limit, plain)
	w.b = base64.StdEncoding.AppendEncode(w.b, text.b)
}

// expand writes a template, in which {name} stands for a value of the message and
// {{name}} for its Base64.
func (m *message) expand(template string, escape escaper) {
	for template != "" {
		before, rest, found := strings.Cut(template, "{")
		m.raw(before)
		if !found {
			return
		}
		name, rest, _ := strings.Cut(rest, "}")
		if inner, double := strings.CutPrefix(name, "{"); double {
			m.base64(m.value(inner), limit(inner))
			rest = rest[1:]
		} else {
			m.text(m.value(name), limit(name), escape)
		}
		template = rest
	}
}

// plain escapes nothing.
func plain(rune) string { return "" }

// inQuotes is for the values of structured data (RFC 5424, section 6.3.3).
func inQuotes(r rune) string { return backslashed(r, `"\]`) }

// inHeader is for the fields before CEF's extension, inExtension for those in it.
func inHeader(r rune) string    { return backslashed(r, `|\`) }
func inExtension(r rune) string { return backslashed(r, `=\`) }

func backslashed(r rune, special string) string {
	if strings.ContainsRune(special, r) {
		return `\` + string(r)
	}
	return ""
}

// inXML is for attributes and texts (XML 1.0, section 2.4).
func inXML(r rune) string {
	switch r {
	case '&':
		return "&amp;"
	case '<':
		return "&lt;"
	case '>':
		return "&gt;"
	case '"':
		return "&quot;"
	case '\'':
		return "&apos;"
	}
	return ""
}
