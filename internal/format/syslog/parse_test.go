package syslog_test

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// parsed is a message as a strict reader of RFC 5424 has it. The reader is written
// from the grammar in section 6 and shares nothing with the writer.
type parsed struct {
	facility, severity              int
	time, host, app, process, msgid string
	sd                              map[string]map[string]string // by SD-ID and name
	msg                             string
}

var headerOf = regexp.MustCompile(`^<(0|[1-9]\d{0,2})>([1-9]\d{0,2}) (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) `)

func parse(b []byte) (parsed, error) {
	m := headerOf.FindSubmatchIndex(b)
	if m == nil {
		return parsed{}, fmt.Errorf("no header: %.120q", b)
	}
	field := func(i int) string { return string(b[m[2*i]:m[2*i+1]]) }
	pri, _ := strconv.Atoi(field(1))
	p := parsed{facility: pri / 8, severity: pri % 8, time: field(3), host: field(4), app: field(5), process: field(6), msgid: field(7), sd: map[string]map[string]string{}}
	if pri > 191 || field(2) != "1" {
		return p, fmt.Errorf("PRI %d, version %s", pri, field(2))
	}
	rest := string(b[m[1]:])
	if strings.HasPrefix(rest, "-") {
		rest = rest[1:]
	} else {
		var err error
		if rest, err = p.structured(rest); err != nil {
			return p, err
		}
	}
	if rest == "" {
		return p, nil
	}
	if rest[0] != ' ' {
		return p, fmt.Errorf("no space before MSG: %.40q", rest)
	}
	p.msg = rest[1:]
	return p, nil
}

func name(s string) bool {
	return s != "" && len(s) <= 32 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`="]`, r) })
}

func (p *parsed) structured(s string) (string, error) {
	for strings.HasPrefix(s, "[") {
		end := strings.IndexAny(s, " ]")
		if end < 0 || !name(s[1:end]) || p.sd[s[1:end]] != nil {
			return "", fmt.Errorf("SD-ID: %.60q", s)
		}
		values := map[string]string{}
		p.sd[s[1:end]] = values
		s = s[end:]
		for strings.HasPrefix(s, " ") {
			key, rest, ok := strings.Cut(s[1:], `="`)
			if !ok || !name(key) {
				return "", fmt.Errorf("PARAM-NAME: %.60q", s)
			}
			var value []byte
			i := 0
			for ; i < len(rest) && rest[i] != '"'; i++ {
				switch {
				case rest[i] == '\\' && i+1 < len(rest) && strings.IndexByte(`"\]`, rest[i+1]) >= 0:
					i++
				case rest[i] == ']':
					return "", fmt.Errorf("a bracket without escape in %s", key)
				}
				value = append(value, rest[i])
			}
			if i == len(rest) || !utf8.Valid(value) {
				return "", fmt.Errorf("PARAM-VALUE of %s", key)
			}
			if _, twice := values[key]; twice {
				return "", fmt.Errorf("%s twice", key)
			}
			values[key], s = string(value), rest[i+1:]
		}
		if !strings.HasPrefix(s, "]") {
			return "", fmt.Errorf("no end of an element: %.40q", s)
		}
		s = s[1:]
	}
	if len(p.sd) == 0 {
		return "", errors.New("no structured data and no NILVALUE")
	}
	return s, nil
}

// cef is a message of CEF as a reader has it.
type cef struct {
	header []string // vendor, product, version, signature, name, severity
	fields map[string]string
}

var keyOf = regexp.MustCompile(`(?:^| )([A-Za-z0-9]+)=`)

func parseCEF(s string) (cef, error) {
	rest, ok := strings.CutPrefix(s, "CEF:0|")
	if !ok {
		return cef{}, fmt.Errorf("no CEF: %.60q", s)
	}
	c := cef{fields: map[string]string{}}
	for range 6 {
		var field []byte
		i := 0
		for ; i < len(rest) && rest[i] != '|'; i++ {
			if rest[i] == '\\' {
				i++
				if i == len(rest) || rest[i] != '\\' && rest[i] != '|' {
					return c, fmt.Errorf("escape in the header: %.60q", rest)
				}
			}
			field = append(field, rest[i])
		}
		if i == len(rest) {
			return c, fmt.Errorf("the header has %d fields", len(c.header))
		}
		c.header, rest = append(c.header, string(field)), rest[i+1:]
	}
	keys := keyOf.FindAllStringSubmatchIndex(rest, -1)
	if len(keys) == 0 && rest != "" {
		return c, fmt.Errorf("extension without a key: %.60q", rest)
	}
	for i, k := range keys {
		end := len(rest)
		if i+1 < len(keys) {
			end = keys[i+1][0]
		}
		key, raw := rest[k[2]:k[3]], rest[k[1]:end]
		var value []byte
		for j := 0; j < len(raw); j++ {
			if raw[j] == '=' {
				return c, fmt.Errorf("= without escape in %s", key)
			}
			if raw[j] == '\\' {
				j++
				if j == len(raw) || raw[j] != '\\' && raw[j] != '=' {
					return c, fmt.Errorf("escape in %s: %.60q", key, raw)
				}
			}
			value = append(value, raw[j])
		}
		if _, twice := c.fields[key]; twice {
			return c, fmt.Errorf("%s twice", key)
		}
		c.fields[key] = string(value)
	}
	return c, nil
}

// audit is the XML of a DICOM audit message, read by encoding/xml.
type audit struct {
	XMLName xml.Name `xml:"AuditMessage"`
	Event   struct {
		Action      string  `xml:"EventActionCode,attr"`
		Time        string  `xml:"EventDateTime,attr"`
		Outcome     string  `xml:"EventOutcomeIndicator,attr"`
		ID          coded   `xml:"EventID"`
		Types       []coded `xml:"EventTypeCode"`
		Description string  `xml:"EventOutcomeDescription"`
	} `xml:"EventIdentification"`
	Participants []struct {
		User      string `xml:"UserID,attr"`
		Requestor string `xml:"UserIsRequestor,attr"`
		Host      string `xml:"NetworkAccessPointID,attr"`
	} `xml:"ActiveParticipant"`
	Source struct {
		Site string `xml:"AuditEnterpriseSiteID,attr"`
		ID   string `xml:"AuditSourceID,attr"`
	} `xml:"AuditSourceIdentification"`
	Objects []struct {
		ID      string `xml:"ParticipantObjectID,attr"`
		Kind    string `xml:"ParticipantObjectTypeCode,attr"`
		Role    string `xml:"ParticipantObjectTypeCodeRole,attr"`
		Details []struct {
			Kind  string `xml:"type,attr"`
			Value string `xml:"value,attr"`
		} `xml:"ParticipantObjectDetail"`
	} `xml:"ParticipantObjectIdentification"`
}

type coded struct {
	Code    string `xml:"csd-code,attr"`
	System  string `xml:"codeSystemName,attr"`
	Meaning string `xml:"originalText,attr"`
}

func parseDICOM(s string) (audit, map[string]string, error) {
	text, ok := strings.CutPrefix(s, "\xef\xbb\xbf")
	if !ok {
		return audit{}, nil, errors.New("no byte-order mark")
	}
	var a audit
	d := xml.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&a); err != nil {
		return a, nil, err
	}
	if rest, err := d.Token(); !errors.Is(err, io.EOF) {
		return a, nil, fmt.Errorf("behind the message: %v, %v", rest, err)
	}
	details := map[string]string{}
	if len(a.Objects) == 0 {
		return a, nil, errors.New("no object")
	}
	for _, o := range a.Objects[0].Details {
		b, err := base64.StdEncoding.DecodeString(o.Value)
		if err != nil || details[o.Kind] != "" {
			return a, nil, fmt.Errorf("detail %s: %v, %q before", o.Kind, err, details[o.Kind])
		}
		details[o.Kind] = string(b)
	}
	return a, details, nil
}

// oneLine says what would break a stream, a log file or a terminal.
func oneLine(t testing.TB, b []byte, most int) {
	t.Helper()
	if len(b) > most {
		t.Errorf("%d bytes, want at most %d", len(b), most)
	}
	if !utf8.Valid(b) {
		t.Errorf("no UTF-8: %.200q", b)
	}
	for _, r := range string(bytes.ReplaceAll(b, []byte("\xef\xbb\xbf"), nil)) {
		if !unicode.IsPrint(r) {
			t.Errorf("%U in the message", r)
		}
	}
}
