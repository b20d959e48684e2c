package syslog

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cutMark stands where a text was cut.
const cutMark = "…"

// escaper writes one character into a format.
type escaper func(b []byte, r rune) []byte

// appendText writes a text, each character by its escaper, in at most limit bytes.
// Characters that are not visible (control characters, line ends, marks that turn
// the direction of writing, bytes that are no UTF-8) are written as their escape in
// visible ones. A text that is longer ends with the mark; no escape is cut.
func appendText(b []byte, s string, limit int, escape escaper) []byte {
	start := len(b)
	end := start // where the text still fits with the mark behind it
	for _, r := range s {
		if len(b)-start <= limit-len(cutMark) {
			end = len(b)
		}
		if b = appendVisible(b, r, escape); len(b)-start > limit {
			return append(b[:end], cutMark...)
		}
	}
	return b
}

func appendVisible(b []byte, r rune, escape escaper) []byte {
	if unicode.IsPrint(r) {
		return escape(b, r)
	}
	for _, c := range strings.Trim(strconv.QuoteRuneToASCII(r), "'") {
		b = escape(b, c)
	}
	return b
}

// plain escapes nothing.
func plain(b []byte, r rune) []byte { return utf8.AppendRune(b, r) }

// inQuotes is for the values of structured data (RFC 5424, section 6.3.3).
func inQuotes(b []byte, r rune) []byte {
	if r == '"' || r == '\\' || r == ']' {
		b = append(b, '\\')
	}
	return utf8.AppendRune(b, r)
}

// inHeader is for the fields before CEF's extension.
func inHeader(b []byte, r rune) []byte {
	if r == '|' || r == '\\' {
		b = append(b, '\\')
	}
	return utf8.AppendRune(b, r)
}

// inExtension is for the values of CEF's extension.
func inExtension(b []byte, r rune) []byte {
	if r == '=' || r == '\\' {
		b = append(b, '\\')
	}
	return utf8.AppendRune(b, r)
}

// inXML is for attributes and texts (XML 1.0, section 2.4).
func inXML(b []byte, r rune) []byte {
	switch r {
	case '&':
		return append(b, "&amp;"...)
	case '<':
		return append(b, "&lt;"...)
	case '>':
		return append(b, "&gt;"...)
	case '"':
		return append(b, "&quot;"...)
	case '\'':
		return append(b, "&apos;"...)
	}
	return utf8.AppendRune(b, r)
}
