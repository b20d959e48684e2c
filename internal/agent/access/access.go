// Package access tells who logs in at the device and who takes other rights there
// (IEC 62443-4-2 CR 2.8): from the kernel's audit where it speaks, else from the files
// that login programs keep (utmp(5)), and it says which source it has. No person is
// named: an account that is neither root nor the release's own is a salted digest, and
// where somebody came from over a network is not told at all. Beneath it lie service
// mode and emergency access, which do not depend on any source.
package access

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"ward/internal/device/audit"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// poll is how often the files are looked at; an idle look asks for their size.
	poll = 2 * time.Second
	// maxFailures within the window are a finding.
	maxFailures   = 5
	failureWindow = 10 * time.Minute
	// samePID is how long another failure of one process is the same one: a login
	// program and the library that it asks tell it both.
	samePID = 2 * time.Second
	// subject is that of the source's condition.
	subject = "logins"
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Audit is the kernel's audit. Errors are device/audit's.
type Audit interface {
	Receive(ctx context.Context, heard func()) (audit.Record, error)
}

// Config of the role.
type Config struct {
	Audit   Audit // nil: it cannot be heard
	Missing error // why not
	Root    fs.FS // the device's files: proc/cmdline, etc/passwd, run/utmp, var/log/wtmp, var/log/btmp
	Boot    string
	State   string // file that keeps how far the files were read; empty: nothing is kept
	// Hide gives a name that must not leave the device a form that may.
	Hide     func(name string) string
	Recorder Recorder
	Alive    func() // called at every look
	Log      *slog.Logger
}

// Status is where logins are seen.
type Status struct {
	Source string // audit, utmp, none
	Detail string // what is missing
}

// Watch is the role.
type Watch struct {
	c        Config
	accounts accounts
	files    files

	mu     sync.Mutex
	status Status

	// Run's own.
	sessions  map[uint32]bool // audit sessions that began with a login
	failures  []time.Time
	lastPID   uint32
	lastTime  time.Time
	noSource  bool // the condition is raised
	deaf      error
	auditedBy bool // the kernel speaks: the files are read and not told
}

// New makes the role; Run does its work.
func New(c Config) *Watch {
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	w := &Watch{c: c, accounts: readAccounts(c.Root), files: newFiles(c), sessions: make(map[uint32]bool), deaf: c.Missing, status: Status{Source: "none"}}
	w.files.name = w.name
	return w
}

// Status says where logins are seen.
func (w *Watch) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// heard is what the audit gave: a record, an error, or neither where it only spoke.
type heard struct {
	record audit.Record
	err    error
	ok     bool
}

// Run tells of logins until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	records := make(chan heard)
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if w.c.Audit != nil {
		w.auditedBy = switchedOn(w.c.Root)
		wg.Go(func() { w.listen(ctx, records) })
	}
	t := time.NewTicker(poll)
	defer t.Stop()
	for {
		w.look(ctx)
		w.c.Alive()
		select {
		case <-ctx.Done():
			return nil
		case h := <-records:
			w.hear(ctx, h)
		case <-t.C:
		}
	}
}

// switchedOn says whether the kernel was started with its audit on.
func switchedOn(root fs.FS) bool {
	b, err := fs.ReadFile(root, "proc/cmdline")
	if err != nil {
		return false
	}
	for word := range strings.FieldsSeq(string(b)) {
		if word == "audit=1" || word == "audit=on" {
			return true
		}
	}
	return false
}

// listen passes on what the audit says, until it ends.
func (w *Watch) listen(ctx context.Context, to chan<- heard) {
	send := func(h heard) {
		select {
		case to <- h:
		case <-ctx.Done():
		}
	}
	spoken := false
	for ctx.Err() == nil {
		r, err := w.c.Audit.Receive(ctx, func() {
			if !spoken {
				spoken = true
				send(heard{})
			}
		})
		send(heard{record: r, err: err, ok: err == nil})
		if err != nil && !errors.Is(err, audit.ErrLost) && !errors.Is(err, audit.ErrForm) {
			return
		}
	}
}

func (w *Watch) hear(ctx context.Context, h heard) {
	switch {
	case errors.Is(h.err, audit.ErrLost):
		w.auditedBy = true
		w.finding(ctx, event.FindingIncident, subject, finding.AccessRecordsLost, "the kernel's audit had more to say than was taken", "")
	case errors.Is(h.err, audit.ErrForm):
		w.c.Log.Debug("read audit record", "error", h.err)
	case h.err != nil && ctx.Err() == nil:
		w.deaf, w.auditedBy, w.c.Audit = h.err, false, nil
	case h.ok:
		w.auditedBy = true
		w.judge(ctx, h.record)
	case h.err == nil:
		w.auditedBy = true
	}
}

// look reads the files and says which source there is. What they say is told when the
// audit says nothing.
func (w *Watch) look(ctx context.Context) {
	acts, there := w.files.look()
	s := Status{Source: "none"}
	switch {
	case w.auditedBy:
		s.Source = "audit"
	case there:
		s.Source = "utmp"
		for _, a := range acts {
			w.act(ctx, a)
		}
	}
	switch {
	case w.auditedBy:
	case w.c.Audit != nil:
		s.Detail = "the kernel's audit says nothing: it is not switched on (audit=1)"
	case w.deaf != nil:
		s.Detail = w.deaf.Error()
	}
	w.mu.Lock()
	w.status = s
	w.mu.Unlock()
	if none := s.Source == "none"; none != w.noSource {
		w.noSource = none
		kind, detail := event.FindingRaised, s.Detail
		if !none {
			kind, detail = event.FindingCleared, "logins are seen by "+s.Source
		}
		w.finding(ctx, kind, subject, finding.AccessNoSource, detail, "")
	}
}

// finding records one; found tells an incident from others about the subject.
func (w *Watch) finding(ctx context.Context, kind, subject string, code finding.Code, detail, found string) {
	f := finding.New(code, detail)
	f.Found = found
	w.record(ctx, event.Event{Type: kind, Subject: subject, Severity: f.Severity, Finding: &f})
}

func (w *Watch) record(ctx context.Context, e event.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if err := w.c.Recorder.Record(ctx, e); err != nil {
		w.c.Log.Error("record event", "type", e.Type, "error", err)
	}
}
