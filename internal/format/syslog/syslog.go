// Package syslog writes a security event as what hospitals collect: a syslog
// message (RFC 5424) with structured data, one that carries ArcSight's Common
// Event Format, and one that carries the DICOM audit message "Security Alert" (DICOM
// PS3.15, A.5.3.11 and A.6), which IHE's audit trail (ITI-20) takes too. Each event is
// one message in one line, whatever its texts hold: what is no visible character is
// written as its escape, and each text is cut, marked, at its bound. Frame joins
// messages to the stream of RFC 5425. It writes only; nothing here reads syslog.
package syslog

import (
	"strconv"
	"time"
)

// MaxMessage bounds a message without its frame, in bytes: what a receiver should
// take by RFC 5425, section 4.3.1, and what rsyslog takes unless told otherwise.
const MaxMessage = 8192

// Severity is how grave an event is, in five steps. The zero value is taken for
// Critical: what is not known to be harmless is not told as such.
type Severity uint8

// Severities, from least to most grave.
const (
	Info Severity = iota + 1
	Low
	Medium
	High
	Critical
)

// Origin says who speaks.
type Origin struct {
	Tenant  string // the fleet
	Device  string // HOSTNAME in the header
	Version string // of the program
	// Enterprise is the private enterprise number of IANA that names the structured
	// data, in digits; DocumentationEnterprise if empty.
	Enterprise string
}

// DocumentationEnterprise is the number that is reserved for documentation (RFC
// 5612). A manufacturer puts its own in its place.
const DocumentationEnterprise = "32473"

// Event is what a message tells. Texts may hold anything.
type Event struct {
	Time     time.Time // the wall clock's, which nobody vouches for; zero for none
	Severity Severity
	// Over: the event ends something, so that its severity, which is still that
	// of what has ended, is no reason to wake anybody.
	Over   bool
	Title  string // a short line for people
	fields []field
}

// field is one thing that an event says.
type field struct{ name, value string }

// Say adds something that the event says; an empty text is left out. These names
// mean something beyond the structured data: id (two messages with one id are one
// event), type, code, boot, path, detail, report, repeated, first. Each is used once;
// a name is one of structured data (RFC 5424, section 6.3.3). It is kept out of line,
// as raw is.
//
//go:noinline
func (e *Event) Say(name, text string) {
	if text != "" {
		e.fields = append(e.fields, field{name, text})
	}
}

// Said is what the event says under a name, empty for nothing.
func (e *Event) Said(name string) string {
	for i := range e.fields {
		if e.fields[i].name == name {
			return e.fields[i].value
		}
	}
	return ""
}

// limits bound texts, in bytes as they are written, escapes included. Together with
// the header they stay below MaxMessage in every format; the whole text is in the
// device's record.
var limits = [...]struct {
	name  string
	bytes int
}{
	{"path", 1536}, {"detail", 768}, {"report", 768}, {"remedy", 448}, {"expected", 384}, {"found", 384}, {"headline", 384},
	{"subject", 256}, {"id", 160}, {"node", 160}, {"title", 96},
	{"file", 640}, // as many bytes of a path, where they need no escape
}

// maxOther bounds every other text.
const maxOther = 64

func limit(name string) int {
	for _, l := range limits {
		if l.name == name {
			return l.bytes
		}
	}
	return maxOther
}

const (
	facility    = 10 // security and authorization, as PS3.15 A.6 asks for
	programName = "wardd"
)

// Frame puts a message into the stream of RFC 5425, section 4.3: its length, a
// space, the message.
func Frame(message []byte) []byte {
	return append([]byte(strconv.Itoa(len(message))+" "), message...)
}

// message is an event on its way to be one.
type message struct {
	Origin
	*Event
	writer
}

// value is what a name in a template stands for.
func (m *message) value(name string) string {
	switch name {
	case "tenant":
		return m.Tenant
	case "device":
		return m.Device
	case "version":
		return m.Version
	case "enterprise":
		if m.Enterprise == "" {
			return DocumentationEnterprise
		}
		return m.Enterprise
	case "title":
		if m.Title == "" {
			return m.Said("type")
		}
		return m.Title
	case "headline":
		return m.headline()
	case "signature":
		if code := m.Said("code"); code != "" {
			return code
		}
		return m.Said("type")
	case "cef":
		return strconv.Itoa(int(cefSeverity[m.rank()]))
	case "ms":
		if m.Time.IsZero() {
			return ""
		}
		return strconv.FormatInt(m.Time.UnixMilli(), 10)
	case "node":
		return m.Device + "@" + m.Tenant
	case "file":
		return fileURI(m.Said("path"))
	case "moment":
		if t := moment(m.Time); t != nil {
			return string(t)
		}
		return "1970-01-01T00:00:00Z" // xs:dateTime knows no other "none"
	case "outcome":
		return outcomes[m.rank()]
	case "alert":
		return m.alertType().code
	case "meaning":
		return m.alertType().meaning
	}
	return m.Said(name)
}

// rank is the severity from 1 to 5, and 0 for what ends something.
func (m *message) rank() Severity {
	switch {
	case m.Over:
		return 0
	case m.Severity == 0 || m.Severity > Critical:
		return Critical
	}
	return m.Severity
}

// headline is the event in one line for people.
func (m *message) headline() string {
	line := m.value("title")
	if m.Over {
		line += ": no longer so"
	}
	for _, name := range []string{"detail", "report"} {
		if text := m.Said(name); text != "" {
			line += ": " + text
		}
	}
	if n := m.Said("repeated"); n != "" {
		line += " (" + n + " times since " + m.Said("first") + ")"
	}
	return line
}

// header begins a message: PRI, VERSION and the header fields (RFC 5424, section
// 6.2), up to the space before the structured data.
func (m *message) header(severity uint8, msgid string) {
	m.b = append(make([]byte, 0, 4096), '<')
	m.b = strconv.AppendInt(m.b, facility*8+int64(severity), 10)
	m.raw(">1 ")
	if t := moment(m.Time); t != nil {
		m.b = append(m.b, t...)
	} else {
		m.raw("-")
	}
	m.name(m.Device, 255)
	m.name(programName, 48)
	m.name(m.Said("boot"), 128)
	m.name(msgid, 32)
	m.raw(" ")
}

// moment is a time as section 6.2.3 has it: at most six digits behind the second.
// Nil: it cannot be written so.
func moment(t time.Time) []byte {
	t = t.UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return nil
	}
	return t.AppendFormat(nil, "2006-01-02T15:04:05.999999Z07:00")
}
