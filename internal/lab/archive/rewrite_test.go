package archive

import (
	"context"
	"testing"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/agent/journal/audit"
	"ward/internal/device/wal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// What was rewritten holds together: checksums and chain alone do not show it.
func TestRewrittenJournalHoldsTogether(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(journal.Config{
		Dir: dir, Source: event.Source{Tenant: "lab", Device: "pump-0001"}, Boot: "b", Monotonic: func() time.Duration { return time.Second },
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		f := finding.New(finding.IMAUnknownFile, "").On("/tmp/stranger")
		if err := j.Record(context.Background(), event.Event{Type: event.FindingIncident, Subject: "ima", Severity: f.Severity, Finding: &f}); err != nil {
			t.Fatal(err)
		}
		if err := j.Record(context.Background(), event.Event{Type: event.DaemonStarted, Severity: finding.Info}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := audit.Verify(wal.Dir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := Rewrite(dir, func(e event.Decoded) bool { return e.Finding != nil && e.Finding.Code == finding.IMAUnknownFile })
	if err != nil || dropped != 5 {
		t.Fatalf("%d records left out, %v; want 5", dropped, err)
	}
	after, err := audit.Verify(wal.Dir(dir), nil)
	if err != nil || len(after.Problems) > 0 || after.Records != before.Records-5 || after.Head == before.Head {
		t.Errorf("after it: %+v, %v", after, err)
	}
}
