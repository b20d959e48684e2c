package main

import (
	"testing"
	"time"

	"ward/cmd/wardctl/record"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// An acknowledgement in the record reads as one.
//
// Verifies: SR-062
func TestAcknowledgedEventLine(t *testing.T) {
	f := finding.New(finding.LinkDown, "no route to host")
	e := event.Decoded{
		Event: event.Event{Type: event.FindingAcknowledged, Time: time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC), Severity: f.Severity, Finding: &f, Report: event.Acknowledgement{By: event.ByRoot}.Encode()},
		Stamp: event.Stamp{Sequence: 7},
	}
	if got, want := record.Line(e), "     7  2026-11-24 01:02:03.000  medium    acknowledged: link.down, by root"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
}
