package once

import (
	"log/slog"
	"strings"
	"testing"

	"ward/internal/agent/journal"
	"ward/internal/device/bootclock"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What was told in this boot is known to the daemon's next start; what was told in
// another boot, or of other content, is new.
//
// Verifies: SR-073
func TestWhatWasToldIsKnownToTheNextStart(t *testing.T) {
	dir := t.TempDir()
	unknown := func(path, found string) finding.Finding {
		f := finding.New(finding.IMAUnknownFile, "it runs")
		f.Path, f.Found = path, found
		return f
	}
	start := func(boot string) (*journal.Journal, *Incidents) {
		j, err := journal.Open(journal.Config{Dir: dir, Source: event.Source{Tenant: "acme", Device: "pump-1"}, Boot: boot, Monotonic: bootclock.Now})
		check(t, err)
		return j, New(j, boot, slog.New(slog.DiscardHandler))
	}
	const first, second = "7abbb515-d766-459f-81b2-8c7a6ec5e0d5", "8abbb515-d766-459f-81b2-8c7a6ec5e0d5"
	j, o := start(first)
	for range 2 * batch { // others before it
		check(t, j.Record(t.Context(), event.Event{Type: event.DaemonStarted, Severity: finding.Info}))
	}
	f := unknown("/opt/x", "sha256:01")
	if !o.First(t.Context(), f.Path, f) || o.First(t.Context(), f.Path, f) {
		t.Error("it is not first once")
	}
	long, strange := unknown("/opt/"+strings.Repeat("x", 400), "sha256:01"), unknown("/opt/a\nb\x1b", "sha256:01")
	for _, f := range []finding.Finding{f, long, strange} {
		check(t, j.Record(t.Context(), event.Event{Type: event.FindingIncident, Subject: f.Path, Severity: f.Severity, Finding: &f}))
	}
	check(t, j.Close())

	for _, c := range []struct {
		boot string
		f    finding.Finding
		want bool
	}{
		{first, f, false},
		{first, long, false},
		{first, strange, false},
		{first, unknown("/opt/x", "sha256:02"), true},
		{first, unknown("/opt/y", "sha256:01"), true},
		{second, f, true},
	} {
		j, o := start(c.boot)
		if got := o.First(t.Context(), c.f.Path, c.f); got != c.want {
			t.Errorf("boot %.4s, %s %s: first %v", c.boot, c.f.Path, c.f.Found, got)
		}
		check(t, j.Close())
	}

	// Beyond what is remembered nothing is kept back.
	j, o = start(second)
	defer j.Close()
	o.seen = make(map[[16]byte]struct{})
	for n := range maxSeen {
		o.add([16]byte{byte(n), byte(n >> 8)})
	}
	for range 2 {
		if !o.First(t.Context(), f.Path, f) {
			t.Error("what is not known to be told is kept back")
		}
	}
}
