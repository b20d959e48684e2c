package storm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/storm"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// book is a journal in memory that can fail.
type book struct {
	mu     sync.Mutex
	events []event.Event
	fail   error
}

func (b *book) Record(_ context.Context, e event.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	b.events = append(b.events, e)
	return nil
}

func (b *book) breaks(err error) { b.mu.Lock(); defer b.mu.Unlock(); b.fail = err }

// lines are the events in short: "raised link.down a" with "x3" for repetitions.
func (b *book) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, e := range b.events {
		text := e.Type[strings.LastIndex(e.Type, ".")+1:]
		if e.Finding != nil {
			text += " " + string(e.Finding.Code) + " " + e.Finding.Detail
		}
		if e.Repeated != nil {
			text += fmt.Sprintf(" x%d", e.Repeated.Count)
		}
		out = append(out, text)
	}
	return out
}

func about(kind string, code finding.Code, subject, detail string) event.Event {
	f := finding.New(code, detail)
	return event.Event{Type: kind, Subject: subject, Severity: f.Severity, Finding: &f}
}

func raise(detail string) event.Event {
	return about(event.FindingRaised, finding.LinkDown, "uplink", detail)
}
func clearIt(detail string) event.Event {
	return about(event.FindingCleared, finding.LinkDown, "uplink", detail)
}
func invalid(detail string) event.Event {
	return about(event.FindingIncident, finding.LinkReceiptInvalid, "uplink", detail)
}
func unknown(path string) event.Event {
	e := about(event.FindingIncident, finding.IMAUnknownFile, path, "")
	f := e.Finding.On(path)
	e.Finding = &f
	return e
}

// before has a storm over a journal that runs for the test.
func before(t *testing.T, f func(b *book, s *storm.Storm)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &book{}
		s := storm.New(b, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, func() {}) }()
		f(b, s)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func put(t *testing.T, s *storm.Storm, events ...event.Event) {
	t.Helper()
	for _, e := range events {
		begun := time.Now()
		if err := s.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("recording took %s", waited)
		}
	}
}

func want(t *testing.T, step string, b *book, lines ...string) {
	t.Helper()
	if got := b.lines(); !slices.Equal(got, lines) {
		t.Errorf("%s: recorded\n  %s\nwant\n  %s", step, strings.Join(got, "\n  "), strings.Join(lines, "\n  "))
	}
}

// Verifies: SR-058
func TestTheSameAgainIsCounted(t *testing.T) {
	before(t, func(b *book, s *storm.Storm) {
		begun := time.Now()
		put(t, s, invalid("1"))
		want(t, "the first", b, "incident link.receipt-invalid 1")
		for n := 2; n <= 5; n++ {
			time.Sleep(10 * time.Second)
			put(t, s, invalid(fmt.Sprint(n)))
		}
		put(t, s, unknown("/tmp/x")) // something else is not held up
		time.Sleep(15 * time.Second)
		want(t, "within the window", b, "incident link.receipt-invalid 1", "incident ima.unknown-file ")
		time.Sleep(10 * time.Second)
		want(t, "behind it", b, "incident link.receipt-invalid 1", "incident ima.unknown-file ", "incident link.receipt-invalid 5 x4")
		r := b.events[2].Repeated
		if first, last := r.First.Sub(begun), r.Last.Sub(begun); first != 10*time.Second || last != 40*time.Second || !b.events[2].Time.Equal(r.Last) {
			t.Errorf("repeated from %s to %s, at %s", first, last, b.events[2].Time)
		}
		put(t, s, invalid("6"))
		want(t, "a later one is a first one", b, "incident link.receipt-invalid 1", "incident ima.unknown-file ", "incident link.receipt-invalid 5 x4", "incident link.receipt-invalid 6")
	})
}

// Verifies: SR-058
func TestWhatIsTheSame(t *testing.T) {
	found := func(text string) event.Event {
		e := unknown("/tmp/x")
		f := e.Finding.Want("", text)
		e.Finding = &f
		return e
	}
	at := func(pcr int) event.Event {
		e := about(event.FindingIncident, finding.IMAViolation, "", "")
		f := e.Finding.At(pcr)
		e.Finding = &f
		return e
	}
	plain := func(kind, report string) event.Event {
		return event.Event{Type: kind, Subject: "s", Severity: finding.Info, Report: json.RawMessage(report)}
	}
	rows := []struct {
		name     string
		a, b     event.Event
		recorded int
	}{
		{"another detail", invalid("1"), invalid("2"), 1},
		{"another path", unknown("/a"), unknown("/b"), 2},
		{"other content", found("a"), found("b"), 2},
		{"another PCR", at(4), at(7), 2},
		{"another code", invalid(""), about(event.FindingIncident, finding.LinkReceiptForeign, "uplink", ""), 2},
		{"raised and cleared", raise(""), clearIt(""), 2},
		{"raised again with another detail", raise("1"), raise("2"), 1},
		{"another subject", raise(""), about(event.FindingRaised, finding.LinkDown, "other", ""), 2},
		{"steps of the clock", plain(event.ClockStepped, `{"seconds":1}`), plain(event.ClockStepped, `{"seconds":2}`), 1},
		{"another broker", plain(event.LinkConnected, `{"broker":"a"}`), plain(event.LinkConnected, `{"broker":"b"}`), 2},
		{"verdicts", plain(event.BootVerdict, `{}`), plain(event.BootVerdict, `{}`), 2},
		{"starts", plain(event.DaemonStarted, `{}`), plain(event.DaemonStarted, `{}`), 2},
		{"checkpoints", plain("ward.journal.checkpoint", `{}`), plain("ward.journal.checkpoint", `{}`), 2},
		{"acknowledgements", plain("ward.finding.acknowledged", `{}`), plain("ward.finding.acknowledged", `{}`), 2},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			before(t, func(b *book, s *storm.Storm) {
				put(t, s, row.a, row.b)
				if got := len(b.lines()); got != row.recorded {
					t.Errorf("%d events are recorded at once, want %d", got, row.recorded)
				}
				s.Flush(t.Context())
				if got := len(b.lines()); got != 2 {
					t.Errorf("%d events are recorded at the end, want both", got)
				}
			})
		})
	}
}

// Verifies: SR-058
func TestAFlappingConditionKeepsItsLastState(t *testing.T) {
	before(t, func(b *book, s *storm.Storm) {
		put(t, s, raise("1"), clearIt("1"))
		want(t, "the first transitions", b, "raised link.down 1", "cleared link.down 1")
		for n := 2; n <= 40; n++ {
			put(t, s, raise(fmt.Sprint(n)))
			time.Sleep(time.Second)
			if n < 40 {
				put(t, s, clearIt(fmt.Sprint(n)))
			}
		}
		time.Sleep(30 * time.Second)
		want(t, "the state at the window's end", b, "raised link.down 1", "cleared link.down 1", "raised link.down 40 x77")
		put(t, s, clearIt("41"))
		want(t, "what follows", b, "raised link.down 1", "cleared link.down 1", "raised link.down 40 x77", "cleared link.down 41")
	})
}

// A condition that was raised twice and cleared once is cleared: a repetition that
// is told later does not bring it back.
//
// Verifies: SR-058
func TestARepetitionDoesNotOutliveTheState(t *testing.T) {
	before(t, func(b *book, s *storm.Storm) {
		put(t, s, raise("1"), raise("2"), clearIt("3"))
		want(t, "at once", b, "raised link.down 1", "cleared link.down 3")
		time.Sleep(61 * time.Second)
		want(t, "at the end", b, "raised link.down 1", "cleared link.down 3", "cleared link.down 3 x1")
	})
}

// Verifies: SR-058
func TestFloodsAreLimitedBySeverity(t *testing.T) {
	for _, row := range []struct {
		code  finding.Code
		burst int
		more  int // within a minute
	}{
		{finding.BootPCRDiffers, 1024, 60}, {finding.IMAUnknownFile, 512, 12}, {finding.LinkReceiptInvalid, 0, 0},
	} {
		d, _ := finding.Lookup(row.code)
		t.Run(d.Severity.String(), func(t *testing.T) {
			if row.burst == 0 {
				row.burst, row.more = map[finding.Severity]int{finding.Medium: 256, finding.Low: 128, finding.High: 512}[d.Severity], map[finding.Severity]int{finding.Medium: 2, finding.Low: 1, finding.High: 12}[d.Severity]
			}
			before(t, func(b *book, s *storm.Storm) {
				flood := func(n int) {
					for i := range n {
						put(t, s, about(event.FindingIncident, row.code, fmt.Sprint(time.Now(), i), ""))
					}
				}
				flood(3000)
				if got := len(b.lines()); got != row.burst {
					t.Errorf("%d are recorded at once, want %d", got, row.burst)
				}
				time.Sleep(time.Minute + time.Second)
				lines := b.lines()
				if want := fmt.Sprintf("incident journal.rate-limited %s %d x%d", row.code, 3000-row.burst, 3000-row.burst); lines[len(lines)-1] != want {
					t.Errorf("at the window's end %q, want %q", lines[len(lines)-1], want)
				}
				flood(3000)
				if got := len(b.lines()) - len(lines); got < row.more || got > row.more+1 {
					t.Errorf("a minute later %d more are recorded, want %d", got, row.more)
				}
				// What is graver has its own room, and what is never held too.
				put(t, s, event.Event{Type: event.BootVerdict, Severity: finding.Info, Report: json.RawMessage(`{}`)})
				if lines := b.lines(); lines[len(lines)-1] != "verdict" {
					t.Errorf("a verdict was held: %q", lines[len(lines)-1])
				}
			})
		})
	}
}

// Verifies: SR-058
func TestAConditionIsNotLostInAFlood(t *testing.T) {
	before(t, func(b *book, s *storm.Storm) {
		flood := about(event.FindingIncident, finding.LinkDown, "", "") // of the same severity
		for i := range 2000 {
			flood.Subject = fmt.Sprint(i)
			put(t, s, flood)
		}
		at := len(b.lines())
		put(t, s, raise("in the flood"))
		if got := len(b.lines()); got != at {
			t.Fatalf("the flood left room for %d events", got-at)
		}
		time.Sleep(3 * time.Minute)
		if !slices.Contains(b.lines(), "raised link.down in the flood x1") {
			t.Error("the condition was never told")
		}
	})
}

// A million different things take bounded memory, each with a name that is long.
//
// Verifies: SR-020 SR-058
func TestMemoryIsBounded(t *testing.T) {
	s := storm.New(discard{}, slog.New(slog.DiscardHandler))
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	begun := heap()
	long := strings.Repeat("x", 100)
	for i := range 1_000_000 {
		e := about(event.FindingIncident, finding.IMAUnknownFile, fmt.Sprint(long, i), "")
		if i%2 == 0 {
			e.Type = event.FindingRaised
		}
		if err := s.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if now := heap(); now > begun+2<<20 {
		t.Errorf("the heap grew by %d KiB, want less than 2 MiB", (now-begun)>>10)
	} else {
		t.Logf("the heap grew by %d KiB", (int64(now)-int64(begun))>>10)
	}
	runtime.KeepAlive(s)
}

type discard struct{}

func (discard) Record(context.Context, event.Event) error { return nil }

// Verifies: SR-058
func TestAJournalThatTakesNothingIsToldOfLater(t *testing.T) {
	before(t, func(b *book, s *storm.Storm) {
		broken := errors.New("no room")
		b.breaks(broken)
		if err := s.Record(t.Context(), invalid("0")); !errors.Is(err, broken) {
			t.Errorf("the first gives %v, want the journal's error", err)
		}
		b.breaks(nil)
		put(t, s, invalid("1"), invalid("2"), invalid("3"))
		want(t, "what was refused is no first one", b, "incident link.receipt-invalid 1")
		b.breaks(broken)
		time.Sleep(61 * time.Second)
		put(t, s, invalid("4"))
		b.breaks(nil)
		time.Sleep(61 * time.Second)
		want(t, "told when it can be", b, "incident link.receipt-invalid 1", "incident link.receipt-invalid 4 x3")
	})
}

// Verifies: SR-058
func TestWhatIsHeldIsToldAtTheEnd(t *testing.T) {
	before(t, func(b *book, s *storm.Storm) {
		put(t, s, raise("1"), raise("2"), invalid("1"), invalid("2"))
		s.Flush(t.Context())
		got := b.lines()
		if len(got) != 4 || !slices.Contains(got, "raised link.down 2 x1") || !slices.Contains(got, "incident link.receipt-invalid 2 x1") {
			t.Errorf("recorded %q", got)
		}
	})
}

// Somebody who plugs a stick in and out all day, tries passwords or takes and ends a
// lease in a loop makes a bounded record; emergency access is never held.
//
// Verifies: SR-099, SR-101, SR-103
func TestStormsAtTheBedside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &book{}
		s := storm.New(b, slog.New(slog.DiscardHandler))
		plain := func(kind, subject, report string) event.Event {
			return event.Event{Type: kind, Subject: subject, Severity: finding.Info, Report: json.RawMessage(report)}
		}
		for i := range 10000 {
			for _, e := range []event.Event{
				plain(event.DeviceAttached, "usb/1-1:1.0", `{"kind":"usb"}`), plain(event.DeviceDetached, "usb/1-1:1.0", `{"kind":"usb"}`),
				plain(event.AccessSession, "ssh", fmt.Sprintf(`{"account":"~%d"}`, i)), plain(event.TherapyLease, "end", fmt.Sprintf(`{"seconds":%d}`, i)),
			} {
				if err := s.Record(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.Flush(t.Context())
		if n := len(b.events); n > 200 {
			t.Errorf("40000 events take %d records", n)
		}
		n := len(b.events)
		for range 10 {
			if err := s.Record(t.Context(), plain(event.BreakGlass, "", `{"role":"nurse"}`)); err != nil {
				t.Fatal(err)
			}
		}
		if len(b.events) != n+10 {
			t.Errorf("%d of 10 emergency accesses are recorded at once", len(b.events)-n)
		}
	})
}
