package lease

import (
	"context"
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
)

// record is the journal.
type record struct {
	mu     sync.Mutex
	events []string
	block  chan struct{} // Record waits for it; nil: it does not
}

func (r *record) Record(_ context.Context, e event.Event) error {
	if r.block != nil {
		<-r.block
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, string(e.Report))
	return nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.events, " ")
}

// world is a device whose kernel started with the test.
type world struct {
	record
	file  string
	start time.Time
	max   time.Duration
}

func newWorld(t *testing.T) *world {
	return &world{file: filepath.Join(t.TempDir(), "lease.json"), start: time.Now(), max: time.Hour}
}

// run starts a daemon's leases; stop ends them.
func (w *world) run(t *testing.T, boot string) (l *Leases, stop func()) {
	l = New(Config{
		Boot: boot, State: w.file, Recorder: w, Now: func() time.Duration { return time.Since(w.start) },
		Max: func() time.Duration { return w.max },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = l.Run(ctx); close(done) }()
	return l, func() { cancel(); <-done }
}

func take(t *testing.T, l *Leases, holder string, ask, want time.Duration) {
	t.Helper()
	if got, err := l.Take(7, event.ByService, holder, ask); err != nil || got != want {
		t.Errorf("%s asks for %s: granted %s, error %v, want %s", holder, ask, got, err, want)
	}
}

// A lease is held until its time is over, at most as long as the release allows; with
// several holders until the last one's is. Begin and end are events, renewals are not.
//
// Verifies: SR-103
func TestLeasesBeginAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, stop := w.run(t, "b")
		defer stop()
		if l.Held() {
			t.Error("held by nobody")
		}
		changed := l.Changed()
		take(t, l, "pump-ui", 10*time.Minute, 10*time.Minute)
		select {
		case <-changed:
		default:
			t.Error("who waits for the change is not woken")
		}
		changed = l.Changed()
		take(t, l, "pump-ui", 100*time.Hour, time.Hour) // renewed, as long as the release allows
		take(t, l, "dialysis", time.Minute, time.Minute)
		time.Sleep(30 * time.Minute)
		if held, _ := l.List(); len(held) != 1 || !l.Held() {
			t.Errorf("held by %v", held)
		}
		take(t, l, "pump-ui", time.Minute, time.Minute)
		select {
		case <-changed:
			t.Error("a renewal is a change")
		default:
		}
		time.Sleep(59 * time.Second)
		if !l.Held() {
			t.Error("ended too early")
		}
		time.Sleep(2 * time.Second)
		select {
		case <-changed:
		default:
			t.Error("who waits for the end is not woken")
		}
		if l.Held() {
			t.Error("held by a holder that does not renew")
		}
		take(t, l, "pump-ui", time.Minute, time.Minute)
		if err := l.End(7, event.ByRoot, "pump-ui"); err != nil || l.Held() {
			t.Errorf("ended: %v, held %v", err, l.Held())
		}
		time.Sleep(time.Second)
		want := `{"state":"begin","by":"service"} {"state":"end","by":"time","seconds":1860} {"state":"begin","by":"service"} {"state":"end","by":"root"}`
		if got := w.String(); got != want {
			t.Errorf("recorded %s, want %s", got, want)
		}
	})
}

// Verifies: SR-103
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, stop := w.run(t, "b")
		defer stop()
		take(t, l, "mine", time.Hour, time.Hour)
		for name, row := range map[string]struct {
			uid    uint32
			holder string
			d      time.Duration
			want   error
		}{
			"no name":            {7, "", time.Hour, ErrName},
			"a name for people":  {7, "Anna Petersen", time.Hour, ErrName},
			"a name too long":    {7, strings.Repeat("x", MaxName+1), time.Hour, ErrName},
			"no time":            {7, "x", 0, ErrTime},
			"time before now":    {7, "x", -time.Hour, ErrTime},
			"another user's":     {8, "mine", time.Hour, ErrOther},
			"root may renew any": {0, "mine", time.Hour, nil},
		} {
			if _, err := l.Take(row.uid, event.ByService, row.holder, row.d); !errors.Is(err, row.want) {
				t.Errorf("%s: %v, want %v", name, err, row.want)
			}
		}
		if err := l.End(8, event.ByService, "mine"); !errors.Is(err, ErrOther) {
			t.Errorf("another user ends it: %v", err)
		}
		if err := l.End(7, event.ByService, "theirs"); !errors.Is(err, ErrNone) {
			t.Errorf("what nobody holds ends: %v", err)
		}
		for i := range maxHolders - 1 {
			take(t, l, fmt.Sprint("h", i), time.Hour, time.Hour)
		}
		if _, err := l.Take(7, event.ByService, "more", time.Hour); !errors.Is(err, ErrFull) {
			t.Errorf("one more: %v", err)
		}
		take(t, l, "mine", time.Hour, time.Hour) // who holds one may renew it
	})
}

// The daemon's next start in the same boot goes on with the leases, also after a kill;
// another boot begins without.
//
// Verifies: SR-103
func TestLeasesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, stop := w.run(t, "b")
		take(t, l, "pump-ui", 10*time.Minute, 10*time.Minute)
		synctest.Wait()
		file, err := os.ReadFile(w.file)
		if err != nil {
			t.Fatal(err)
		}
		take(t, l, "pump-ui", 11*time.Minute, 11*time.Minute)
		synctest.Wait()
		if again, err := os.ReadFile(w.file); err != nil || string(again) != string(file) {
			t.Errorf("a renewal within the slack wrote %s, error %v", again, err)
		}
		killed, _ := w.run(t, "b") // the other one still runs, as a killed one's file
		if !killed.Held() {
			t.Error("a daemon that was killed forgot the lease")
		}
		stop()
		if other, stop := w.run(t, "c"); other.Held() {
			t.Error("a lease of another boot holds")
		} else {
			stop()
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, stop := w.run(t, "b")
		take(t, l, "pump-ui", 10*time.Minute, 10*time.Minute)
		stop()
		time.Sleep(time.Minute)
		l, stop = w.run(t, "b")
		defer stop()
		time.Sleep(time.Minute)
		if !l.Held() || w.String() != `{"state":"begin","by":"service"}` {
			t.Errorf("behind the start: held %v, recorded %s", l.Held(), w.String())
		}
		time.Sleep(8*time.Minute + slack)
		synctest.Wait() // the end falls on this instant
		if l.Held() || w.String() != `{"state":"begin","by":"service"} {"state":"end","by":"time","seconds":900}` {
			t.Errorf("at the end: held %v, recorded %s", l.Held(), w.String())
		}
	})
}

// A file that is damaged or from somebody else's hands holds nothing.
func TestDamagedFiles(t *testing.T) {
	for _, content := range []string{"", "{", `{"boot":"other","leases":[{"holder":"x","until":9000000000000000000}]}`, `{"boot":"b","leases":[` + strings.TrimSuffix(strings.Repeat(`{"holder":"x","until":9000000000000000000},`, maxHolders+1), ",") + `]}`} {
		file := filepath.Join(t.TempDir(), "lease.json")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if l := New(Config{Boot: "b", State: file, Now: func() time.Duration { return 0 }}); l.Held() {
			t.Errorf("%.80s is held", content)
		}
	}
}

// A record or a disk that does not answer holds up no therapy.
//
// Verifies: SR-103
func TestAStuckRecordHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.block = make(chan struct{})
		w.file = filepath.Join(t.TempDir(), "none", "lease.json")
		l, stop := w.run(t, "b")
		take(t, l, "pump-ui", time.Minute, time.Minute)
		synctest.Wait() // the role has this one in its hands
		for range 3 * maxUntold {
			take(t, l, "pump-ui", time.Minute, time.Minute)
			if err := l.End(7, event.ByService, "pump-ui"); err != nil {
				t.Fatal(err)
			}
		}
		take(t, l, "pump-ui", time.Minute, time.Minute)
		if !l.Held() {
			t.Error("not held")
		}
		close(w.block)
		stop()
		if n := len(w.events); n > maxUntold+1 || !strings.HasSuffix(w.String(), `{"state":"begin","by":"service"}`) {
			t.Errorf("%d events, the last %s", n, w.events[n-1])
		}
	})
}
