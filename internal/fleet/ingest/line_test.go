package ingest_test

import (
	"strings"
	"testing"

	"ward/internal/fleet/ingest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// The line of an acknowledged condition says that it is one, and by whom.
//
// Verifies: SR-062
func TestAcknowledgedLine(t *testing.T) {
	f := finding.New(finding.LinkDown, "no route to host")
	r := ingest.Received{Kind: ingest.KindEvent, Device: "pump-1", Event: event.Decoded{
		Event: event.Event{Type: event.FindingAcknowledged, Subject: "uplink", Severity: f.Severity, Finding: &f, Report: event.Acknowledgement{By: event.ByService}.Encode()},
		Stamp: event.Stamp{Epoch: 1, Sequence: 7},
	}}
	if line := r.Line(); !strings.Contains(line, "link.down acknowledged ") || !strings.Contains(line, "no route to host (by service) [1/7]") {
		t.Errorf("line %q", line)
	}
}
