package syslog

import (
	"strconv"
	"time"
)

// bom begins a MSG in UTF-8 (RFC 5424, section 6.4).
const bom = "\xef\xbb\xbf"

// RFC5424 writes an event with everything that it says as structured data; the
// message behind it is for people. The SD-ID is "ward@" and the enterprise number.
// The clock is told to be one that nobody vouches for (section 7.1).
func RFC5424(o Origin, e Event) []byte {
	b := header(make([]byte, 0, 2048), o, e, e.priority(), e.Type)
	enterprise := o.Enterprise
	if enterprise == "" {
		enterprise = DocumentationEnterprise
	}
	s := structured{b}
	s.begin("ward@" + enterprise)
	s.text("id", e.ID, maxID)
	s.text("tenant", o.Tenant, maxName)
	s.number("epoch", e.Epoch)
	s.number("sequence", e.Sequence)
	s.text("type", e.Type, maxType)
	s.text("code", e.Code, maxType)
	s.text("severity", e.Severity.String(), maxType)
	s.text("subject", e.Subject, maxSubject)
	s.text("boot", e.Boot, maxName)
	if e.Mono > 0 {
		s.number("mono", uint64(e.Mono))
	}
	s.text("prev", e.Prev, maxHash)
	s.text("hash", e.Hash, maxHash)
	s.text("place", e.Place, maxPlace)
	s.text("path", e.Path, maxPath)
	s.text("expected", e.Expected, maxValue)
	s.text("found", e.Found, maxValue)
	s.text("detail", e.Detail, maxDetail)
	s.text("report", e.Report, maxReport)
	s.text("remedy", e.Remedy, maxRemedy)
	if e.Repeated > 0 {
		s.number("repeated", uint64(e.Repeated))
		s.text("first", moment(e.First), maxName)
		s.text("last", moment(e.Last), maxName)
	}
	s.end()
	s.begin("timeQuality")
	s.text("tzKnown", "1", maxName)
	s.text("isSynced", "0", maxName)
	s.end()
	s.begin("origin")
	s.text("enterpriseId", enterprise, maxName)
	s.text("software", programName, maxName)
	s.text("swVersion", o.Version, maxVersion)
	s.end()
	b = append(s.b, " "+bom...)
	return appendText(b, e.headline(), maxHeadline, plain)
}

// moment is a time as the header writes it, empty for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return string(appendTime(nil, t))
}

// structured writes STRUCTURED-DATA (RFC 5424, section 6.3). Names are this
// package's own.
type structured struct{ b []byte }

func (s *structured) begin(id string) { s.b = append(s.b, "["+id...) }

func (s *structured) end() { s.b = append(s.b, ']') }

func (s *structured) text(name, value string, limit int) {
	if value == "" {
		return
	}
	s.b = append(s.b, " "+name+`="`...)
	s.b = appendText(s.b, value, limit, inQuotes)
	s.b = append(s.b, '"')
}

func (s *structured) number(name string, n uint64) {
	if n != 0 {
		s.text(name, strconv.FormatUint(n, 10), maxName)
	}
}
