package syslog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ward/internal/format/syslog"
)

var origin = syslog.Origin{Tenant: "acme", Device: "pump-1", Version: "1.2"}

// names are what an event says, in the order in which it does.
var names = []string{
	"id", "tenant", "epoch", "sequence", "type", "code", "severity", "subject", "boot", "mono", "prev", "hash", "place", "path", "expected", "found",
	"detail", "report", "remedy", "repeated", "first", "last",
}

func values() map[string]string {
	return map[string]string{
		"id": "pump-1/3/42", "tenant": "acme", "epoch": "3", "sequence": "42", "type": "ward.finding.raised", "code": "boot.pcr-differs", "severity": "critical",
		"subject": "pcr-4", "boot": "0b9e7b8a-4ad9-4f4b-9a3f-1d6a2a0a7c11", "mono": "8123456789", "prev": strings.Repeat("ab", 32), "hash": strings.Repeat("cd", 32),
		"place": "pcr 4", "path": "/usr/bin/a b", "expected": "0a", "found": "0b", "detail": "PCR 4 differs", "report": "verdict warning", "remedy": "Reinstall.",
		"repeated": "7", "first": "2026-11-24T01:00:00Z", "last": "2026-11-24T01:01:00Z",
	}
}

// whole is an event that says everything, with some of it changed.
func whole(changed map[string]string) *syslog.Event {
	e := &syslog.Event{Time: time.Date(2026, 11, 24, 1, 2, 3, 4567000, time.UTC), Title: "boot differs from the release", Severity: syslog.Critical}
	have := values()
	for _, n := range names {
		v, ok := changed[n]
		if !ok {
			v = have[n]
		}
		e.Say(n, v)
	}
	return e
}

// Everything that an event says arrives at a reader of each format.
//
// Verifies: SR-070
func TestEveryAttributeArrives(t *testing.T) {
	e, want := whole(nil), values()
	b := syslog.RFC5424(origin, e)
	oneLine(t, b, syslog.MaxMessage)
	p, err := parse(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if p.facility != 10 || p.severity != 2 || p.time != "2026-11-24T01:02:03.004567Z" || p.host != "pump-1" || p.app != "wardd" || p.process != want["boot"] || p.msgid != want["type"] {
		t.Errorf("header %+v", p)
	}
	if got := p.sd["ward@32473"]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("structured data\n%v, want\n%v", got, want)
	}
	if q, o := p.sd["timeQuality"], p.sd["origin"]; q["isSynced"] != "0" || o["swVersion"] != "1.2" || o["enterpriseId"] != "32473" {
		t.Errorf("time quality %v, origin %v", q, o)
	}
	const line = "boot differs from the release: PCR 4 differs: verdict warning (7 times since 2026-11-24T01:00:00Z)"
	if p.msg != "\xef\xbb\xbf"+line {
		t.Errorf("message %q", p.msg)
	}

	b = syslog.CEF(origin, e)
	oneLine(t, b, syslog.MaxMessage)
	if p, err = parse(b); err != nil || len(p.sd) != 0 {
		t.Fatalf("%v\n%s", err, b)
	}
	c, err := parseCEF(p.msg)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if got, want := strings.Join(c.header, "|"), "Ward|wardd|1.2|boot.pcr-differs|boot differs from the release|10"; got != want {
		t.Errorf("CEF header %s, want %s", got, want)
	}
	for label, value := range want {
		switch label {
		case "subject", "boot", "prev", "remedy", "place", "severity", "expected", "found", "epoch", "sequence":
			for key, text := range c.fields {
				if strings.HasSuffix(key, "Label") && text == label && c.fields[strings.TrimSuffix(key, "Label")] != value {
					t.Errorf("CEF %s is %q, want %q", label, c.fields[strings.TrimSuffix(key, "Label")], value)
				}
			}
			if !strings.Contains(p.msg, "Label="+label+" ") {
				t.Errorf("CEF has no %s", label)
			}
		}
	}
	for key, value := range map[string]string{
		"externalId": want["id"], "cat": want["type"], "rt": "1795482123004", "dvchost": "pump-1", "deviceExternalId": "pump-1", "deviceNtDomain": "acme", "msg": line,
		"filePath": want["path"], "fileHash": want["hash"], "cnt": "7",
	} {
		if c.fields[key] != value {
			t.Errorf("CEF %s is %q, want %q", key, c.fields[key], value)
		}
	}

	b = syslog.DICOM(origin, e)
	oneLine(t, b, syslog.MaxMessage)
	if p, err = parse(b); err != nil || len(p.sd) != 0 || p.msgid != "DICOM+RFC3881" || p.facility != 10 || p.severity != 4 {
		t.Fatalf("%v, %+v\n%s", err, p, b)
	}
	a, details, err := parseDICOM(p.msg)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if v := a.Event; v.Action != "E" || v.Time != "2026-11-24T01:02:03.004567Z" || v.Outcome != "12" || v.ID != (coded{"110113", "DCM", "Security Alert"}) ||
		len(v.Types) != 1 || v.Types[0] != (coded{"110131", "DCM", "Software Configuration"}) || v.Description != line {
		t.Errorf("event %+v", v)
	}
	if len(a.Participants) != 1 || a.Participants[0].User != "wardd" || a.Participants[0].Host != "pump-1" || a.Source.ID != "pump-1" || a.Source.Site != "acme" {
		t.Errorf("participants %+v, source %+v", a.Participants, a.Source)
	}
	if len(a.Objects) != 2 || a.Objects[0].ID != "pump-1@acme" || a.Objects[1].ID != "file:///usr/bin/a%20b" || a.Objects[1].Role != "5" || a.Objects[0].Role != "13" {
		t.Errorf("objects %+v", a.Objects)
	}
	for name, value := range want {
		if name != "path" && name != "detail" && name != "report" && details[name] != value {
			t.Errorf("detail %s is %q, want %q", name, details[name], value)
		}
	}
	if details["Alert Description"] != line {
		t.Errorf("alert description %q", details["Alert Description"])
	}
}

// hostile are texts that end a field, a message or a line in one format or another,
// with what a reader shows of them.
var hostile = map[string]string{
	"line\nnext\r\n<165>1 - - - - - -":   `line\nnext\r\n<165>1 - - - - - -`,
	"nul\x00nul":                         `nul\x00nul`,
	"\x1b[31mred\a":                      `\x1b[31mred\a`,
	"right\u202eto left\u2066":           `right\u202eto left\u2066`,
	"no \xff\xc3 UTF-8":                  "no \ufffd\ufffd UTF-8",
	`"] [ward@32473 id="forged"]\`:       `"] [ward@32473 id="forged"]\`,
	`a|b\|c= cs1=forged \=`:              `a|b\|c= cs1=forged \=`,
	`</AuditMessage><![CDATA[]]>&amp;'"`: `</AuditMessage><![CDATA[]]>&amp;'"`,
	"tab\tand \u00a0 and \u2028":         `tab\tand \u00a0 and \u2028`,
	"\ufeffmark\ufffe":                   `\ufeffmark\ufffe`,
	"ünï日本":                              "ünï日本",
	"\\":                                 "\\",
}

// Whatever a text holds, one event is one message in one line, and a reader gets the
// text with what is not visible as its escape.
//
// Verifies: SR-070
func TestHostileTexts(t *testing.T) {
	for text, want := range hostile {
		e := whole(map[string]string{"subject": text, "detail": text, "path": text, "remedy": text, "report": "", "repeated": ""})
		e.Title = text
		id := values()["id"]
		b := syslog.RFC5424(origin, e)
		oneLine(t, b, syslog.MaxMessage)
		p, err := parse(b)
		if err != nil {
			t.Errorf("%q: %v\n%s", text, err, b)
			continue
		}
		if got := p.sd["ward@32473"]; len(p.sd) != 3 || got["id"] != id || got["subject"] != want || got["path"] != want || got["detail"] != want || got["remedy"] != want {
			t.Errorf("%q: %v, want %q", text, p.sd, want)
		}
		if p.msg != "\xef\xbb\xbf"+want+": "+want {
			t.Errorf("%q: message %q", text, p.msg)
		}

		b = syslog.CEF(origin, e)
		oneLine(t, b, syslog.MaxMessage)
		p, err = parse(b)
		c, cerr := parseCEF(p.msg)
		if err != nil || cerr != nil {
			t.Errorf("%q: %v, %v\n%s", text, err, cerr, b)
			continue
		}
		if c.header[4] != want || c.fields["cs1"] != want || c.fields["filePath"] != want || c.fields["cs4"] != want || c.fields["msg"] != want+": "+want || c.fields["externalId"] != id {
			t.Errorf("%q: %q, want %q", text, c, want)
		}

		b = syslog.DICOM(origin, e)
		oneLine(t, b, syslog.MaxMessage)
		p, err = parse(b)
		a, details, xerr := parseDICOM(p.msg)
		if err != nil || xerr != nil {
			t.Errorf("%q: %v, %v\n%s", text, err, xerr, b)
			continue
		}
		if details["subject"] != want || details["remedy"] != want || details["id"] != id || a.Event.Description != want+": "+want || len(a.Objects) != 2 {
			t.Errorf("%q: %q, %+v, want %q", text, details, a, want)
		}
	}
}

// The longest texts, of the characters that take the most, keep every message within
// its bound; nothing that is short is cut by them.
//
// Verifies: SR-070
func TestBounds(t *testing.T) {
	for _, c := range []string{"x", `"`, "&", "]", "=", "|", "\n", "\x00", "\u202e", "\xff", "日", "\U0001F600", "\U000E0001"} {
		long := strings.Repeat(c, 70_000/len(c))
		all := map[string]string{}
		for _, n := range names {
			if n != "sequence" {
				all[n] = long
			}
		}
		e := whole(all)
		e.Title = long
		o := syslog.Origin{Tenant: long, Device: long, Version: long}
		for name, write := range map[string]func(syslog.Origin, *syslog.Event) []byte{"rfc5424": syslog.RFC5424, "cef": syslog.CEF, "dicom": syslog.DICOM} {
			b := write(o, e)
			oneLine(t, b, syslog.MaxMessage)
			p, err := parse(b)
			if err != nil {
				t.Errorf("%s of %q: %v", name, c, err)
				continue
			}
			switch name {
			case "rfc5424":
				if got := p.sd["ward@32473"]; got["sequence"] != "42" || !strings.HasSuffix(got["path"], "…") || len(got["path"]) < 300 {
					t.Errorf("%s of %q: %v", name, c, got)
				}
			case "cef":
				if f, err := parseCEF(p.msg); err != nil || f.fields["cn2"] != "42" || !strings.HasSuffix(f.fields["filePath"], "…") {
					t.Errorf("%s of %q: %v", name, c, err)
				}
			case "dicom":
				if _, d, err := parseDICOM(p.msg); err != nil || d["sequence"] != "42" || !strings.HasSuffix(d["remedy"], "…") {
					t.Errorf("%s of %q: %v", name, c, err)
				}
			}
		}
	}
}

// An event that says nothing is a message all the same, and not a harmless one.
func TestNothingSaid(t *testing.T) {
	for name, write := range map[string]func(syslog.Origin, *syslog.Event) []byte{"rfc5424": syslog.RFC5424, "cef": syslog.CEF, "dicom": syslog.DICOM} {
		b := write(syslog.Origin{}, &syslog.Event{})
		oneLine(t, b, syslog.MaxMessage)
		p, err := parse(b)
		if err != nil || p.host != "-" || p.time != "-" {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
		if name == "cef" {
			_, err = parseCEF(p.msg)
		} else if name == "dicom" {
			var a audit
			if a, _, err = parseDICOM(p.msg); a.Event.Outcome != "12" || a.Event.Time != "1970-01-01T00:00:00Z" {
				t.Errorf("%+v", a.Event)
			}
		} else if p.severity != 2 {
			t.Errorf("severity %d", p.severity)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The tables of docs/sinks.md.
//
// Verifies: SR-070
func TestSeverities(t *testing.T) {
	for _, row := range []struct {
		severity syslog.Severity
		over     bool
		syslog   int
		cef      string
		dicom    int
		outcome  string
	}{
		{syslog.Info, false, 6, "1", 5, "0"},
		{syslog.Low, false, 5, "3", 5, "4"},
		{syslog.Medium, false, 4, "5", 4, "4"},
		{syslog.High, false, 3, "8", 4, "8"},
		{syslog.Critical, false, 2, "10", 4, "12"},
		{syslog.Critical, true, 5, "1", 5, "0"},
		{0, false, 2, "10", 4, "12"},
		{9, false, 2, "10", 4, "12"},
	} {
		e := whole(nil)
		e.Severity, e.Over = row.severity, row.over
		p, err := parse(syslog.RFC5424(origin, e))
		if err != nil || p.severity != row.syslog {
			t.Errorf("%+v: syslog severity %d, %v", row, p.severity, err)
		}
		p, err = parse(syslog.CEF(origin, e))
		if c, cerr := parseCEF(p.msg); err != nil || cerr != nil || c.header[5] != row.cef || p.severity != row.syslog {
			t.Errorf("%+v: CEF severity %s, %v, %v", row, c.header[5], err, cerr)
		}
		p, err = parse(syslog.DICOM(origin, e))
		if a, _, xerr := parseDICOM(p.msg); err != nil || xerr != nil || a.Event.Outcome != row.outcome || p.severity != row.dicom {
			t.Errorf("%+v: outcome %s, severity %d, %v, %v", row, a.Event.Outcome, p.severity, err, xerr)
		}
	}
}

// Which alert of DICOM an event is.
//
// Verifies: SR-070
func TestAlertTypes(t *testing.T) {
	for _, row := range []struct {
		kind, code string
		over       bool
		want       string
	}{
		{"ward.finding.raised", "boot.pcr-differs", false, "110131 Software Configuration"},
		{"ward.finding.raised", "boot.secure-boot-off", false, "110129 Security Configuration"},
		{"ward.finding.incident", "ima.unknown-file", false, "110131 Software Configuration"},
		{"ward.finding.raised", "tpm.absent", false, "110130 Hardware Configuration"},
		{"ward.finding.raised", "identity.expired", false, "110126 Node Authentication"},
		{"ward.access.break-glass", "", false, "110127 Emergency Override Started"},
		{"ward.access.session", "", false, "110132 Use of Restricted Function"},
		{"ward.finding.incident", "access.root-login", false, "110132 Use of Restricted Function"},
		{"ward.finding.incident", "network.interface-added", false, "110128 Network Configuration"},
		{"ward.finding.incident", "usb.storage-inserted", false, "110130 Hardware Configuration"},
		{"ward.device.attached", "", false, "110130 Hardware Configuration"},
		{"ward.device.decommissioned", "", false, "110133 Audit Recording Stopped"},
		{"ward.finding.incident", "storage.verity-error", false, "110131 Software Configuration"},
		{"ward.identity.used", "", false, "110132 Use of Restricted Function"},
		{"ward.finding.raised", "link.server-untrusted", false, "110126 Node Authentication"},
		{"ward.finding.raised", "link.sink-untrusted", false, "110126 Node Authentication"},
		{"ward.finding.raised", "link.sink-down", false, "110128 Network Configuration"},
		{"ward.link.connected", "", false, "110128 Network Configuration"},
		{"ward.finding.raised", "journal.write-failing", false, "110133 Audit Recording Stopped"},
		{"ward.finding.cleared", "journal.write-failing", true, "110134 Audit Recording Started"},
		{"ward.finding.incident", "journal.corrupt", false, "110129 Security Configuration"},
		{"ward.daemon.started", "", false, "110134 Audit Recording Started"},
		{"ward.daemon.stopped", "", false, "110133 Audit Recording Stopped"},
		{"ward.sink.skipped", "", false, "110133 Audit Recording Stopped"},
		{"ward.update.committed", "", false, "110131 Software Configuration"},
		{"ward.boot.verdict", "", false, "110131 Software Configuration"},
		{"ward.finding.raised", "daemon.bring-up", false, "110129 Security Configuration"},
		{"ward.journal.checkpoint", "", false, "110129 Security Configuration"},
	} {
		e := whole(map[string]string{"type": row.kind, "code": row.code})
		e.Over = row.over
		p, err := parse(syslog.DICOM(origin, e))
		a, _, xerr := parseDICOM(p.msg)
		if err != nil || xerr != nil || len(a.Event.Types) != 1 {
			t.Fatalf("%+v: %v, %v, %+v", row, err, xerr, a.Event)
		}
		if got := a.Event.Types[0].Code + " " + a.Event.Types[0].Meaning; got != row.want {
			t.Errorf("%s %s: %s, want %s", row.kind, row.code, got, row.want)
		}
	}
}

// A stream of frames is read by its lengths (RFC 5425, section 4.3).
func TestFrame(t *testing.T) {
	if got := string(syslog.Frame([]byte("<86>1 ü"))); got != "8 <86>1 ü" {
		t.Errorf("%q", got)
	}
}

// Any bytes in any text: one line, one message, every element in its place.
//
// Verifies: SR-070
func FuzzOneEventIsOneMessage(f *testing.F) {
	for text := range hostile {
		f.Add(text, text, text, int64(1e18), uint8(3), false)
	}
	f.Add("", "", "", int64(0), uint8(0), true)
	f.Fuzz(func(t *testing.T, a, b, c string, at int64, severity uint8, over bool) {
		e := whole(map[string]string{
			"id": "d/1/2", "sequence": "2", "type": a, "code": b, "subject": a, "boot": b, "prev": c, "hash": a, "path": b, "expected": c, "found": a,
			"detail": b, "remedy": c, "place": a, "report": b, "repeated": c, "first": a, "last": b, "tenant": c, "severity": a, "mono": b, "epoch": c,
		})
		e.Time, e.Title, e.Severity, e.Over = time.Unix(0, at), c, syslog.Severity(severity), over
		o := syslog.Origin{Tenant: b, Device: c, Version: a}
		m := syslog.RFC5424(o, e)
		oneLine(t, m, syslog.MaxMessage)
		p, err := parse(m)
		if err != nil {
			t.Fatalf("%v\n%q", err, m)
		}
		if got := p.sd["ward@32473"]; len(p.sd) != 3 || got["id"] != "d/1/2" || got["sequence"] != "2" {
			t.Fatalf("structured data %q", p.sd)
		}
		for name, text := range map[string]string{"subject": a, "path": b, "expected": c} {
			if got := p.sd["ward@32473"][name]; printable(text) && len(text) < 128 && got != text {
				t.Fatalf("%s %q, want %q", name, got, text)
			}
		}
		m = syslog.CEF(o, e)
		oneLine(t, m, syslog.MaxMessage)
		if p, err = parse(m); err != nil {
			t.Fatalf("%v\n%q", err, m)
		}
		if x, err := parseCEF(p.msg); err != nil || x.fields["externalId"] != "d/1/2" || x.fields["cn2"] != "2" {
			t.Fatalf("%v, %q\n%q", err, x, m)
		}
		m = syslog.DICOM(o, e)
		oneLine(t, m, syslog.MaxMessage)
		if p, err = parse(m); err != nil {
			t.Fatalf("%v\n%q", err, m)
		}
		if _, d, err := parseDICOM(p.msg); err != nil || d["id"] != "d/1/2" || d["sequence"] != "2" {
			t.Fatalf("%v, %q\n%q", err, d, m)
		}
	})
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > 0x7e && r < 0xa1 || r > 0xff || r == 0xad })
}
