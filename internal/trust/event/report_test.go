package event_test

import (
	"encoding/json"
	"testing"
	"time"

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

func TestRepeatedInWords(t *testing.T) {
	first := time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)
	for want, r := range map[string]event.Repeated{
		"1 time from 2026-11-24T01:02:03Z to 2026-11-24T01:02:03Z":   {Count: 1, First: first, Last: first},
		"41 times from 2026-11-24T01:02:03Z to 2026-11-24T01:02:43Z": {Count: 41, First: first, Last: first.Add(40 * time.Second)},
	} {
		if got := event.RepeatedLine(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
