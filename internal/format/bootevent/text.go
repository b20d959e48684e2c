package bootevent

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
)

// untrusted begins every description that nothing vouches for, untrustedLabel
// one of which only what stands behind the label is vouched for.
const (
	untrusted      = "untrusted: "
	untrustedLabel = "untrusted label "
)

// maxText bounds a description, in runes.
const maxText = 200

// Describe says in a few words, on one printable line, what an event states
// about itself. It begins with "untrusted: " where no digest of the event
// vouches for that: of image loads, firmware blobs and the like the digest is of
// something else, and of events that extend nothing it is of nothing. It begins
// with "untrusted label " where the digest is of what stands behind the first
// words alone. Places in memory of image loads are left out, so that two boots
// read the same.
func Describe(e eventlog.Event) string { return Decode(e).Describe() }

// Describe is the function Describe of a decoded event.
func (d Decoded) Describe() string {
	text := Printable(d.Value.statement())
	if text == "" { // it states blanks alone
		text = d.Value.Kind()
	}
	switch d.Measured {
	case Whole:
		return text
	case Part:
		return untrustedLabel + text
	}
	return untrusted + text
}

// Text is a statement in words: an action, a version, a configuration.
type Text struct {
	What string // "action", "firmware-version" and the like; "text"
	Text string
}

// Bytes is a statement of which nothing is known but its bytes.
type Bytes struct{ Data []byte }

// Kind is "text" or what the text is about.
func (t Text) Kind() string      { return t.What }
func (t Text) statement() string { return t.Text }
func (t Text) fields(m Measured) []Field {
	return []Field{m.field("text", t.Text)}
}

// Kind is "bytes".
func (b Bytes) Kind() string      { return "bytes" }
func (b Bytes) statement() string { return content(b.Data) }
func (b Bytes) fields(m Measured) []Field {
	return []Field{m.field("size", len(b.Data)), m.field("sha256", digestOf(b.Data))}
}

// textKinds name the types whose data are words for people.
var textKinds = map[eventlog.EventType]string{
	eventlog.EVAction:         "action",
	eventlog.EVEFIAction:      "action",
	eventlog.EVSCRTMVersion:   "firmware-version",
	eventlog.EVPlatformConfig: "platform-configuration",
	eventlog.EVTableOfDevices: "devices",
	eventlog.EVOmitBootDevice: "boot-device-omitted",
	eventlog.EVNonhostInfo:    "nonhost-information",
	eventlog.EVNonhostConfig:  "nonhost-configuration",
}

// plain is the statement of an event that has no structure.
func plain(kind eventlog.EventType, b []byte) Value {
	what, ok := textKinds[kind]
	if !ok {
		what = "text"
	}
	switch {
	case kind == eventlog.EVSCRTMVersion && len(b) == len(efi.GUID{}) && !isUTF16(b):
		return Text{what, efi.GUID(b).String()}
	case isText(b) || isUTF16(b):
		return Text{what, content(b)}
	}
	return Bytes{b}
}

// content shows data as text where they are text, else their size.
func content(b []byte) string {
	trimmed := bytes.TrimRight(b, "\x00")
	switch {
	case len(trimmed) == 0:
		return fmt.Sprintf("%d zero bytes", len(b))
	case isText(b):
		return string(trimmed)
	case isUTF16(b):
		return efi.UTF16(b)
	}
	return fmt.Sprintf("%d bytes", len(b))
}

func isText(b []byte) bool {
	b = bytes.TrimRight(b, "\x00")
	for _, c := range b {
		if (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			return false
		}
	}
	return len(b) > 0
}

func isUTF16(b []byte) bool {
	if len(b) < 4 || len(b)%2 != 0 {
		return false
	}
	for i := 0; i < len(b); i += 2 {
		if ascii := b[i] >= ' ' && b[i] <= '~' && b[i+1] == 0; !ascii {
			return i >= 4 && isZero(b[i:])
		}
	}
	return true
}

// Printable makes one line of bounded length that no terminal takes for a command.
func Printable(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxText {
			b.WriteString("...")
			break
		}
		switch {
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case r == utf8.RuneError || !unicode.IsPrint(r):
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

func untilNUL(s string) string {
	head, _, _ := strings.Cut(s, "\x00")
	return head
}
