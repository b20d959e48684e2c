// Package inventory notes which components of the release have run since boot
// (IEC 62443-4-2, CR 7.8; FDA, section 524B): what the kernel measured or the watch
// over programs saw, joined with the component that the signed file baseline names
// for it. A component has run when a file of it was started, mapped to be executed,
// loaded, or read where the measurement policy says so: one too many rather than
// one too few. A program of the release that is of no component is an incident.
package inventory

import (
	"context"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/inventory"
)

const (
	// saveEvery bounds how often the set is written to flash.
	saveEvery = time.Minute
	// tick is how often the role looks whether there is something to do.
	tick = 5 * time.Second
	// maxWaiting bounds the programs without a component that wait to be told; what
	// is beyond it is counted and told as a number.
	maxWaiting = 256
	// maxSeen bounds those that are remembered as told.
	maxSeen = 4096
)

// Baseline is what the role asks of the release's file baseline.
type Baseline interface {
	Digest() [32]byte
	Components() []string // sorted, each once
	// ComponentOf names the component of a file, by its path if the release has this
	// content there, else by the content. ok says that the release has the file; a
	// component that is empty then says that no SBOM names it.
	ComponentOf(path string, sum [32]byte) (component string, ok bool)
	Entry(path string) (baseline.Entry, bool, error)
}

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config of the role.
type Config struct {
	// Release gives the file baseline of the verified release and whether the
	// release has an SBOM; nil while there is none.
	Release func() (files Baseline, sbom bool)
	// SecurityFS is where the kernel's measurement list lies. It is gone through once,
	// as programs ran before the daemon.
	SecurityFS fs.FS
	Boot       string // the kernel's boot id
	State      string // file that keeps the set within a boot; empty: it is not kept
	Recorder   Recorder
	// First says whether an incident about a subject was not told in this boot yet,
	// by anybody, and that it is told now; nil: it is asked of this run alone.
	First func(ctx context.Context, subject string, f finding.Finding) bool
	// Hide makes a path that the release does not name fit to leave the device; nil:
	// such a path is left out.
	Hide  func(path string) string
	Alive func() // called at least every 5 seconds
	Log   *slog.Logger
}

// Role is the role. It is safe for concurrent use.
type Role struct {
	c    Config
	wake chan struct{}

	mu         sync.Mutex
	files      Baseline // nil: there is none yet
	sbom       bool
	components []string
	set        *inventory.Set // nil with files: it has more components than a set holds
	unlisted   bool           // the measurement list was not gone through yet
	changed    bool           // the set was not saved
	waiting    []stranger
	more       int // that did not fit among waiting
	seen       map[stranger]struct{}
	saved      time.Time
}

// stranger is a program of the release that is of no component.
type stranger struct {
	path string // of the release, or hidden: its content ran at another path; empty: that path is left out
	sum  [32]byte
}

// New makes the role; Run does its work, and Ran may be called at once.
func New(c Config) *Role {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.First == nil {
		c.First = func(context.Context, string, finding.Finding) bool { return true }
	}
	return &Role{c: c, wake: make(chan struct{}, 1), seen: make(map[stranger]struct{})}
}

// Ran notes that a file ran: its path as the kernel gives it, and the SHA-256 of
// its content. A file that is not of the release is for others to tell. It does not
// wait for the journal or for the flash.
func (r *Role) Ran(path string, sum [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.adopt() {
		return // the measurement list tells of it later
	}
	component, ok := r.files.ComponentOf(path, sum)
	switch {
	case !ok:
		return
	case component == "":
		r.strange(path, sum)
		return
	}
	i, ok := slices.BinarySearch(r.components, component)
	if ok && r.set != nil && r.set.Add(i) {
		r.changed = true
	}
}

// strange notes a program without a component. A released file that is no program
// may be measured too: read by root, by the policy.
func (r *Role) strange(path string, sum [32]byte) {
	if !r.sbom {
		return
	}
	s := stranger{path: path, sum: sum}
	switch e, ok, err := r.files.Entry(path); {
	case err == nil && ok && e.SHA256 == sum:
		if e.Flags&baseline.Exec == 0 {
			return
		}
	case r.c.Hide != nil:
		s.path = r.c.Hide(path)
	default:
		s.path = ""
	}
	if _, again := r.seen[s]; again {
		return
	}
	if len(r.seen) == maxSeen {
		clear(r.seen)
	}
	r.seen[s] = struct{}{}
	if len(r.waiting) == maxWaiting {
		r.more++
	} else {
		r.waiting = append(r.waiting, s)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// adopt takes the release's baseline as soon as there is one, with what an earlier
// run of the daemon kept in this boot. One that was read anew takes its place.
func (r *Role) adopt() bool {
	files, sbom := r.c.Release()
	if files == nil {
		return r.files != nil
	}
	again := r.files != nil && r.files.Digest() == files.Digest()
	r.files, r.sbom = files, sbom
	if again {
		return true
	}
	r.components, r.unlisted, r.set = files.Components(), true, nil
	set, err := inventory.New(files.Digest(), len(r.components))
	if err != nil {
		r.c.Log.Error("which components run cannot be told", "error", err)
		return true
	}
	r.set = set
	if kept := r.kept(); kept != nil && !set.Join(kept) {
		r.c.Log.Info("what was kept of this boot is of another release; it begins anew")
	}
	return true
}

// Running is the set as evidence carries it; nil while nothing is known, and for a
// release that names no components.
func (r *Role) Running() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil || r.set.Count() == 0 {
		return nil
	}
	return r.set.Encode()
}

// Status is what is known at this moment.
type Status struct {
	Known      bool     // there is a baseline to ask
	SBOM       bool     // the release has one
	Components int      // of the release's files
	Ran        []string // by name, sorted
}

// Status tells what is known.
func (r *Role) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Known: r.files != nil, SBOM: r.sbom, Components: len(r.components), Ran: []string{}}
	if r.set != nil {
		if names, err := r.set.Names(r.components); err == nil {
			s.Ran = names
		}
	}
	return s
}
