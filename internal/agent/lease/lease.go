// Package lease is the therapy lease (blueprint, section 9, rule 2): while a host
// application holds one, heavy work waits. It is taken, renewed and ended through the
// local socket, by any number of holders at once; each lasts until a deadline on the
// kernel's clock of the boot that the release bounds, so that a holder which dies does
// not hold it for ever. Taking one asks neither disk nor record: those are told by
// Run. What a lease holds off too long is a finding of who waits for it.
package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"ward/internal/device/statefile"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Bounds.
const (
	// maxHolders at once; a device has one or two therapies.
	maxHolders = 16
	// MaxName bounds a holder's name, in bytes.
	MaxName = 64
	// slack is how much later than granted a deadline is kept, so that renewals within
	// it need not be written: a lease lasts so much longer at most when the daemon is
	// started anew and its holder has died.
	slack = 5 * time.Minute
	// tick is how often deadlines are looked at; the boot's clock goes on in suspend,
	// timers do not.
	tick = time.Second
	// maxUntold bounds the events that wait for the record.
	maxUntold = 64
)

// Errors of Take and End.
var (
	ErrName  = fmt.Errorf("a holder's name has 1 to %d of a-z, 0-9, '.', '_' and '-'", MaxName)
	ErrTime  = errors.New("a lease lasts at least one second")
	ErrFull  = fmt.Errorf("%d holders have one already", maxHolders)
	ErrOther = errors.New("another user holds a lease of this name")
	ErrNone  = errors.New("nobody of this name holds a lease")
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config of the leases.
type Config struct {
	Boot     string               // the kernel's boot id
	Now      func() time.Duration // since the kernel started, suspend included
	Max      func() time.Duration // of one lease, until it must be renewed
	State    string               // file that keeps them for the daemon's next start in the same boot; empty: nothing is kept
	Recorder Recorder
	Alive    func() // called at every tick
	Log      *slog.Logger
}

// Lease is one that is held. The holder's name is chosen by a program and stays on the
// device.
type Lease struct {
	Holder string        `json:"holder"`
	UID    uint32        `json:"uid"`
	Since  time.Duration `json:"since"` // since the kernel started
	Until  time.Duration `json:"until"`
}

// state is what the file keeps.
type state struct {
	Boot   string        `json:"boot"`
	Begun  time.Duration `json:"begun"` // the holding without a gap; of nothing held: 0
	Leases []Lease       `json:"leases"`
}

// Leases are the leases of a device. They are safe for concurrent use.
type Leases struct {
	c    Config
	wake chan struct{}

	mu      sync.Mutex
	held    []Lease
	begun   time.Duration // since when somebody holds one
	on      bool          // that was told or is about to be
	changed chan struct{}
	untold  []event.Event
	kept    state // Run's own
}

// New makes the leases, with those that the file keeps of this boot.
func New(c Config) *Leases {
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	l := &Leases{c: c, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	l.load()
	return l
}

func (l *Leases) load() {
	if l.c.State == "" {
		return
	}
	b, err := statefile.Read(l.c.State)
	if err != nil {
		return // there are none
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		l.c.Log.Warn("read leases; there are none", "error", err)
		return
	}
	if s.Boot != l.c.Boot || len(s.Leases) > maxHolders {
		return
	}
	l.held, l.begun, l.on, l.kept = s.Leases, s.Begun, len(s.Leases) > 0, s
	l.kept.Leases = slices.Clone(s.Leases)
}

// Take takes a lease for a holder, or renews it, and gives the time for which it is
// granted: what was asked for, or what the release allows at most.
func (l *Leases) Take(uid uint32, by, holder string, d time.Duration) (time.Duration, error) {
	if holder == "" || len(holder) > MaxName || strings.Trim(holder, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
		return 0, ErrName
	}
	if d < time.Second {
		return 0, ErrTime
	}
	d = min(d, l.c.Max())
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.c.Now()
	l.expire(now)
	i := l.find(holder)
	switch {
	case i >= 0 && l.held[i].UID != uid && uid != 0:
		return 0, ErrOther
	case i >= 0:
		l.held[i].Until = now + d
	case len(l.held) == maxHolders:
		return 0, ErrFull
	default:
		l.held = append(l.held, Lease{Holder: holder, UID: uid, Since: now, Until: now + d})
	}
	l.settle(now, by)
	return d, nil
}

// End ends a holder's lease.
func (l *Leases) End(uid uint32, by, holder string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.c.Now()
	l.expire(now)
	i := l.find(holder)
	switch {
	case i < 0:
		return ErrNone
	case l.held[i].UID != uid && uid != 0:
		return ErrOther
	}
	l.held = slices.Delete(l.held, i, i+1)
	l.settle(now, by)
	return nil
}

// Held says whether anybody holds a lease now.
func (l *Leases) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire(l.c.Now())
	return len(l.held) > 0
}

// Changed is closed when Held next gives another answer.
func (l *Leases) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// List is what is held, oldest first, and what now is on the leases' clock.
func (l *Leases) List() (held []Lease, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.c.Now()
	l.expire(now)
	return slices.Clone(l.held), now
}

// find, expire and settle want the lock.
func (l *Leases) find(holder string) int {
	return slices.IndexFunc(l.held, func(h Lease) bool { return h.Holder == holder })
}

// byTime says that nobody ended a lease: its time was over.
const byTime = "time"

// expire takes away what is over.
func (l *Leases) expire(now time.Duration) {
	before := len(l.held)
	l.held = slices.DeleteFunc(l.held, func(h Lease) bool { return h.Until <= now })
	if len(l.held) != before {
		l.settle(now, byTime)
	}
}

// settle notes that somebody holds a lease, or nobody any more, and wakes who waits.
func (l *Leases) settle(now time.Duration, by string) {
	if on := len(l.held) > 0; on != l.on {
		l.on = on
		r := report{State: "end", By: by, Seconds: int64((now - l.begun).Seconds())}
		l.begun = 0
		if on {
			l.begun = now
			r = report{State: "begin", By: by}
		}
		if len(l.untold) == maxUntold {
			l.untold = l.untold[1:]
		}
		l.untold = append(l.untold, r.event())
		close(l.changed)
		l.changed = make(chan struct{})
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// report is that of a ward.therapy.lease event.
type report struct {
	State   string `json:"state"`             // begin, end
	By      string `json:"by"`                // event.ByRoot, event.ByService, byTime
	Seconds int64  `json:"seconds,omitempty"` // of an end: how long it was held without a gap
}

func (r report) event() event.Event {
	b, err := json.Marshal(r)
	if err != nil {
		panic("lease: encode report: " + err.Error())
	}
	return event.Event{Type: event.TherapyLease, Time: time.Now(), Subject: r.State, Severity: finding.Info, Report: b}
}

// Run ends what is over, records and keeps the leases, until ctx ends.
func (l *Leases) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		l.Held() // ends what is over
		l.tell(context.WithoutCancel(ctx))
		l.keep()
		l.c.Alive()
		select {
		case <-ctx.Done():
			l.tell(context.WithoutCancel(ctx))
			l.keep()
			return nil
		case <-l.wake:
		case <-t.C:
		}
	}
}

func (l *Leases) tell(ctx context.Context) {
	l.mu.Lock()
	events := l.untold
	l.untold = nil
	l.mu.Unlock()
	for _, e := range events {
		if err := l.c.Recorder.Record(ctx, e); err != nil {
			l.c.Log.Error("record event", "type", e.Type, "error", err)
		}
	}
}

// keep writes the leases where the file would not hold them at the next start: others
// than it has, or later than it says.
func (l *Leases) keep() {
	if l.c.State == "" {
		return
	}
	l.mu.Lock()
	s := state{Boot: l.c.Boot, Begun: l.begun, Leases: slices.Clone(l.held)}
	l.mu.Unlock()
	covers := func(kept, now Lease) bool {
		return kept.Holder == now.Holder && kept.UID == now.UID && kept.Until >= now.Until && kept.Until <= now.Until+slack
	}
	if slices.EqualFunc(l.kept.Leases, s.Leases, covers) && (l.kept.Boot == s.Boot || len(s.Leases) == 0) {
		return
	}
	for i := range s.Leases {
		s.Leases[i].Until += slack
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = statefile.Write(l.c.State, b)
	}
	if err != nil {
		l.c.Log.Warn("keep leases; they end with the daemon", "error", err)
	}
	l.kept = s // a disk that fails is not tried at every tick
}
