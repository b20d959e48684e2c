package live

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/device/fanotify"
	"ward/internal/trust/finding"
)

// subject is that of the role's conditions.
const subject = "fanotify"

const (
	// canaryName is the file whose event must come.
	canaryName = "watch-canary"
	// canaryEvery is how often it is touched, canaryWait how long its event may take.
	canaryEvery = time.Minute
	canaryWait  = 10 * time.Second
	// ebb is how long nothing must be lost until a flood has ended; floodTold is how
	// often one that goes on is told.
	ebb       = 500 * time.Millisecond
	floodTold = 10 * time.Minute
	// maxListed bounds the blind spots that a finding lists.
	maxListed = 8
)

// flood counts what came while not everything could be looked at.
type flood struct {
	mu     sync.Mutex
	total  uint64    // changes since the start
	began  time.Time // zero: there is none
	last   time.Time // loss
	since  uint64    // total when it began
	left   uint64    // paths and programs for which there was no room
	kernel uint64    // overflows of the kernel's queue
}

func (f *flood) count() {
	f.mu.Lock()
	f.total++
	f.mu.Unlock()
}

func (f *flood) note(n *uint64) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() {
		f.began, f.since = now, f.total
	}
	f.last = now
	*n++
}

func (f *flood) lost()   { f.note(&f.kernel) }
func (f *flood) passed() { f.note(&f.left) }

// state says whether there is a flood, and gives its summary when it has ended, or
// goes on for long.
func (f *flood) state(now time.Time) (runs bool, began time.Time, summary string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() {
		return false, time.Time{}, ""
	}
	began = f.began
	if now.Sub(f.last) < ebb && now.Sub(f.began) < floodTold {
		return true, began, ""
	}
	summary = fmt.Sprintf("%d changes within %s, of which %d were not looked at; the kernel's queue overflowed %d times",
		f.total-f.since, f.last.Sub(f.began).Round(time.Millisecond), f.left, f.kernel)
	f.began, f.left, f.kernel = time.Time{}, 0, 0
	return true, began, summary
}

// canary is the file that Ward itself touches, to see that events come. It is opened
// for writing and closed, which the kernel tells as a write, though nothing is
// written: the flash is not worn by it.
type canary struct {
	file string

	mu     sync.Mutex
	asked  time.Time // zero: its event has come, or was given up
	next   time.Time
	missed bool
	told   bool // missed, as it was told
}

// play touches it, if it is time.
func (c *canary) play(now time.Time) {
	if c.file == "" {
		return
	}
	c.mu.Lock()
	if now.Before(c.next) || !c.asked.IsZero() {
		c.mu.Unlock()
		return
	}
	c.asked, c.next = now, now.Add(canaryEvery)
	c.mu.Unlock()
	fd, err := unix.Open(c.file, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err == nil {
		unix.Close(fd)
	}
}

// heard notes its event.
func (c *canary) heard(e fanotify.Event) {
	if e.What&fanotify.Written == 0 || path.Base(e.Path) != canaryName {
		return
	}
	c.mu.Lock()
	c.asked, c.missed = time.Time{}, false
	c.mu.Unlock()
}

// state says whether the canary is missed, and whether that is new.
func (c *canary) state(now time.Time) (missed, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked.IsZero() && now.Sub(c.asked) >= canaryWait {
		c.asked, c.missed = time.Time{}, true
	}
	changed = c.missed != c.told
	c.told = c.missed
	return c.missed, changed
}

// watchOver raises and clears the role's conditions.
func (r *Role) watchOver(ctx context.Context, now time.Time) {
	r.updates.tell(ctx, now)
	r.overflow(ctx, now)
	r.canary.play(now)
	if missed, changed := r.canary.state(now); changed {
		f := finding.New(finding.WatchCanaryMissed, "its event did not come within "+canaryWait.String())
		if missed {
			r.report.raise(ctx, f, subject)
			r.c.Scan("canary")
		} else {
			f.Detail = "its event came again"
			r.report.clear(ctx, f, subject)
		}
	}
	if r.report.remounted() {
		r.blind(ctx)
	}
}

// overflow raises the condition at once, tells the summary when the flood has ended,
// asks for a scan then, and clears the condition when a scan that began later is done.
func (r *Role) overflow(ctx context.Context, now time.Time) {
	runs, began, summary := r.flood.state(now)
	if runs && r.report.raise(ctx, finding.New(finding.WatchOverflow, "changes came faster than they could be looked at; a scan of all files follows"), subject) {
		r.c.Log.Warn("file events overflow", "since", began)
	}
	if summary != "" {
		r.report.incident(ctx, finding.New(finding.WatchFlood, summary))
		r.report.floodEnded = now
		r.c.Scan("overflow")
	}
	if !runs && r.report.held(finding.WatchOverflow) && r.c.Scanned().After(r.report.floodEnded) {
		r.report.clear(ctx, finding.New(finding.WatchOverflow, "all files were looked at since"), subject)
	}
}

// blind raises or clears the condition of what cannot be watched. Mount points are
// paths like others.
func (r *Role) blind(ctx context.Context) {
	r.describe()
	all := r.c.Source.Blind()
	if len(all) == 0 {
		if r.report.held(finding.WatchBlind) {
			r.report.clear(ctx, finding.New(finding.WatchBlind, "everything is watched"), subject)
		}
		return
	}
	var parts []string
	for i, b := range all {
		if i == maxListed {
			parts = append(parts, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		text := r.hide(b.Mount)
		if b.Type != "" {
			text += " (" + b.Type + ")"
		}
		parts = append(parts, text+": "+b.Reason)
	}
	r.report.change(ctx, finding.New(finding.WatchBlind, strings.Join(parts, "; ")), subject)
}
