// Package live looks where the kernel says that something happens: a file that
// changes is compared with the file baseline of the signed release within
// milliseconds, a program that is run is looked up in it, and who did it is named
// (docs/runtime.md; fanotify(7)). An event is a hint and no proof: what counts is
// what stands at the path when it is looked at, and the paced scan of all files is
// the authority. What is lost between the kernel and this role is told, and a scan
// follows. It reports; it never hinders.
package live

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"ward/internal/device/fanotify"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Source tells what the kernel sees.
type Source interface {
	// Follow gives every event until ctx ends; tell does not wait.
	Follow(ctx context.Context, tell func(fanotify.Event)) error
	Blind() []fanotify.Blind
}

// Files is the release's file baseline.
type Files interface {
	Lookup(path string, sum [32]byte) baseline.Match
	Entry(path string) (baseline.Entry, bool, error)
	Ancestor(path string) string
}

// Config of the role.
type Config struct {
	Source  Source
	Missing error        // why there is no Source
	Files   func() Files // nil while none can be trusted
	Policy  func() watch.Policy
	// Look says what stands at a path, without following links; fs.ErrNotExist:
	// nothing.
	Look func(path string) (baseline.Entry, error)
	// Judge compares what stands at a path with the release: have is nil where
	// nothing does, failed is set where it could not be read. False: it means nothing.
	Judge func(files Files, path string, have *baseline.Entry, failed error) (finding.Finding, bool)
	// Hide is a path as it may leave the device.
	Hide func(path string) string
	// Scan asks for a scan of all files; Scanned is when the last whole one began.
	Scan    func(reason string)
	Scanned func() time.Time
	// IMA says whether the kernel's measurement list is followed, too.
	IMA func() bool
	// Ran takes every program of the release that was run; nil: nobody asks.
	Ran      func(path string, sum [32]byte)
	State    string // the folder of the canary; empty: none
	Recorder Recorder
	// First says whether an incident about a subject was not told in this boot yet,
	// by anybody, and that it is told now; nil: everything is told.
	First func(ctx context.Context, subject string, f finding.Finding) bool
	Alive func()
	Log   *slog.Logger
}

// Role watches files and programs.
type Role struct {
	c       Config
	self    int
	now     atomic.Pointer[standing]
	queue   *queue
	execs   chan execution
	known   *known
	updates *updates
	flood   flood
	canary  canary
	report  *reporter
	state   atomic.Pointer[Status]

	beaten, taken time.Time
}

// standing is what events are held against; it is taken anew every second.
type standing struct {
	files  Files
	policy watch.Policy
}

// Status is what is watched, for people.
type Status struct {
	Changes  string   // the source of changes: "fanotify" or ""
	Programs []string // the sources of what runs: "ima", "fanotify"
	Blind    []fanotify.Blind
	Missing  string // why there is no source of changes
}

const (
	// tick is how often conditions and the ends of windows are looked at. It is all
	// that an idle device pays.
	tick = 250 * time.Millisecond
	// refresh is how often baseline and policy are taken anew.
	refresh = time.Second
	// again is the wait before a source that ended is followed anew.
	again = 30 * time.Second
)

// New makes the role; Run does its work.
func New(c Config) *Role {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Ran == nil {
		c.Ran = func(string, [32]byte) {}
	}
	if c.Policy == nil {
		c.Policy = watch.Default
	}
	if c.Files == nil {
		c.Files = func() Files { return nil }
	}
	if c.Scan == nil {
		c.Scan = func(string) {}
	}
	if c.Scanned == nil {
		c.Scanned = func() time.Time { return time.Time{} }
	}
	if c.IMA == nil {
		c.IMA = func() bool { return false }
	}
	if c.First == nil {
		c.First = func(context.Context, string, finding.Finding) bool { return true }
	}
	r := &Role{
		c: c, self: os.Getpid(), queue: newQueue(), execs: make(chan execution, maxExecutions), known: newKnown(), report: newReporter(c.Recorder, c.Log),
	}
	r.updates = newUpdates(r)
	if c.State != "" {
		r.canary.file = filepath.Join(c.State, canaryName)
	}
	r.stand()
	r.describe()
	return r
}

// stand takes baseline and policy.
func (r *Role) stand() { r.now.Store(&standing{r.c.Files(), r.c.Policy()}) }

// Status is what is watched.
func (r *Role) Status() Status { return *r.state.Load() }

func (r *Role) describe() {
	s := Status{Programs: []string{}}
	if r.c.IMA() {
		s.Programs = append(s.Programs, "ima")
	}
	if r.c.Source != nil {
		s.Changes, s.Blind = "fanotify", r.c.Source.Blind()
		s.Programs = append(s.Programs, "fanotify")
	} else if r.c.Missing != nil {
		s.Missing = r.c.Missing.Error()
	}
	r.state.Store(&s)
}

// Run watches until ctx ends.
func (r *Role) Run(ctx context.Context) error {
	if r.c.Source == nil {
		return r.without(ctx)
	}
	inner, cancel := context.WithCancel(ctx)
	followed, ran := make(chan struct{}), make(chan struct{})
	go func() { defer close(followed); r.follow(inner) }()
	go func() { defer close(ran); r.runExecutions(inner) }()
	defer func() {
		cancel()
		<-followed
		<-ran
		r.updates.end(context.WithoutCancel(ctx))
	}()
	r.blind(ctx)
	r.canary.play(time.Now())
	for ctx.Err() == nil {
		due, wait := r.queue.take(time.Now())
		for _, p := range due {
			if ctx.Err() != nil {
				return nil
			}
			r.look(ctx, p.path, p.origin)
			r.beat(ctx, time.Now())
		}
		if len(due) > 0 {
			continue
		}
		next := time.NewTimer(min(wait, tick))
		select {
		case <-ctx.Done():
		case <-r.queue.wake:
		case <-next.C:
		}
		next.Stop()
		r.beat(ctx, time.Now())
	}
	return nil
}

// beat does what is due now and then.
func (r *Role) beat(ctx context.Context, now time.Time) {
	if now.Sub(r.beaten) < tick {
		return
	}
	r.beaten = now
	r.c.Alive()
	if now.Sub(r.taken) >= refresh {
		r.taken = now
		r.stand()
		r.describe()
	}
	r.watchOver(ctx, now)
}

// without stands for the role where the kernel tells nothing.
func (r *Role) without(ctx context.Context) error {
	why := "no source of file events"
	if r.c.Missing != nil {
		why = r.c.Missing.Error()
	}
	r.report.raise(ctx, finding.New(finding.WatchUnavailable, why), subject)
	t := time.NewTicker(refresh)
	defer t.Stop()
	for {
		r.c.Alive()
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// follow reads the source, and goes on when it ended.
func (r *Role) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.c.Source.Follow(ctx, func(e fanotify.Event) { r.take(ctx, e) })
		if ctx.Err() != nil {
			return
		}
		r.report.raise(ctx, finding.New(finding.WatchUnavailable, fmt.Sprintf("%v", err)), subject)
		r.c.Scan("overflow")
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// take is what an event leads to. It must not wait: what costs time goes to a
// queue.
func (r *Role) take(ctx context.Context, e fanotify.Event) {
	switch {
	case e.What == fanotify.Overflow:
		r.flood.lost()
	case e.What == fanotify.Mounts:
		r.report.remount()
		r.queue.nudge()
	case e.What == fanotify.Fault:
		r.c.Log.Warn("read file events", "error", e.Err, "dead", e.Dead)
		if e.Dead {
			r.report.raise(ctx, finding.New(finding.WatchUnavailable, e.Err.Error()), subject)
		}
	case e.What&fanotify.Executed != 0:
		r.executed(e)
	case e.Origin.PID == r.self:
		r.canary.heard(e)
	default:
		r.changed(ctx, e)
	}
}

// changed sorts out which changes are looked at. Most tell nothing, and cost next
// to nothing.
func (r *Role) changed(ctx context.Context, e fanotify.Event) {
	r.flood.count()
	s := r.now.Load()
	if r.updates.took(ctx, s, e) || s.files == nil || ignored(s.policy.Ignore, e.Path) {
		return
	}
	if !matters(s.files, e) {
		return
	}
	if !r.queue.push(e.Path, e.Origin, time.Now()) {
		r.flood.passed()
	}
}
