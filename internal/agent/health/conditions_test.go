package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/health"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// maxConditions is the bound that the package states.
const maxConditions = 512

// book is a journal in memory.
type book struct {
	mu      sync.Mutex
	events  []event.Decoded
	changed chan struct{}
	fail    error
}

func newBook() *book { return &book{changed: make(chan struct{})} }

func (b *book) write(boot, kind, subject string, fs ...finding.Finding) {
	d := event.Decoded{Event: event.Event{Type: kind, Subject: subject}, Stamp: event.Stamp{Boot: boot}}
	if len(fs) > 0 {
		d.Finding, d.Severity = &fs[0], fs[0].Severity
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	d.Sequence = uint64(len(b.events) + 1)
	b.events = append(b.events, d)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *book) Events(_ context.Context, after uint64, limit int) ([]event.Decoded, uint64, error) {
	if b.fail != nil {
		return nil, after, b.fail
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	end := min(after+uint64(limit), uint64(len(b.events)))
	return b.events[after:end], end, nil
}

func (b *book) Wait(ctx context.Context, after uint64) error {
	b.mu.Lock()
	changed, newest := b.changed, uint64(len(b.events))
	b.mu.Unlock()
	if newest > after {
		return nil
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *book) acknowledge(boot, subject, by string, code finding.Code) {
	b.write(boot, event.FindingAcknowledged, subject, finding.New(code, ""))
	b.mu.Lock()
	defer b.mu.Unlock()
	last := &b.events[len(b.events)-1]
	last.Time, last.Report = time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC), event.Acknowledgement{By: by}.Encode()
}

// followed runs conditions of the boot "now" over a journal; look returns what
// holds after everything that was written.
func followed(t *testing.T, f func(b *book, look func() (conditions, incidents []string))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		c := health.NewConditions(b, "now")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx, func() {}) }()
		f(b, func() ([]string, []string) {
			synctest.Wait()
			conditions, incidents := c.Active()
			var held []string
			for _, c := range conditions {
				text := texts([]finding.Finding{c.Finding})[0]
				if a := c.Acknowledged; a != nil {
					text += " acknowledged by " + a.By + a.Time.Format(" 15:04:05")
				}
				held = append(held, text)
			}
			return held, texts(incidents)
		})
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func texts(fs []finding.Finding) []string {
	var out []string
	for _, f := range fs {
		out = append(out, string(f.Code)+" "+f.Detail)
	}
	return out
}

// Verifies: SR-018
func TestConditionsHoldUntilTheyAreCleared(t *testing.T) {
	followed(t, func(b *book, look func() ([]string, []string)) {
		want := func(step string, conditions, incidents []string) {
			t.Helper()
			c, i := look()
			if !slices.Equal(c, conditions) || !slices.Equal(i, incidents) {
				t.Errorf("%s: %q and %q, want %q and %q", step, c, i, conditions, incidents)
			}
		}
		want("at the begin", nil, nil)
		b.write("now", event.FindingRaised, "uplink", finding.New(finding.LinkDown, "a"))
		b.write("now", event.FindingRaised, "boot", finding.New(finding.BootPCRDiffers, "b"))
		b.write("now", event.FindingRaised, "boot", finding.New(finding.BootLogAnomaly, "c"))
		want("gravest first", []string{"boot.pcr-differs b", "link.down a", "boot.log-anomaly c"}, nil)
		b.write("now", event.FindingRaised, "uplink", finding.New(finding.LinkDown, "later"))
		b.write("now", event.FindingRaised, "other", finding.New(finding.LinkDown, "d"))
		want("raised again and about something else", []string{"boot.pcr-differs b", "boot.log-anomaly c", "link.down later", "link.down d"}, nil)
		b.write("now", event.FindingCleared, "uplink", finding.New(finding.LinkDown, ""))
		b.write("now", event.FindingCleared, "nobody", finding.New(finding.BootPCRDiffers, ""))
		want("cleared by code and subject", []string{"boot.pcr-differs b", "boot.log-anomaly c", "link.down d"}, nil)
		b.write("now", event.FindingIncident, "x", finding.New(finding.IMAUnknownFile, "1"))
		b.write("now", event.FindingIncident, "x", finding.New(finding.IMAUnknownFile, "2"))
		b.write("now", event.FindingCleared, "x", finding.New(finding.IMAUnknownFile, ""))
		b.write("now", event.BootVerdict, "")
		want("incidents stay", []string{"boot.pcr-differs b", "boot.log-anomaly c", "link.down d"}, []string{"ima.unknown-file 1", "ima.unknown-file 2"})
		b.write("now", event.DaemonStarted, "")
		want("behind a start", nil, []string{"ima.unknown-file 1", "ima.unknown-file 2"})
		b.write("now", event.FindingRaised, "boot", finding.New(finding.BootPCRDiffers, "e"))
		want("raised anew", []string{"boot.pcr-differs e"}, []string{"ima.unknown-file 1", "ima.unknown-file 2"})
	})
}

// An acknowledgement is of the condition as it was raised: it lasts until that is
// cleared or the daemon starts anew, and touches nothing else.
//
// Verifies: SR-062
func TestAcknowledged(t *testing.T) {
	followed(t, func(b *book, look func() ([]string, []string)) {
		want := func(step string, conditions ...string) {
			t.Helper()
			if c, _ := look(); !slices.Equal(c, conditions) {
				t.Errorf("%s: %q, want %q", step, c, conditions)
			}
		}
		const seen = " acknowledged by service 01:02:03"
		b.acknowledge("now", "uplink", event.ByService, finding.LinkDown)
		b.write("now", event.FindingRaised, "uplink", finding.New(finding.LinkDown, "a"))
		want("acknowledged before it was raised", "link.down a")
		b.write("now", event.FindingRaised, "other", finding.New(finding.LinkDown, "b"))
		b.acknowledge("now", "uplink", event.ByService, finding.LinkDown)
		want("one of two", "link.down a"+seen, "link.down b")
		b.write("now", event.FindingRaised, "uplink", finding.New(finding.LinkDown, "c"))
		want("raised again without being cleared", "link.down b", "link.down c"+seen)
		b.acknowledge("before", "other", event.ByService, finding.LinkDown)
		want("of another boot", "link.down b", "link.down c"+seen)
		b.acknowledge("now", "uplink", event.ByRoot, finding.LinkRefused)
		want("of another code", "link.down b", "link.down c"+seen)
		b.write("now", event.FindingCleared, "uplink", finding.New(finding.LinkDown, ""))
		b.write("now", event.FindingRaised, "uplink", finding.New(finding.LinkDown, "d"))
		want("cleared and raised anew", "link.down b", "link.down d")
		b.acknowledge("now", "other", event.ByRoot, finding.LinkDown)
		want("by root", "link.down b acknowledged by root 01:02:03", "link.down d")
		b.write("now", event.DaemonStarted, "")
		b.write("now", event.FindingRaised, "other", finding.New(finding.LinkDown, "e"))
		want("found anew behind a start", "link.down e")
		b.write("now", event.FindingIncident, "x", finding.New(finding.IMAUnknownFile, "1"))
		b.acknowledge("now", "x", event.ByRoot, finding.IMAUnknownFile)
		want("an incident is none", "link.down e")
		if _, incidents := look(); !slices.Equal(incidents, []string{"ima.unknown-file 1"}) {
			t.Errorf("incidents %q", incidents)
		}
	})
}

// Verifies: SR-018
func TestOtherBootsDoNotCount(t *testing.T) {
	followed(t, func(b *book, look func() ([]string, []string)) {
		b.write("before", event.FindingRaised, "boot", finding.New(finding.BootPCRDiffers, "old"))
		b.write("before", event.FindingIncident, "x", finding.New(finding.IMAUnknownFile, "old"))
		b.write("now", event.FindingRaised, "uplink", finding.New(finding.LinkDown, "new"))
		b.write("before", event.FindingCleared, "uplink", finding.New(finding.LinkDown, ""))
		b.write("before", event.DaemonStarted, "")
		c, i := look()
		if !slices.Equal(c, []string{"link.down new"}) || len(i) != 0 {
			t.Errorf("%q and %q, want link.down of this boot alone", c, i)
		}
	})
}

// A bound keeps the memory small, and what is already held stays current.
//
// Verifies: SR-020
func TestConditionsAreBounded(t *testing.T) {
	followed(t, func(b *book, look func() ([]string, []string)) {
		for n := range maxConditions + 50 {
			b.write("now", event.FindingRaised, fmt.Sprint(n), finding.New(finding.LinkDown, fmt.Sprint(n)))
			b.write("now", event.FindingIncident, fmt.Sprint(n), finding.New(finding.IMAUnknownFile, fmt.Sprint(n)))
		}
		c, i := look()
		if len(c) != maxConditions || len(i) != maxConditions {
			t.Errorf("%d conditions and %d incidents, want %d each", len(c), len(i), maxConditions)
		}
		b.write("now", event.FindingRaised, "7", finding.New(finding.LinkDown, "seven"))
		if c, _ := look(); !slices.Contains(c, "link.down seven") {
			t.Error("a condition that is held is not brought up to date when the board is full")
		}
		b.write("now", event.FindingCleared, "8", finding.New(finding.LinkDown, ""))
		b.write("now", event.FindingRaised, "late", finding.New(finding.LinkDown, "late"))
		if c, _ := look(); !slices.Contains(c, "link.down late") {
			t.Error("a cleared condition gives no room")
		}
	})
}

func TestUnreadableJournalEndsTheRole(t *testing.T) {
	b := newBook()
	b.fail = errors.New("the disk is gone")
	if err := health.NewConditions(b, "now").Run(t.Context(), func() {}); !errors.Is(err, b.fail) {
		t.Errorf("Run gives %v, want the journal's error", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := health.NewConditions(b, "now").Run(ended, func() {}); err != nil {
		t.Errorf("Run gives %v at the end of the daemon", err)
	}
}
