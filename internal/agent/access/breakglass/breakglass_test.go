package breakglass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// record is the journal.
type record struct {
	mu     sync.Mutex
	events []event.Event
	err    error
	block  chan struct{} // Record waits for it; nil: it does not
}

func (r *record) Record(_ context.Context, e event.Event) error {
	if r.block != nil {
		<-r.block
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.events = append(r.events, e)
	}
	return r.err
}

func (r *record) reports() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		out = append(out, string(e.Report))
	}
	return strings.Join(out, "\n")
}

// An access is recorded at once, gravely, with role and why; the person's name stays on
// the device, linked by the id.
//
// Verifies: SR-102
func TestThePersonsNameStaysOnTheDevice(t *testing.T) {
	r := &record{}
	d := New(Config{Recorder: r, Notes: filepath.Join(t.TempDir(), "notes")})
	if ns, err := d.Notes(); err != nil || ns != nil {
		t.Errorf("before: %v, %v", ns, err)
	}
	a := d.Report(t.Context(), event.ByService, []byte(`{"role":"nurse Petersen","why":"asystole, pump locked; anna petersen's badge is lost","person":"Anna Petersen"}`))
	if !a.Recorded || a.Detail != "" || len(a.ID) != 12 {
		t.Errorf("answer %+v", a)
	}
	want := `{"id":"` + a.ID + `","role":"nurse (person)","why":"asystole, pump locked; (person) (person)'s badge is lost","by":"service"}`
	if got := r.reports(); got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
	if e := r.events[0]; e.Type != event.BreakGlass || e.Severity != finding.Critical || e.Time.IsZero() {
		t.Errorf("recorded %+v", e)
	}
	ns, err := d.Notes()
	if err != nil || len(ns) != 1 || ns[0].ID != a.ID || ns[0].Person != "Anna Petersen" || ns[0].Role != "nurse Petersen" || ns[0].By != event.ByService {
		t.Errorf("noted %+v, %v", ns, err)
	}
	if info, err := os.Stat(d.c.Notes); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the names: %v, %v", info, err)
	}
}

// Nothing that a request says, or leaves out, keeps the access from being recorded.
//
// Verifies: SR-102
func TestNothingIsRefused(t *testing.T) {
	for name, row := range map[string]struct{ request, role, why string }{
		"nothing":           {"", "", ""},
		"no JSON":           {"help", "", ""},
		"another form":      {`["nurse"]`, "", ""},
		"a number":          {`{"role":5,"why":"asystole"}`, "", "asystole"},
		"cut":               {`{"role":"nurse","why":"asys`, "", ""},
		"an empty object":   {`{}`, "", ""},
		"unknown keys":      {`{"role":"nurse","patient":"Bob"}`, "nurse", ""},
		"more than a line":  {`{"role":"nurse\n\u001b[31m","why":"a\tb\u202ec"}`, `nurse \x1b[31m`, `a b\u202ec`},
		"endless":           {`{"role":"` + strings.Repeat("r", 60000) + `","why":"` + strings.Repeat("ä", 30000) + `"}`, strings.Repeat("r", maxRole), strings.Repeat("ä", maxWhy/2)},
		"no UTF-8":          {"{\"role\":\"n\xff\"}", "n\ufffd", ""},
		"a person of words": {`{"role":"on call","why":"on call","person":"on"}`, "on call", "on call"},
	} {
		r := &record{}
		a := New(Config{Recorder: r}).Report(t.Context(), event.ByRoot, []byte(row.request))
		if !a.Recorded || len(r.events) != 1 {
			t.Errorf("%s: answer %+v, recorded %s", name, a, r.reports())
			continue
		}
		var got struct{ ID, Role, Why, By string }
		if err := json.Unmarshal(r.events[0].Report, &got); err != nil || got.Role != row.role || got.Why != row.why || got.By != event.ByRoot || got.ID != a.ID {
			t.Errorf("%s: recorded %+v, error %v", name, got, err)
		}
		if whole := json.Valid([]byte(row.request)) && strings.HasPrefix(row.request, "{") && !strings.Contains(row.request, ":5"); whole != (a.Detail == "") {
			t.Errorf("%s: the answer says %q", name, a.Detail)
		}
	}
}

// A record that fails, or a disk that does not answer, is said and waited for no longer
// than a moment.
//
// Verifies: SR-102
func TestAFailingRecordIsSaid(t *testing.T) {
	a := New(Config{Recorder: &record{err: errors.New("no space left")}}).Report(t.Context(), event.ByRoot, []byte(`{}`))
	if a.Recorded || a.Detail != "it is not recorded: no space left" || a.ID == "" {
		t.Errorf("answer %+v", a)
	}
	kept := Config{Recorder: &record{}, Kept: func() error { return errors.New("no space left") }, Notes: "/proc/none/notes"}
	if a := New(kept).Report(t.Context(), event.ByRoot, []byte(`{}`)); !a.Recorded || a.Detail != "it is in memory only: no space left" {
		t.Errorf("answer %+v", a)
	}
	synctest.Test(t, func(t *testing.T) {
		r := &record{block: make(chan struct{})}
		d := New(Config{Recorder: r})
		begun := time.Now()
		var wg sync.WaitGroup
		for range maxWaiting {
			wg.Go(func() {
				if a := d.Report(t.Context(), event.ByRoot, nil); a.Recorded || !strings.Contains(a.Detail, "does not answer; it is tried on") {
					t.Errorf("answer %+v", a)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); took > patience {
			t.Errorf("waited for %s", took)
		}
		time.Sleep(time.Hour)
		if a := d.Report(t.Context(), event.ByRoot, nil); a.Recorded || !strings.HasSuffix(a.Detail, "the record does not answer") {
			t.Errorf("answer %+v", a)
		}
		close(r.block)
		synctest.Wait()
		if len(r.events) != maxWaiting {
			t.Errorf("%d are recorded when the disk answers again", len(r.events))
		}
	})
}

// An application in a loop is counted, and the record is not filled with it.
//
// Verifies: SR-102
func TestAFloodIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &record{}
		d := New(Config{Recorder: r, Notes: filepath.Join(t.TempDir(), "notes")})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = d.Run(ctx); close(done) }()
		for i := range 1000 {
			if a := d.Report(ctx, event.ByService, fmt.Appendf(nil, `{"role":"loop","person":"p%d"}`, i)); !a.Recorded {
				t.Fatalf("answer %+v", a)
			}
		}
		time.Sleep(time.Minute)
		if len(r.events) != burst+1 {
			t.Errorf("%d events", len(r.events))
		}
		if last := r.events[burst]; last.Repeated == nil || last.Repeated.Count != 1000-burst {
			t.Errorf("the last is %+v", last)
		}
		if ns, err := d.Notes(); err != nil || len(ns) != maxNotes {
			t.Errorf("%d notes, %v", len(ns), err)
		}
		d.Report(ctx, event.ByService, []byte(`{"role":"doctor"}`))
		if ns, err := d.Notes(); err != nil || len(ns) != maxNotes || ns[maxNotes-1].Role != "doctor" || len(r.events) != burst+2 {
			t.Errorf("behind it: %d notes, %v, %d events", len(ns), err, len(r.events))
		}
		cancel()
		<-done
	})
}
