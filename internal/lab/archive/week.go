package archive

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Week adds to a journal what a busy device records while nobody listens: days
// days with perDay events each, one in eight of them grave. It returns the number
// of the newest record. The journal takes what room it needs: keeping it within
// bounds is left to the device.
func Week(dir string, source event.Source, days, perDay int) (uint64, error) {
	start := time.Now().Add(-time.Duration(days) * 24 * time.Hour)
	now := start
	j, err := journal.Open(journal.Config{
		Dir: dir, Source: source, Boot: "00000000-0000-4000-8000-000000000007", MaxBytes: 1 << 30, Log: slog.New(slog.DiscardHandler),
		Monotonic: func() time.Duration { return now.Sub(start) },
	})
	if err != nil {
		return 0, fmt.Errorf("open journal: %w", err)
	}
	for n := range days * perDay {
		now = start.Add(time.Duration(n) * 24 * time.Hour / time.Duration(perDay))
		f := finding.New(finding.IMAUnknownFile, "a program that is in no release").On(fmt.Sprintf("/opt/tools/batch-%05d", n))
		f.Severity = finding.Medium
		if n%8 == 0 {
			f.Severity = finding.Critical
		}
		e := event.Event{Type: event.FindingIncident, Time: now, Subject: "ima", Severity: f.Severity, Finding: &f}
		if err := j.Record(context.Background(), e); err != nil {
			return 0, fmt.Errorf("record event %d: %w", n, err)
		}
	}
	newest := j.Status().Sequence
	return newest, j.Close()
}
