// Package health watches wardd itself: whether every role makes progress, and
// which conditions hold on this device at this moment. It feeds the service
// manager's watchdog only while every role is alive, so that a daemon that
// hangs in one place is seen as one that hangs (IEC 62443-4-2 CR 7.2).
package health

import (
	"context"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Watchdog is told that the daemon is alive.
type Watchdog interface{ Alive() error }

// checkEvery is how often the roles are looked at.
const checkEvery = 2 * time.Second

// Health holds the progress of every role.
type Health struct {
	rec Recorder
	dog Watchdog
	log *slog.Logger

	mu    sync.Mutex
	roles map[string]*Role
}

// Role is one role's progress. A role calls Alive more often than its bound.
type Role struct {
	name  string
	bound time.Duration

	mu      sync.Mutex
	last    time.Time
	state   string
	detail  string
	stalled bool
}

// State is a role's progress as others see it.
type State struct {
	Name     string        `json:"name"`
	State    string        `json:"state"` // starting, running, waiting, stopped, stalled
	Progress time.Time     `json:"progress"`
	Bound    time.Duration `json:"-"`
	Detail   string        `json:"detail,omitempty"`
}

// New makes an empty board; dog may be nil.
func New(rec Recorder, dog Watchdog, log *slog.Logger) *Health {
	return &Health{rec: rec, dog: dog, log: log, roles: make(map[string]*Role)}
}

// Role registers a role that promises progress within bound, or returns the one
// of that name. A bound of zero promises nothing.
func (h *Health) Role(name string, bound time.Duration) *Role {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.roles[name]
	if !ok {
		r = &Role{name: name, bound: bound, last: time.Now(), state: "starting"}
		h.roles[name] = r
	}
	if bound > 0 {
		r.mu.Lock()
		r.bound = bound
		r.mu.Unlock()
	}
	return r
}

// Alive says that the role made progress.
func (r *Role) Alive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.state, r.detail = time.Now(), "running", ""
}

// Stopped says that the role ended and why; it counts as no progress.
func (r *Role) Stopped(detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.detail = "stopped", detail
}

func (r *Role) read(now time.Time) (s State, stalled, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stalled = r.bound > 0 && now.Sub(r.last) > r.bound
	changed = stalled != r.stalled
	r.stalled = stalled
	s = State{Name: r.name, State: r.state, Progress: r.last, Bound: r.bound, Detail: r.detail}
	if stalled && r.state == "running" {
		s.State = "stalled"
	}
	return s, stalled, changed
}

// Roles lists every role by name.
func (h *Health) Roles() []State {
	now := time.Now()
	var out []State
	for _, r := range h.sorted() {
		r.mu.Lock()
		s := State{Name: r.name, State: r.state, Progress: r.last, Bound: r.bound, Detail: r.detail}
		if r.state == "running" && r.bound > 0 && now.Sub(r.last) > r.bound {
			s.State = "stalled"
		}
		r.mu.Unlock()
		out = append(out, s)
	}
	return out
}

func (h *Health) sorted() []*Role {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*Role, 0, len(h.roles))
	for _, r := range h.roles {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

// Run looks at every role until ctx ends: a role that stalls raises a
// condition, one that moves again clears it, and the watchdog is fed only
// while none is stalled.
func (h *Health) Run(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		h.Role("health", 0).Alive()
		h.check(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (h *Health) check(ctx context.Context) {
	now, all := time.Now(), true
	for _, r := range h.sorted() {
		s, stalled, changed := r.read(now)
		all = all && !stalled
		if !changed {
			continue
		}
		f := finding.New(finding.DaemonStalled, fmt.Sprintf("role %s: no progress within %s", s.Name, s.Bound))
		e := event.Event{Type: event.FindingRaised, Subject: s.Name, Severity: f.Severity, Finding: &f}
		if !stalled {
			f.Detail = fmt.Sprintf("role %s makes progress again", s.Name)
			e.Type = event.FindingCleared
		}
		if err := h.rec.Record(ctx, e); err != nil {
			h.log.Error("record role state", "role", s.Name, "error", err)
		}
	}
	if all && h.dog != nil {
		if err := h.dog.Alive(); err != nil {
			h.log.Warn("feed watchdog", "error", err)
		}
	}
}
