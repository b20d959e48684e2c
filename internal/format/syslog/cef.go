package syslog

import "strconv"

// CEF writes an event in ArcSight's Common Event Format, version 0, as the message
// of RFC 5424 without structured data: "CEF:0|vendor|product|version|signature|name|
// severity|extension". No byte-order mark stands before it, since receivers look for
// "CEF:" there; the keys are those of the format's dictionary, with labels of our
// own for what it has no key for.
func CEF(o Origin, e Event) []byte {
	b := header(make([]byte, 0, 2048), o, e, e.priority(), e.Type)
	b = append(b, "- CEF:0"...)
	signature := e.Code
	if signature == "" {
		signature = e.Type
	}
	for _, field := range []string{"Ward", programName, o.Version, signature, e.title(), strconv.Itoa(e.cefSeverity())} {
		b = append(b, '|')
		b = appendText(b, field, maxTitle, inHeader)
	}
	b = append(b, '|')
	x := extension{b: b}
	x.text("externalId", e.ID, maxID)
	x.text("cat", e.Type, maxType)
	if !e.Time.IsZero() {
		x.text("rt", strconv.FormatInt(e.Time.UnixMilli(), 10), maxName)
	}
	x.text("dvchost", o.Device, maxName)
	x.text("deviceExternalId", o.Device, maxName)
	x.text("deviceNtDomain", o.Tenant, maxName)
	x.text("msg", e.headline(), maxDetail)
	x.text("filePath", e.Path, maxPath)
	x.labelled("cs1", "subject", e.Subject, maxSubject)
	x.labelled("cs2", "boot", e.Boot, maxName)
	x.labelled("cs3", "prev", e.Prev, maxHash)
	x.labelled("cs4", "remedy", e.Remedy, maxRemedy)
	x.labelled("cs5", "place", e.Place, maxPlace)
	x.labelled("cs6", "severity", e.Severity.String(), maxType)
	x.labelled("flexString1", "expected", e.Expected, maxValue)
	x.labelled("flexString2", "found", e.Found, maxValue)
	x.labelled("cn1", "epoch", number(e.Epoch), maxName)
	x.labelled("cn2", "sequence", number(e.Sequence), maxName)
	x.text("fileHash", e.Hash, maxHash)
	if e.Repeated > 0 {
		x.text("cnt", strconv.Itoa(e.Repeated), maxName)
		if !e.First.IsZero() && !e.Last.IsZero() {
			x.text("start", strconv.FormatInt(e.First.UnixMilli(), 10), maxName)
			x.text("end", strconv.FormatInt(e.Last.UnixMilli(), 10), maxName)
		}
	}
	return x.b
}

// cefSeverity is on CEF's scale of 0 to 10, where 4 begins medium, 7 high and 9
// very high.
func (e Event) cefSeverity() int {
	switch {
	case e.Over, e.Severity == Info:
		return 1
	case e.Severity == Low:
		return 3
	case e.Severity == Medium:
		return 5
	case e.Severity == High:
		return 8
	}
	return 10
}

func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// extension writes key=value with spaces between them.
type extension struct {
	b     []byte
	begun bool
}

func (x *extension) text(key, value string, limit int) {
	if value == "" {
		return
	}
	if x.begun {
		x.b = append(x.b, ' ')
	}
	x.begun = true
	x.b = append(x.b, key+"="...)
	x.b = appendText(x.b, value, limit, inExtension)
}

func (x *extension) labelled(key, label, value string, limit int) {
	if value != "" {
		x.text(key+"Label", label, maxName)
		x.text(key, value, limit)
	}
}
