package servicemode

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/trust/event"
)

// record is the journal.
type record struct {
	mu     sync.Mutex
	events []string
	err    error
}

func (r *record) Record(_ context.Context, e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Type != event.ServiceMode {
		return errors.New("another type")
	}
	r.events = append(r.events, string(e.Report))
	return r.err
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.events, " ")
}

type world struct {
	record
	file  string
	start time.Time
}

func (w *world) run(t *testing.T, boot string) (m *Mode, stop func()) {
	m = New(Config{Boot: boot, State: w.file, Recorder: w, Now: func() time.Duration { return time.Since(w.start) }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = m.Run(ctx); close(done) }()
	return m, func() { cancel(); <-done }
}

// Service mode is on for a bounded time, ends by itself or by somebody, and both are
// recorded; its reason stays on the device.
//
// Verifies: SR-100
func TestItEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{file: filepath.Join(t.TempDir(), "s"), start: time.Now()}
		m, stop := w.run(t, "b")
		defer stop()
		changed := m.Changed()
		s, err := m.Switch(t.Context(), event.ByService, "occlusion alarm at the bed of\nAnna Petersen", time.Hour)
		if err != nil || !s.On || s.Left != time.Hour || s.By != event.ByService || s.Reason != "occlusion alarm at the bed of Anna Petersen" {
			t.Errorf("switched on: %+v, %v", s, err)
		}
		<-changed
		changed = m.Changed()
		time.Sleep(time.Hour - time.Second)
		if !m.On() {
			t.Error("ended too early")
		}
		time.Sleep(2 * time.Second)
		<-changed
		if m.On() || m.Status() != (Status{}) {
			t.Error("it does not end")
		}
		if _, err := m.Switch(t.Context(), event.ByRoot, "", 8*time.Hour); err != nil {
			t.Error(err)
		}
		time.Sleep(90 * time.Second)
		if s := m.End(t.Context(), event.ByService); s.On {
			t.Error("it cannot be switched off")
		}
		m.End(t.Context(), event.ByService) // and again is nothing
		for _, d := range []time.Duration{-time.Hour, 0, time.Second, Longest + 1} {
			if _, err := m.Switch(t.Context(), event.ByRoot, "", d); !errors.Is(err, ErrTime) || m.On() {
				t.Errorf("for %s: %v", d, err)
			}
		}
		want := `{"on":true,"by":"service","minutes":60} {"on":false,"by":"time","minutes":60} {"on":true,"by":"root","minutes":480} {"on":false,"by":"service","minutes":2}`
		if got := w.String(); got != want {
			t.Errorf("recorded %s, want %s", got, want)
		}
	})
}

// It survives the daemon's restart and not the device's; one that was over while no
// daemon ran ends with the next one.
//
// Verifies: SR-100
func TestItSurvivesTheDaemonAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{file: filepath.Join(t.TempDir(), "s"), start: time.Now()}
		m, stop := w.run(t, "b")
		if _, err := m.Switch(t.Context(), event.ByRoot, "pump", time.Hour); err != nil {
			t.Fatal(err)
		}
		stop()
		time.Sleep(time.Minute)
		m, stop = w.run(t, "b")
		if s := m.Status(); !s.On || s.Left != 59*time.Minute || s.Reason != "pump" || len(w.events) != 1 {
			t.Errorf("behind the daemon's restart %+v, recorded %s", s, w.String())
		}
		stop()
		other, stop := w.run(t, "c")
		if other.On() {
			t.Error("it is on in another boot")
		}
		stop()
		time.Sleep(time.Hour)
		m, stop = w.run(t, "b")
		synctest.Wait()
		if m.On() || !strings.HasSuffix(w.String(), `{"on":false,"by":"time","minutes":60}`) {
			t.Errorf("behind its end: %v, recorded %s", m.On(), w.String())
		}
		stop()
	})
}

// Neither disk nor record keep a technician from working, and no file gives more time.
//
// Verifies: SR-100
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{file: filepath.Join(t.TempDir(), "none", "s"), start: time.Now(), record: record{err: errors.New("disk full")}}
		m, stop := w.run(t, "b")
		defer stop()
		if s, err := m.Switch(t.Context(), event.ByRoot, strings.Repeat("ä", 5000), time.Hour); err != nil || !s.On || len(s.Reason) > maxReason {
			t.Errorf("switched on: %+v, %v", s, err)
		}
	})
	for _, content := range []string{"", "{", `{"boot":"b","on":true,"until":9000000000000000000}`, `{"boot":"c","on":true,"until":3600000000000}`} {
		file := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if New(Config{Boot: "b", State: file, Now: func() time.Duration { return 0 }}).On() {
			t.Errorf("%s switches it on", content)
		}
	}
}
