package syslog

// bom begins a MSG in UTF-8 (RFC 5424, section 6.4).
const bom = "\xef\xbb\xbf"

// priorities are the severities of the header by rank (RFC 5424, section 6.2.1):
// notice for what is over, then informational, notice, warning, error, critical.
var priorities = [...]uint8{5, 6, 5, 4, 3, 2}

// RFC5424 writes an event with everything that it says as structured data; the
// message behind it is for people. The SD-ID is "ward@" and the enterprise number.
// The clock is told to be one that nobody vouches for (section 7.1).
func RFC5424(o Origin, e *Event) []byte {
	m := &message{Origin: o, Event: e}
	m.header(priorities[m.rank()], m.Said("type"))
	m.expand("[ward@{enterprise}", inQuotes)
	for i := range e.fields {
		f := &e.fields[i]
		m.raw(" " + f.name + `="`)
		m.text(f.value, limit(f.name), inQuotes)
		m.raw(`"`)
	}
	m.expand(`][timeQuality tzKnown="1" isSynced="0"][origin enterpriseId="{enterprise}" software="wardd" swVersion="{version}"] `+bom, inQuotes)
	m.expand("{headline}", plain)
	return m.b
}

// cefSeverity is CEF's scale of 0 to 10 by rank: 4 begins medium, 7 high, 9 very
// high.
var cefSeverity = [...]uint8{1, 1, 3, 5, 8, 10}

// extension are the keys of CEF's extension: those of its dictionary, and those that
// it has for what it knows no key for, with a label.
var extension = [...]struct {
	key, name string
	labelled  bool
}{
	{"externalId", "id", false}, {"cat", "type", false}, {"rt", "ms", false}, {"dvchost", "device", false}, {"deviceExternalId", "device", false},
	{"deviceNtDomain", "tenant", false}, {"msg", "headline", false}, {"filePath", "path", false}, {"fileHash", "hash", false}, {"cnt", "repeated", false},
	{"cs1", "subject", true}, {"cs2", "boot", true}, {"cs3", "prev", true}, {"cs4", "remedy", true}, {"cs5", "place", true}, {"cs6", "severity", true},
	{"flexString1", "expected", true}, {"flexString2", "found", true}, {"cn1", "epoch", true}, {"cn2", "sequence", true},
}

// CEF writes an event in ArcSight's Common Event Format, version 0, as the message
// of RFC 5424 without structured data: "CEF:0|vendor|product|version|signature|name|
// severity|extension". No byte-order mark stands before it, since receivers look for
// "CEF:" there.
func CEF(o Origin, e *Event) []byte {
	m := &message{Origin: o, Event: e}
	m.header(priorities[m.rank()], m.Said("type"))
	m.expand("- CEF:0|Ward|wardd|{version}|{signature}|{title}|{cef}|", inHeader)
	space := ""
	for i := range extension {
		x := &extension[i]
		value := m.value(x.name)
		if value == "" {
			continue
		}
		m.raw(space)
		if space = " "; x.labelled {
			m.raw(x.key + "Label=" + x.name + " ")
		}
		m.raw(x.key + "=")
		m.text(value, limit(x.name), inExtension)
	}
	return m.b
}
