package journal_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// running runs a journal in a folder in the time of a synctest bubble.
func running(t *testing.T, c journal.Config, body func(j *journal.Journal)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if c.Dir == "" {
			c.Dir = t.TempDir()
		}
		c.Source, c.Boot = source, "b"
		if c.Monotonic == nil {
			c.Monotonic = uptime()
		}
		j, err := journal.Open(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- j.Run(ctx) }()
		body(j)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		closeJournal(t, j)
	})
}

// told lists the findings of a code: type, severity and detail.
func told(t *testing.T, j *journal.Journal, code finding.Code) []string {
	t.Helper()
	records, err := j.Read(t.Context(), 0, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range records {
		if r.Bytes == nil {
			continue
		}
		e, err := event.Parse(r.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if e.Finding != nil && e.Finding.Code == code {
			out = append(out, strings.TrimPrefix(e.Type, "ward.finding.")+" "+e.Severity.String()+" "+e.Finding.Detail)
		}
	}
	return out
}

// confirm has the fleet confirm everything.
func confirm(t *testing.T, j *journal.Journal) {
	t.Helper()
	sequence, head, err := j.Head()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Acknowledge(j.Epoch(), sequence, head); err != nil {
		t.Fatal(err)
	}
}

// Verifies: SR-059
func TestAJournalThatFills(t *testing.T) {
	const bound = 2 << 20
	running(t, journal.Config{MaxBytes: bound}, func(j *journal.Journal) {
		until := func(percent int64) {
			for j.Status().Unconfirmed*100 < percent*bound {
				record(t, j, low(strings.Repeat("y", 900)))
				time.Sleep(10 * time.Second)
			}
			time.Sleep(2 * time.Second)
		}
		want := func(step string, lines ...string) {
			t.Helper()
			got := told(t, j, finding.JournalFilling)
			if len(got) != len(lines) {
				t.Fatalf("%s: told %q, want %q", step, got, lines)
			}
			for i, l := range lines {
				if !strings.HasPrefix(got[i], l) {
					t.Errorf("%s: told %q, want %q…", step, got[i], l)
				}
			}
		}
		until(70)
		want("below the threshold")
		until(76)
		want("above it", "raised medium ")
		got := told(t, j, finding.JournalFilling)[0]
		if !strings.Contains(got, "of 2048 KiB are not confirmed") || !strings.Contains(got, "the rest lasts for 1h") {
			t.Errorf("told %q, want how full it is and how long it lasts", got)
		}
		until(91)
		want("nearly full", "raised medium ", "raised high ")
		time.Sleep(time.Hour)
		want("nothing new", "raised medium ", "raised high ")
		confirm(t, j)
		time.Sleep(2 * time.Second)
		want("confirmed", "raised medium ", "raised high ", "cleared high ")
	})
}

// Verifies: SR-059
func TestAnIdleDayWritesLessThanAMebibyte(t *testing.T) {
	dir := t.TempDir()
	running(t, journal.Config{Dir: dir}, func(j *journal.Journal) {
		begun := j.Status().Flash.Total
		// A hundred events, each confirmed by itself, is much for an idle day.
		for range 100 {
			record(t, j, low(strings.Repeat("z", 600)))
			time.Sleep(2 * time.Second)
			confirm(t, j)
			time.Sleep(24*time.Hour/100 - 2*time.Second)
		}
		f := j.Status().Flash
		t.Logf("a day with 100 events: %d bytes written", f.Total-begun)
		if f.Total-begun > 1<<20 {
			t.Errorf("%d bytes written in a day, want less than 1 MiB", f.Total-begun)
		}
		if f.Total-begun < 100*600 {
			t.Errorf("%d bytes are counted, the events alone have more", f.Total-begun)
		}
		quiet := j.Status().Flash.Total
		time.Sleep(24 * time.Hour)
		if n := j.Status().Flash.Total - quiet; n != 0 {
			t.Errorf("%d bytes written in a day without an event", n)
		}
	})
	// The count is kept over restarts.
	var total uint64
	running(t, journal.Config{Dir: dir}, func(j *journal.Journal) {
		f := j.Status().Flash
		if f.Total < 100*600 || f.Elapsed == 0 {
			t.Errorf("behind a restart %+v", f)
		}
		total = f.Total
	})
	running(t, journal.Config{Dir: dir}, func(j *journal.Journal) {
		if f := j.Status().Flash; f.Total < total {
			t.Errorf("behind another restart %+v, before %d", f, total)
		}
	})
}

// Verifies: SR-059
func TestTheFlashBudget(t *testing.T) {
	running(t, journal.Config{MaxBytes: 1 << 20}, func(j *journal.Journal) {
		noise := low(strings.Repeat("y", 900))
		for j.Status().Flash.Today <= journal.FlashBudget {
			for range 200 {
				record(t, j, noise)
			}
			time.Sleep(2 * time.Second)
			confirm(t, j)
		}
		time.Sleep(2 * time.Second)
		if got := told(t, j, finding.JournalFlash); len(got) != 1 || !strings.HasPrefix(got[0], "raised medium ") || !strings.Contains(got[0], "the budget of a day is 32768 KiB") {
			t.Fatalf("told %q, want that it is over the budget", got)
		}
		time.Sleep(24 * time.Hour)
		if got := told(t, j, finding.JournalFlash); len(got) != 2 || !strings.HasPrefix(got[1], "cleared medium ") {
			t.Errorf("a day later %q, want it cleared", got)
		}
		if f := j.Status().Flash; f.Before <= journal.FlashBudget || f.Today > 1<<20 {
			t.Errorf("a day later %+v", f)
		}
	})
}

// Thirty days without a connection, a hundred events a day and a restart each
// morning fit, with nothing lost, whatever the events' severity.
//
// Verifies: SR-059
func TestThirtyDaysOffline(t *testing.T) {
	const days, each = 30, 100
	dir := t.TempDir()
	long := finding.New(finding.IMAUnknownFile, "sha256 is in no release, and the file is not on a file system that the release knows").
		On("/usr/lib/some/application/of/the/manufacturer/with-a-long-name/module.so").AtIndex(4711).Want(strings.Repeat("0a", 32), strings.Repeat("0b", 32))
	var size int64
	for range days {
		j := open(t, dir, nil, journal.DefaultBytes)
		for range each {
			record(t, j, event.Event{Type: event.FindingIncident, Subject: long.Path, Severity: long.Severity, Finding: &long})
		}
		size = j.Status().Bytes
		closeJournal(t, j)
	}
	v := verify(t, wal.Dir(dir))
	t.Logf("%d events in %d days take %d KiB", v.Records, days, size>>10)
	if size >= 16<<20 || v.Records < days*each || v.Shed > 0 || len(v.Problems) > 0 {
		t.Errorf("%d bytes, %+v; want less than 16 MiB with every event whole", size, v)
	}
}

// The wall clock is compared with the boot's: a step of either kind and size is
// told once with its size, slewing and a device that runs on are not.
//
// Verifies: SR-060
func TestStepsOfTheWallClock(t *testing.T) {
	for _, row := range []struct {
		name string
		by   time.Duration
		told bool
	}{
		{"forward", time.Hour, true},
		{"back", -3 * time.Minute, true},
		{"a little more than a second", 1100 * time.Millisecond, true},
		{"less than a second", 900 * time.Millisecond, false},
		{"from 1970", 56 * 365 * 24 * time.Hour, true},
		{"beyond 2100", 80 * 365 * 24 * time.Hour, true},
		{"back to 1970", -30 * 365 * 24 * time.Hour, true}, // the bubble's clock begins in 2000
	} {
		t.Run(row.name, func(t *testing.T) {
			var stepped time.Duration // what the wall clock was set forward is missing in the boot's
			begun := time.Now()
			c := journal.Config{}
			running(t, func() journal.Config {
				c.Monotonic = func() time.Duration { return 100*365*24*time.Hour + time.Since(begun) - stepped }
				return c
			}(), func(j *journal.Journal) {
				begun = time.Now()
				time.Sleep(time.Hour)
				stepped = row.by
				time.Sleep(time.Hour)
				records, err := j.Read(t.Context(), 0, 100)
				if err != nil {
					t.Fatal(err)
				}
				var steps []event.Decoded
				for _, r := range records {
					e, err := event.Parse(r.Bytes)
					if err != nil {
						t.Fatal(err)
					}
					if e.Type == event.ClockStepped {
						steps = append(steps, e)
					}
				}
				if (len(steps) == 1) != row.told || len(steps) > 1 {
					t.Fatalf("%d steps are told, want one: %v", len(steps), row.told)
				}
				if !row.told {
					return
				}
				var report struct {
					From, To time.Time
					Seconds  float64
				}
				if err := json.Unmarshal(steps[0].Report, &report); err != nil {
					t.Fatal(err)
				}
				if report.Seconds != row.by.Seconds() || report.To.Sub(report.From) != row.by || steps[0].Severity != finding.Low {
					t.Errorf("told is %+v, want %s", report, row.by)
				}
			})
		})
	}
}

// Clocks that show 1970, 2100, nothing that RFC 3339 can write, and that jump
// back: chain, order at a reader and what is given up first depend on none of it.
//
// Verifies: SR-060 SR-023
func TestWildClocks(t *testing.T) {
	const bound = 1 << 20
	wild := []time.Time{
		time.Unix(0, 0), time.Date(2100, 2, 28, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2025, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(292277, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(-1<<40, 0),
	}
	dir := t.TempDir()
	running(t, journal.Config{Dir: dir, MaxBytes: bound}, func(j *journal.Journal) {
		for n := range 1600 {
			e := low(fmt.Sprintf("%04d %s", n, strings.Repeat("y", 900)))
			e.Time = wild[n%len(wild)]
			record(t, j, e)
			if n%200 == 0 {
				time.Sleep(2 * time.Second)
			}
		}
		time.Sleep(5 * time.Second)
		records, err := j.Read(t.Context(), 0, 5000)
		if err != nil {
			t.Fatal(err)
		}
		// The fleet follows the chain as it comes.
		var follow chain.Verifier
		var order []string
		shed, whole := 0, 0
		for _, r := range records {
			if r.Bytes == nil {
				shed++
				if whole > 200 { // records of higher severity are among the oldest
					t.Fatalf("record %d lost its content, and %d older ones have theirs", r.Sequence, whole)
				}
				if err := follow.AddHash(r.Epoch, r.Sequence, r.Hash); err != nil {
					t.Fatal(err)
				}
				continue
			}
			e, err := event.Parse(r.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if whole++; whole+shed == 1 || shed == 0 || whole > 1 {
				if err := follow.Add(e.Link(), r.Bytes); err != nil {
					t.Fatal(err)
				}
			} else {
				follow.Accept(e.Link(), r.Bytes)
			}
			if e.Finding != nil && e.Finding.Code == finding.LinkDown {
				order = append(order, e.Finding.Detail[:4])
			}
		}
		if shed == 0 || !slices.IsSorted(order) || order[len(order)-1] != "1599" {
			t.Errorf("%d lost their content, the last ones are %v", shed, order[len(order)-3:])
		}
	})
	if v := verify(t, wal.Dir(dir)); len(v.Problems) > 0 {
		t.Errorf("verification: %q", v.Problems)
	}
}
