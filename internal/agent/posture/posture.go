// Package posture watches what the device says of its own state beside its files
// (IEC 62443-4-2 CR 3.4, CR 7.7): it collects claims when the boot was judged,
// after each stretch of time that the release names, and when something hints at
// a change; compares them with what the release expects; and reports. It changes
// nothing.
package posture

import (
	"context"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	device "ward/internal/device/posture"
	"ward/internal/trust/event"
	"ward/internal/trust/posture"
)

const (
	// patience is how long one collector may take. One that takes longer is left to
	// itself, told as unreadable, and not asked again before it has come back.
	patience = 5 * time.Second
	// gap is the least time between two looks. The first hint is followed at once,
	// those within the gap by one look at its end.
	gap = 2 * time.Second
	// quick is what a collector may have taken to be asked on a hint. A slower one
	// waits for the next whole look.
	quick = 20 * time.Millisecond
	// markEvery is how often modules and mounts are asked whether they changed.
	markEvery = 5 * time.Second
)

// Reasons of looks of the role's own.
const (
	atStart   = "start"
	scheduled = "scheduled"
	noticed   = "noticed" // modules, mounts or the taint changed, and nobody hinted at it
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config of the role.
type Config struct {
	Root       fs.FS // the device's "/"
	Collectors []device.Collector
	// Start returns when the boot was judged, so that the policy is that of the
	// release; nil: at once.
	Start func(ctx context.Context) error
	// Policy is what the verified release expects, nil without one.
	Policy func() *posture.Policy
	// Hide makes of a path what may leave the device.
	Hide     func(path string) string
	Recorder Recorder
	Alive    func() // called after every collector, and while nothing is to do
	Log      *slog.Logger
}

// Watch is the role.
type Watch struct {
	c       Config
	hints   chan string
	sources []*source
	report  reporter

	mu     sync.Mutex
	claims []posture.Claim // of the latest look, by the collectors' order; nil before the first
	looked time.Time       // when it ended
}

// New makes the role; Run does its work.
func New(c Config) *Watch {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Policy == nil {
		c.Policy = func() *posture.Policy { return nil }
	}
	w := &Watch{c: c, hints: make(chan string, 1), report: reporter{recorder: c.Recorder, hide: c.Hide, log: c.Log}}
	for _, collector := range c.Collectors {
		w.sources = append(w.sources, &source{Collector: collector})
	}
	return w
}

// Look asks for a look soon, because of something: "module", "mount", "uevent". It
// returns at once and may be called often, from everywhere.
func (w *Watch) Look(reason string) {
	select {
	case w.hints <- reason:
	default: // one is asked for already
	}
}

// Claims are those of the latest look as they may leave the device; none before
// the first.
func (w *Watch) Claims() []posture.Claim {
	w.mu.Lock()
	defer w.mu.Unlock()
	return posture.Conceal(w.c.Policy(), w.claims, w.c.Hide)
}

// Looked is when the latest look ended, by the wall clock; zero before the first.
func (w *Watch) Looked() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looked
}

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	if w.c.Start != nil {
		if err := w.c.Start(ctx); err != nil {
			return nil // ctx ended
		}
	}
	go w.mark(ctx)
	whole := time.NewTimer(w.c.Policy().Every())
	defer whole.Stop()
	idle := time.NewTicker(markEvery)
	defer idle.Stop()
	w.look(ctx, atStart)
	var again <-chan time.Time // the end of the gap, while there is one
	var asked string           // why there will be a look at its end
	for {
		w.c.Alive()
		select {
		case <-ctx.Done():
			return nil
		case <-idle.C:
		case <-whole.C:
			w.look(ctx, scheduled)
			whole.Reset(w.c.Policy().Every())
		case reason := <-w.hints:
			if again == nil {
				w.look(ctx, reason)
				again = time.After(gap)
			}
			// Also a hint that was followed at once is followed again: what it
			// hints at may come after it.
			asked = reason
		case <-again:
			if again = nil; asked != "" {
				w.look(ctx, asked)
				again, asked = time.After(gap), ""
			}
		}
	}
}

// mark asks for a look when the loaded modules, the mounts or the kernel's taint
// changed, where nobody else hints at it.
func (w *Watch) mark(ctx context.Context) {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	last := device.Mark(w.c.Root)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := device.Mark(w.c.Root); now != last {
			last = now
			w.Look(noticed)
		}
	}
}

// look collects, compares with the look before, and judges. A look that somebody
// hinted at leaves out who was slow.
func (w *Watch) look(ctx context.Context, reason string) {
	whole := reason == atStart || reason == scheduled
	before := w.claims
	claims := make([]posture.Claim, len(w.sources))
	for i, s := range w.sources {
		if !whole && s.took > quick && before != nil {
			claims[i] = before[i]
			continue
		}
		claims[i] = s.collect(ctx, w.c.Root)
		if ctx.Err() != nil {
			return
		}
		w.c.Alive()
	}
	w.mu.Lock()
	w.claims, w.looked = claims, time.Now()
	w.mu.Unlock()
	policy := w.c.Policy()
	if before != nil {
		w.report.changes(ctx, policy, reason, before, claims)
	}
	w.report.judge(ctx, policy, claims)
}
