package event_test

import (
	"encoding/json"
	"testing"

	"ward/internal/trust/event"
)

func TestReportLine(t *testing.T) {
	for report, want := range map[string]string{
		`{"events":37,"claims":{"boot":"none"},"verdict":"affirming","bringUp":false}`: "verdict affirming, bringUp false, events 37",
		`{"session":7,"version":"1.0.0"}`:                                              "session 7, version 1.0.0",
		`{"text":"a\u001b[31mb"}`:                                                      `text a\x1b[31mb`,
		`{"list":[1]}`:                                                                 "",
		`[1]`:                                                                          "",
		`{`:                                                                            "",
		``:                                                                             "",
	} {
		if got := event.ReportLine(json.RawMessage(report)); got != want {
			t.Errorf("%s: %q, want %q", report, got, want)
		}
	}
}
