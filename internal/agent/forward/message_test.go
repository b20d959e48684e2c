package forward_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/doctest"
	"ward/internal/format/chain"
	"ward/internal/format/syslog"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// contract are the golden events of the contract.
func contract(t *testing.T) []event.Record {
	t.Helper()
	files, err := filepath.Glob("../../../docs/contract/event-*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d events of the contract, %v", len(files), err)
	}
	var records []event.Record
	for i, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.TrimSpace(b)
		records = append(records, event.Record{Epoch: 1, Sequence: uint64(i) + 1, Hash: chain.Next(b), Bytes: b})
	}
	return records
}

// The messages for the events of the contract, one a line, in each format.
//
// Verifies: SR-070
func TestMessagesCurrent(t *testing.T) {
	for format, write := range map[string]func(syslog.Origin, *syslog.Event) []byte{"rfc5424": syslog.RFC5424, "cef": syslog.CEF, "dicom": syslog.DICOM} {
		run(t, func(sc *scene) {
			sc.config.Format = write
			sc.config.Origin = syslog.Origin{Tenant: "lab", Device: "pump-0001", Version: "1.0.0"}
			sc.m.records = contract(t)
		}, func(sc *scene) {
			sc.pass(time.Minute)
			got := sc.s.got()
			if len(got) != len(sc.m.records) {
				t.Errorf("%d messages for %d events", len(got), len(sc.m.records))
			}
			doctest.Current(t, filepath.Join("testdata", format+".golden"), strings.Join(got, "\n")+"\n")
		})
	}
}

// An event that stands for repetitions says so; every severity keeps its rank.
func TestRepeatedAndSeverity(t *testing.T) {
	var got []*syslog.Event
	run(t, func(sc *scene) {
		sc.config.Format = func(_ syslog.Origin, e *syslog.Event) []byte { got = append(got, e); return nil }
		for s := finding.Info; s <= finding.Critical; s++ {
			e := event.Event{Type: event.DaemonStopped, Severity: s, Report: []byte(`{"session":3}`)}
			if s == finding.Critical {
				e.Repeated = &event.Repeated{Count: 12, First: time.Date(2026, 11, 24, 1, 0, 0, 0, time.UTC), Last: time.Date(2026, 11, 24, 1, 1, 0, 5e8, time.UTC)}
			}
			if err := sc.m.Record(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}, func(sc *scene) { sc.pass(time.Minute) })
	if len(got) != 5 {
		t.Fatalf("%d events", len(got))
	}
	for i, s := range []syslog.Severity{syslog.Info, syslog.Low, syslog.Medium, syslog.High, syslog.Critical} {
		if got[i].Severity != s || got[i].Said("severity") != finding.Severity(i+1).String() {
			t.Errorf("severity %d is %d, %s", i, got[i].Severity, got[i].Said("severity"))
		}
	}
	if e := got[4]; e.Said("repeated") != "12" || e.Said("first") != "2026-11-24T01:00:00Z" || e.Said("last") != "2026-11-24T01:01:00.5Z" {
		t.Errorf("%+v", e)
	}
	if e := got[0]; e.Said("repeated") != "" || e.Said("first") != "" {
		t.Errorf("%+v", e)
	}
}

// The document shows messages as they are, and the configuration of rsyslog that the
// tests run.
//
// Verifies: SR-070
func TestDocument(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	document := read("../../../docs/sinks.md")
	if conf := strings.TrimSuffix(read("testdata/rsyslog.conf"), "\n"); !strings.Contains(document, "```\n"+conf+"\n```") {
		t.Error("docs/sinks.md has another configuration of rsyslog than testdata/rsyslog.conf")
	}
	for _, format := range []string{"rfc5424", "cef", "dicom"} {
		shown := 0
		for line := range strings.Lines(read("testdata/" + format + ".golden")) {
			if strings.Contains(document, "```\n"+line+"```") {
				shown++
			}
		}
		if shown != 1 {
			t.Errorf("docs/sinks.md shows %d messages of %s as they are, want 1", shown, format)
		}
	}
}
