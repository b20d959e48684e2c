// Package integrity watches what runs: it follows the kernel's measurement list
// (Documentation/security/IMA-templates.rst of the Linux source) and compares
// every new entry with the file baseline of the signed release. It reports; it
// never hinders a program.
package integrity

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"ward/internal/device/securityfs"
	"ward/internal/format/ima"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
)

const (
	// defaultPoll is how often the list is asked when nothing else is said.
	defaultPoll = 250 * time.Millisecond
	// retryEvery is the wait before a list that cannot be read is opened again.
	retryEvery = 5 * time.Second
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Start says what the appraisal of the boot has covered already: the baseline
// to compare with, nil while none can be trusted, and the number of entries that
// were judged. It waits for the first appraisal and later tells the latest one. A
// baseline that could not be read again is loaded anew before it is told again.
type Start interface {
	Judged(ctx context.Context) (files *baseline.Index, entries int, err error)
}

// Config of the role.
type Config struct {
	SecurityFS fs.FS
	Poll       time.Duration // between two looks; 0: 250 ms
	Start      Start
	Recorder   Recorder
	// First says whether an incident about a subject was not told in this boot yet,
	// by anybody, and that it is told now; nil: it is asked of this run alone.
	First func(ctx context.Context, subject string, f finding.Finding) bool
	// Ran takes every file that the kernel measured since the boot, at its path as the
	// kernel gives it and with the SHA-256 of its content; Through is called when the
	// list that is there was gone through with a baseline, or cannot be read. nil:
	// nobody asks.
	Ran     func(path string, sum [32]byte)
	Through func()
	// Hide is a path as it may leave the device: another one where the release does
	// not name it; nil: as it is.
	Hide  func(path string) string
	Alive func() // called at every look
	Log   *slog.Logger
}

// Watch is the role.
type Watch struct {
	c      Config
	files  *baseline.Index // nil: only violations can be told
	report reporter
}

// New makes the role; Run does its work.
func New(c Config) *Watch {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Ran == nil {
		c.Ran = func(string, [32]byte) {}
	}
	if c.Through == nil {
		c.Through = func() {}
	}
	if c.Hide == nil {
		c.Hide = func(path string) string { return path }
	}
	if c.Poll <= 0 {
		c.Poll = defaultPoll
	}
	return &Watch{c: c, report: newReporter(c.Recorder, c.Log)}
}

// errBaseline ends the following because a baseline has come that was not there,
// and what was passed over is judged with it; or because the one that was there
// can no longer be read, or is another file now.
var errBaseline = errors.New("the baseline has come or gone")

// Run follows the list until ctx ends. A list that is not there or breaks off
// is a condition, and is looked for again.
func (w *Watch) Run(ctx context.Context) error {
	files, from, err := w.c.Start.Judged(ctx)
	if err != nil {
		return nil // ctx ended
	}
	w.files = files
	for ctx.Err() == nil {
		w.report.baseline(ctx, w.files != nil)
		w.c.Alive()
		var err error
		from, err = w.follow(ctx, from)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errBaseline):
			continue
		default:
			w.report.fault(ctx, err)
			w.through()
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
	return nil
}

// follow judges the entries behind the first from ones, until the list fails.
// It returns the number of the entry to go on from.
func (w *Watch) follow(ctx context.Context, from int) (int, error) {
	list, err := securityfs.FollowIMA(w.c.SecurityFS)
	if err != nil {
		return from, err
	}
	defer list.Close()
	tick := time.NewTicker(w.c.Poll)
	defer tick.Stop()
	asked := time.Now()
	for {
		if err := w.take(ctx, list, from); err != nil {
			if errors.Is(err, securityfs.ErrShrunk) {
				return 0, err // which ones are new cannot be told
			}
			return max(from, list.Entries()), err
		}
		from = max(from, list.Entries())
		w.report.mended(ctx)
		w.through()
		w.c.Alive()
		if w.files == nil && time.Since(asked) >= retryEvery {
			asked = time.Now()
			if files, entries, err := w.c.Start.Judged(ctx); err == nil && files != nil && files.Err() == nil {
				w.files = files
				return min(entries, from), errBaseline
			}
		}
		select {
		case <-ctx.Done():
			return from, nil
		case <-tick.C:
		}
	}
}

// take judges what the list has got since the last look.
func (w *Watch) take(ctx context.Context, list *securityfs.Follower, from int) error {
	changed, err := list.Changed()
	if err != nil || !changed {
		return err
	}
	for ctx.Err() == nil {
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			if list.Entries() < from {
				return securityfs.ErrShrunk
			}
			return nil
		}
		if err != nil {
			return err
		}
		if sum, ok := measured.Content(e); ok {
			w.c.Ran(strings.Clone(e.Path), sum)
		}
		if e.Index >= from {
			w.judge(ctx, e)
			if w.files != nil && w.files.Err() != nil {
				w.files = nil // the appraisal loads it anew, and covers this entry
				return errBaseline
			}
		}
	}
	return nil
}

// through tells that all was handed on. Without a baseline it will be once more.
func (w *Watch) through() {
	if w.files != nil {
		w.c.Through()
	}
}

// judge reports an entry that is not of the release.
func (w *Watch) judge(ctx context.Context, e ima.Entry) {
	switch standing, f := measured.JudgeEntry(e, w.files); standing {
	case measured.Unknown, measured.Changed, measured.Violated:
		if shown := w.c.Hide(e.Path); shown != e.Path {
			f.Path = shown
		}
		if w.c.First == nil || w.c.First(ctx, f.Path, f) {
			w.report.incident(ctx, f)
		}
	}
}
