// Package servicemode is the time in which a technician works on a device (IEC
// 62443-4-2 CR 2.1: limited to a purpose and a time): what the release allows in
// service mode alone may be plugged in, and that it is on is recorded and seen. It is
// switched on for a bounded time, ends by itself on the kernel's clock of the boot,
// and survives the daemon's restart, not the device's. It gives nobody a right.
package servicemode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"ward/internal/device/statefile"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// Longest is how long service mode lasts at most: a shift. It can be switched on
	// again, and that is recorded again.
	Longest = 8 * time.Hour
	// maxReason bounds the reason, in bytes.
	maxReason = 256
	// tick is how often its end is looked for: the boot's clock goes on in suspend,
	// timers do not.
	tick = time.Second
)

// ErrTime: the time is not one for which it can be switched on.
var ErrTime = fmt.Errorf("service mode lasts 1 to %d minutes", int(Longest.Minutes()))

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config of the mode.
type Config struct {
	Boot     string               // the kernel's boot id
	Now      func() time.Duration // since the kernel started, suspend included
	State    string               // file that keeps it within the boot; empty: it ends with the daemon
	Recorder Recorder
	Alive    func() // called at every tick
	Log      *slog.Logger
}

// Status is the mode at this moment.
type Status struct {
	On     bool
	By     string        // the role that switched it on
	Reason string        // what it is for; it stays on the device
	Since  time.Time     // wall clock, for people
	Left   time.Duration // until it ends
}

// state is what the file keeps.
type state struct {
	Boot   string        `json:"boot"`
	On     bool          `json:"on"`
	By     string        `json:"by,omitempty"`
	Reason string        `json:"reason,omitempty"`
	Since  time.Time     `json:"since,omitzero"`
	Begun  time.Duration `json:"begun,omitempty"` // since the kernel started
	Until  time.Duration `json:"until,omitempty"`
}

// Mode is the service mode of a device. It is safe for concurrent use.
type Mode struct {
	c    Config
	wake chan struct{}

	turn sync.Mutex // one who switches at a time; what is recorded is in order
	mu   sync.Mutex
	s    state
	// changed is closed when it is switched.
	changed chan struct{}
}

// New makes the mode, on where the file says so of this boot.
func New(c Config) *Mode {
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &Mode{c: c, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	if c.State == "" {
		return m
	}
	if b, err := statefile.Read(c.State); err == nil {
		var s state
		switch err := json.Unmarshal(b, &s); {
		case err != nil:
			c.Log.Warn("read service mode; it is off", "error", err)
		case s.Boot == c.Boot && s.On && s.Until-s.Begun <= Longest:
			m.s = s
		}
	}
	return m
}

// Switch on for a time, by a role, or on again from now on. The reason is bounded and
// stays on the device: whoever writes it may name a patient.
func (m *Mode) Switch(ctx context.Context, by, reason string, d time.Duration) (Status, error) {
	if d < time.Minute || d > Longest {
		return m.Status(), ErrTime
	}
	m.turn.Lock()
	defer m.turn.Unlock()
	now := m.c.Now()
	s := state{Boot: m.c.Boot, On: true, By: by, Reason: line(reason), Since: time.Now().UTC().Truncate(time.Second), Begun: now, Until: now + d}
	m.set(ctx, s, report{On: true, By: by, Minutes: minutes(d)})
	return m.Status(), nil
}

// End switches off, by a role; it is no error when it is off.
func (m *Mode) End(ctx context.Context, by string) Status {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.end(ctx, by)
	return m.Status()
}

// end wants the turn.
func (m *Mode) end(ctx context.Context, by string) {
	m.mu.Lock()
	s := m.s
	m.mu.Unlock()
	if s.On {
		m.set(ctx, state{Boot: m.c.Boot}, report{By: by, Minutes: minutes(min(m.c.Now(), s.Until) - s.Begun)})
	}
}

// minutes are whole ones, begun ones counted.
func minutes(d time.Duration) int { return int((d + time.Minute - 1) / time.Minute) }

// set takes a state into force, and then keeps and records it. A disk or a record that
// fails keeps nobody from working.
func (m *Mode) set(ctx context.Context, s state, r report) {
	m.mu.Lock()
	m.s = s
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	if err := m.keep(s); err != nil {
		m.c.Log.Warn("keep service mode; it ends with the daemon", "error", err)
	}
	if err := m.c.Recorder.Record(context.WithoutCancel(ctx), r.event()); err != nil {
		m.c.Log.Error("record event", "type", event.ServiceMode, "error", err)
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Mode) keep(s state) error {
	if m.c.State == "" {
		return errors.New("there is no file for it")
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return statefile.Write(m.c.State, b)
}

// report is that of a ward.access.service-mode event.
type report struct {
	On      bool   `json:"on"`
	By      string `json:"by"`      // event.ByRoot, event.ByService, byTime
	Minutes int    `json:"minutes"` // switched on: for how long; off: how long it was on
}

// byTime: nobody switched it off, its time was over.
const byTime = "time"

func (r report) event() event.Event {
	b, err := json.Marshal(r)
	if err != nil {
		panic("servicemode: encode report: " + err.Error())
	}
	return event.Event{Type: event.ServiceMode, Time: time.Now(), Severity: finding.Low, Report: b}
}

// On says whether it is on now.
func (m *Mode) On() bool { return m.Status().On }

// Changed is closed when it is next switched.
func (m *Mode) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Status says how it is.
func (m *Mode) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := m.s.Until - m.c.Now()
	if !m.s.On || left <= 0 {
		return Status{}
	}
	return Status{On: true, By: m.s.By, Reason: m.s.Reason, Since: m.s.Since, Left: left}
}

// Run ends the mode when its time is over, until ctx ends.
func (m *Mode) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		m.turn.Lock()
		m.mu.Lock()
		over := m.s.On && m.s.Until <= m.c.Now()
		m.mu.Unlock()
		if over {
			m.end(ctx, byTime)
		}
		m.turn.Unlock()
		m.c.Alive()
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-t.C:
		}
	}
}

// line is a text as one line of bounded length.
func line(s string) string {
	s = event.Visible(strings.Join(strings.Fields(s[:min(len(s), 4*maxReason)]), " "))
	return strings.ToValidUTF8(s[:min(len(s), maxReason)], "")
}
