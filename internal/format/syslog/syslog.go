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

// Event is what a message tells. Texts may hold anything; empty ones are left out.
type Event struct {
	Time     time.Time // the wall clock's, which nobody vouches for; zero for none
	ID       string    // device, epoch and sequence: two messages with one id are one event
	Epoch    uint64    // 0 for none
	Sequence uint64    // 0 for none
	Type     string    // ward.finding.raised, ...
	Code     string    // of a finding, area.what-is-wrong
	Title    string    // a short line for people
	Severity Severity
	// Over: the event ends something, so that its severity, which is still that
	// of what has ended, is no reason to wake anybody.
	Over    bool
	Subject string
	Boot    string // PROCID in the header
	Prev    string // hash of the record before, hex
	Hash    string // of a record whose content is gone, hex
	Mono    time.Duration

	Path, Expected, Found, Detail, Remedy string
	Place                                 string // "pcr 4", "entry 93", "offset 12"
	Report                                string // of an event without a finding: one line

	Repeated    int // how often it happened; 0 for once
	First, Last time.Time
}

// Bounds of the texts, in bytes as they are written, escapes included. Together
// with the header they stay below MaxMessage in every format; the whole text is in
// the device's record.
const (
	maxName     = 64  // a device's, a tenant's
	maxID       = 160 // a device's name and two numbers
	maxType     = 64
	maxTitle    = 96
	maxSubject  = 256
	maxPath     = 1536
	maxValue    = 384 // what was expected, what was found
	maxDetail   = 768
	maxRemedy   = 448
	maxReport   = 768
	maxHeadline = 384
	maxURI      = 768 // of a file: as many bytes of its path, where they need no escape
	maxHash     = 64
	maxPlace    = 48
	maxVersion  = 32 // RFC 5424, section 7.2.3
	facility    = 10 // security and authorization, as PS3.15 A.6 asks for
	programName = "wardd"
)

// Frame puts a message into the stream of RFC 5425, section 4.3: its length, a
// space, the message.
func Frame(message []byte) []byte {
	b := make([]byte, 0, len(message)+8)
	b = strconv.AppendInt(b, int64(len(message)), 10)
	b = append(b, ' ')
	return append(b, message...)
}

// header writes PRI, VERSION and the header fields (RFC 5424, section 6.2), up to
// the space before the structured data.
func header(b []byte, o Origin, e Event, severity int, msgid string) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facility*8+severity), 10)
	b = append(b, ">1 "...)
	b = appendTime(b, e.Time)
	b = append(b, ' ')
	b = appendName(b, o.Device, 255)
	b = append(b, " "+programName+" "...)
	b = appendName(b, e.Boot, 128)
	b = append(b, ' ')
	b = appendName(b, msgid, 32)
	return append(b, ' ')
}

// appendTime writes a moment as section 6.2.3 has it: at most six digits behind
// the second. One that RFC 3339 cannot write is NILVALUE.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return append(b, '-')
	}
	return t.AppendFormat(b, "2006-01-02T15:04:05.999999Z07:00")
}

// appendName writes a field of the header: printable US-ASCII without spaces,
// NILVALUE for none. What else there is becomes "?".
func appendName(b []byte, s string, limit int) []byte {
	if s == "" {
		return append(b, '-')
	}
	for i, r := range s {
		if i >= limit {
			break
		}
		if r <= ' ' || r > '~' {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return b
}

// priority is the severity of the header (RFC 5424, section 6.2.1): critical,
// error, warning, notice, informational.
func (e Event) priority() int {
	switch {
	case e.Severity == Info:
		return 6
	case e.Over, e.Severity == Low:
		return 5
	case e.Severity == Medium:
		return 4
	case e.Severity == High:
		return 3
	}
	return 2
}

func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Low:
		return "low"
	case Medium:
		return "medium"
	case High:
		return "high"
	}
	return "critical"
}

// title is the event in some words.
func (e Event) title() string {
	if e.Title == "" {
		return e.Type
	}
	return e.Title
}

// headline is the event in one line for people.
func (e Event) headline() string {
	line := e.title()
	if e.Over {
		line += ": no longer so"
	}
	if e.Detail != "" {
		line += ": " + e.Detail
	}
	if e.Report != "" {
		line += ": " + e.Report
	}
	return line
}
