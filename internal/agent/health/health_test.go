package health_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/health"
	"ward/internal/contracttest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

type recorder struct {
	mu   sync.Mutex
	kept []event.Event
	fail error
}

func (r *recorder) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, e)
	return r.fail
}

func (r *recorder) events() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.kept)
}

func (r *recorder) said() []string {
	var out []string
	for _, e := range r.events() {
		out = append(out, e.Type+" "+string(e.Finding.Code)+" "+e.Subject)
	}
	return out
}

type dog struct {
	fed  atomic.Int64
	fail error
}

func (d *dog) Alive() error { d.fed.Add(1); return d.fail }

// watched runs a board in a bubble of time, and f beside it.
func watched(t *testing.T, f func(h *health.Health, r *recorder, d *dog)) {
	t.Helper()
	watchedBy(t, &recorder{}, &dog{}, f)
}

func watchedBy(t *testing.T, r *recorder, d *dog, f func(h *health.Health, r *recorder, d *dog)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := health.New(r, d, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		f(h, r, d)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Verifies: SR-017
func TestStalledRoleIsToldAndStarvesTheWatchdog(t *testing.T) {
	watched(t, func(h *health.Health, r *recorder, d *dog) {
		role := h.Role("attester", 10*time.Second)
		h.Role("conditions", 0) // promises nothing
		role.Alive()
		pass(9 * time.Second)
		if len(r.events()) != 0 || d.fed.Load() != 5 {
			t.Fatalf("within the bound: %v, watchdog fed %d times, want 5", r.said(), d.fed.Load())
		}
		pass(4 * time.Second)
		want := []string{event.FindingRaised + " daemon.role-stalled attester"}
		if !slices.Equal(r.said(), want) {
			t.Fatalf("behind the bound: %v, want %v", r.said(), want)
		}
		if f := r.events()[0].Finding; f.Detail != "role attester: no progress within 10s" || r.events()[0].Severity != finding.High {
			t.Errorf("finding %+v", f)
		}
		fed := d.fed.Load()
		pass(time.Minute)
		if d.fed.Load() != fed {
			t.Error("the watchdog is fed while a role is stalled")
		}
		if len(r.events()) != 1 {
			t.Errorf("one stall is told %d times", len(r.events()))
		}
		if s := state(h, "attester"); s.State != "stalled" {
			t.Errorf("the role is %q, want stalled", s.State)
		}

		role.Alive()
		pass(2 * time.Second)
		want = append(want, event.FindingCleared+" daemon.role-stalled attester")
		if !slices.Equal(r.said(), want) {
			t.Errorf("moving again: %v, want %v", r.said(), want)
		}
		if d.fed.Load() == fed {
			t.Error("the watchdog is not fed though every role moves")
		}
		if s := state(h, "attester"); s.State != "running" {
			t.Errorf("the role is %q, want running", s.State)
		}
	})
}

// A role that stopped makes no progress, whatever it calls itself.
//
// Verifies: SR-017
func TestStoppedRole(t *testing.T) {
	watched(t, func(h *health.Health, r *recorder, d *dog) {
		role := h.Role("uplink", 10*time.Second)
		role.Alive()
		role.Stopped("panic: a defect")
		if s := state(h, "uplink"); s.State != "stopped" || s.Detail != "panic: a defect" {
			t.Errorf("the role is %+v", s)
		}
		pass(13 * time.Second)
		if len(r.events()) != 1 || r.events()[0].Type != event.FindingRaised {
			t.Errorf("said %v", r.said())
		}
		role.Alive()
		if s := state(h, "uplink"); s.State != "running" || s.Detail != "" {
			t.Errorf("begun anew, the role is %+v", s)
		}
	})
}

func TestRoleIsMadeOnce(t *testing.T) {
	watched(t, func(h *health.Health, r *recorder, _ *dog) {
		first := h.Role("journal", 0) // by a role that is alive before it is registered
		if h.Role("journal", 10*time.Second) != first || h.Role("journal", 0) != first {
			t.Error("one name gives two roles")
		}
		if s := state(h, "journal"); s.State != "starting" || s.Bound != 10*time.Second {
			t.Errorf("the role is %+v", s)
		}
		pass(time.Minute)
		if len(r.events()) != 1 {
			t.Errorf("a role that never began is not told: %v", r.said())
		}
	})
}

// A record or a service manager that fails does not stop the watch.
func TestFailuresAround(t *testing.T) {
	watchedBy(t, &recorder{fail: errors.New("the disk is gone")}, &dog{fail: errors.New("no socket")}, func(h *health.Health, r *recorder, d *dog) {
		role := h.Role("attester", time.Second)
		pass(5 * time.Second)
		role.Alive()
		pass(time.Second)
		if len(r.events()) < 2 || d.fed.Load() == 0 {
			t.Errorf("said %v, watchdog fed %d times", r.said(), d.fed.Load())
		}
	})
}

func TestNoWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New(&recorder{}, nil, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

func state(h *health.Health, name string) health.State {
	for _, s := range h.Roles() {
		if s.Name == name {
			return s
		}
	}
	return health.State{}
}
