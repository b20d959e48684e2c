// Package inventory notes which components of the release have run since boot
// (IEC 62443-4-2, CR 7.8; FDA, section 524B): what the kernel measured or the watch
// over programs saw, joined with the component that the signed file baseline names
// for it. A component has run when a file of it was started, mapped to be executed,
// loaded, or read where the measurement policy says so: one too many rather than
// one too few. A program of the release that is of no component is an incident.
package inventory

import (
	"context"
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
	// tick is how often the role looks whether there is something to keep.
	tick = 5 * time.Second
	// maxWaiting bounds the programs without a component that wait to be told; what
	// is beyond it is counted and told as a number.
	maxWaiting = 256
	// maxSeen bounds the contents of those that are remembered as told.
	maxSeen = 4096
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config of the role.
type Config struct {
	// Release gives the file baseline of the verified release and whether the
	// release has an SBOM; nil while there is none.
	Release  func() (files *baseline.Index, sbom bool)
	Boot     string // the kernel's boot id
	State    string // file that keeps the set within a boot; empty: it is not kept
	Recorder Recorder
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
	files      *baseline.Index // nil: there is none yet
	sbom       bool
	components []string
	set        *inventory.Set // nil with files: it has more components than a set holds
	through    bool           // the measurement list was gone through
	changed    bool           // the set was not saved
	waiting    []stranger
	more       int                   // that did not fit among waiting
	seen       map[[32]byte]struct{} // contents that were told or wait
	saved      time.Time
}

// stranger is a program of the release that is of no component.
type stranger struct {
	path string // of the release, or hidden: its content ran at another path
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
	if c.Hide == nil {
		c.Hide = func(string) string { return "content of the release at another path" }
	}
	if c.First == nil {
		c.First = func(context.Context, string, finding.Finding) bool { return true }
	}
	return &Role{c: c, wake: make(chan struct{}, 1), seen: make(map[[32]byte]struct{})}
}

// Ran notes that a file ran: its path as the kernel gives it, and the SHA-256 of
// its content. A file that is not of the release is for others to tell. It does not
// wait for the journal or for the flash.
func (r *Role) Ran(path string, sum [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.adopt() {
		return // the measurement list is gone through once more when there is a release
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

// Through says that Ran has been told all that the kernel had measured, so that a
// component that is not in the set has not run. Programs ran before the daemon.
func (r *Role) Through() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.through = r.adopt()
}

// strange notes a program without a component. A released file that is no program
// may be measured too: read by root, by the policy.
func (r *Role) strange(path string, sum [32]byte) {
	if !r.sbom {
		return
	}
	if _, again := r.seen[sum]; again {
		return
	}
	if e, ok, err := r.files.Entry(path); err != nil || !ok || e.SHA256 != sum {
		path = r.c.Hide(path)
	} else if e.Flags&baseline.Exec == 0 {
		return
	}
	if len(r.seen) == maxSeen {
		clear(r.seen)
	}
	r.seen[sum] = struct{}{}
	if len(r.waiting) == maxWaiting {
		r.more++
	} else {
		r.waiting = append(r.waiting, stranger{path, sum})
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
	r.components, r.through, r.set = files.Components(), false, nil
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

// Running is the set as evidence carries it; nil for a release that names no
// components, and until the measurement list was gone through: what it tells of would
// look dormant.
func (r *Role) Running() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil || r.set.Count() == 0 || !r.through {
		return nil
	}
	return r.set.Encode()
}

// Status tells how many components the release has, and those that ran by name,
// sorted; known: there is a baseline, and the measurement list was gone through.
func (r *Role) Status() (components int, ran []string, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set != nil {
		ran, _ = r.set.Names(r.components) // there are as many as the set counts
	}
	return len(r.components), ran, r.set != nil && r.through
}
