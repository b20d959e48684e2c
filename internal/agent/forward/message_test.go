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
			if err := sc.m.Record(t.Context(), event.Event{Type: event.BootVerdict, Severity: s}); err != nil {
				t.Fatal(err)
			}
		}
		last := &sc.m.records[4]
		last.Bytes = bytes.Replace(last.Bytes, []byte(`"data":{`), []byte(`"data":{"repeated":{"count":12,"first":"2026-11-24T01:00:00Z","last":"2026-11-24T01:01:00.5Z"}`), 1)
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
