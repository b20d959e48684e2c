// Package scan compares all files of the device with the file baseline of its
// signed release, again and again: on a schedule, when somebody asks, and where the
// watch over changes has lost some. A scan takes no more of the processor and the
// disk than the release allows, runs in the idle classes, and stands still while a
// therapy lease is held (blueprint, section 9, rules 1 and 2); one that does not
// come to its end in time is itself a finding. It goes on where it was broken off.
// What vouches for a file's content is asked in the order dm-verity, fs-verity,
// SHA-256.
package scan

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"ward/internal/device/idle"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

const (
	// startDelay is how long behind the daemon's start the first scan of a boot
	// begins: therapy starts first.
	startDelay = 5 * time.Minute
	// resumeDelay is how long behind it one goes on that was broken off.
	resumeDelay = time.Minute
	// againAfter is the least time between two scans that nobody at the device has
	// asked for.
	againAfter = 10 * time.Minute
	// keepEvery is how often a running scan writes down how far it is.
	keepEvery = 30 * time.Second
	// keepIdle is how often the time of waiting is written down.
	keepIdle = 2 * time.Hour
	// tick is how often it is looked whether a scan is due or overdue.
	tick = 15 * time.Second
	// retryEvery is how long behind a scan that failed the next one begins.
	retryEvery = 10 * time.Minute
)

// Reasons for a scan.
const (
	Scheduled = "scheduled"
	Asked     = "asked"
	Overflow  = "overflow" // the kernel has dropped changes
	Canary    = "canary"   // the watch over changes has missed one that it must see
	Update    = "update"
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Lease says whether therapy asks for quiet.
type Lease interface {
	Held() bool
	// Changed is closed at the next change.
	Changed() <-chan struct{}
}

// Config of the role.
type Config struct {
	Root    string                                // "": "/"
	Files   func() *baseline.Index                // the baseline of the verified release; nil while there is none
	Policy  func() watch.Policy                   // of the verified release
	Lease   Lease                                 // nil: nobody takes one
	Hide    func(path string) string              // of a path that the release does not name; nil: the folder of the release alone
	State   string                                // file that outlives the daemon; "": nothing is kept
	Boot    string                                // the kernel's boot id
	Now     func() time.Duration                  // since the kernel started, suspend included
	Vouched func(fs baseline.Device) bool         // as of Pass; nil: no file system is
	Read    func(int, []byte, int64) (int, error) // as of Pass
	Keep    time.Duration                         // how often a running scan is written down; 0: 30 s

	Recorder Recorder
	// First says whether an incident about a subject was not told in this boot yet,
	// by anybody, and that it is told now; nil: every one is told.
	First func(ctx context.Context, subject string, f finding.Finding) bool
	Alive func()
	Log   *slog.Logger
}

// Scanner is the role.
type Scanner struct {
	c    Config
	wake chan struct{}

	mu      sync.Mutex
	state   state
	pending string // the reason of the scan that is wanted; "": none but the scheduled
	full    bool   // it is to read what dm-verity proves, too
	status  Status
	started time.Duration
	ended   int // scans, in this run of the daemon
}

// New makes the role; Run does its work.
func New(c Config) *Scanner {
	if c.Root == "" {
		c.Root = "/"
	}
	if c.Hide == nil {
		c.Hide = func(path string) string {
			if files := c.Files(); files != nil {
				return strings.TrimSuffix(files.Ancestor(path), "/") + "/~"
			}
			return "/~"
		}
	}
	if c.First == nil {
		c.First = func(context.Context, string, finding.Finding) bool { return true }
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Keep <= 0 {
		c.Keep = keepEvery
	}
	s := &Scanner{c: c, wake: make(chan struct{}, 1)}
	if c.State != "" {
		s.load()
	}
	s.started = c.Now()
	s.state.Boot, s.state.At = c.Boot, s.started
	return s
}

// Trigger has a scan made soon, for a reason. One that runs is not broken off: the
// next begins behind it.
func (s *Scanner) Trigger(reason string) { s.trigger(reason, false) }

// Ask has a scan made at once. A full one reads the content of files that dm-verity
// or fs-verity vouches for, too.
func (s *Scanner) Ask(full bool) { s.trigger(Asked, full) }

func (s *Scanner) trigger(reason string, full bool) {
	s.mu.Lock()
	if s.pending == "" || reason == Asked {
		s.pending = reason
	}
	s.full = s.full || full
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run scans until ctx ends.
func (s *Scanner) Run(ctx context.Context) error {
	s.restore(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(ctx) })
	defer watching.Wait()
	kept := s.c.Now()
	for ctx.Err() == nil {
		s.c.Alive()
		files := s.c.Files()
		reason, full := s.due(files != nil)
		if reason != "" {
			s.scan(ctx, files, reason, full)
			kept = s.c.Now()
			continue
		}
		if now := s.c.Now(); now-kept >= keepIdle {
			kept = now
			s.save()
		}
		timer := time.NewTimer(tick)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wake:
		}
		timer.Stop()
	}
	s.save()
	return nil
}

// watch tells when no scan has come to its end for too long, whatever holds it off.
func (s *Scanner) watch(ctx context.Context) {
	for ctx.Err() == nil {
		s.overdue(ctx)
		timer := time.NewTimer(tick)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due says for which reason a scan begins now; "": for none.
func (s *Scanner) due(possible bool) (reason string, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.State, s.status.Detail = Waiting, ""
	if !possible {
		s.status.State, s.status.Detail = NoBaseline, "there is no trusted file baseline to compare with"
		return "", false
	}
	now := s.c.Now()
	next := s.started + startDelay
	switch {
	case s.state.Position != "":
		next = s.started + resumeDelay
	case s.state.Begun > 0:
		next = s.state.Begun + time.Duration(s.c.Policy().Scan.EverySeconds)*time.Second
	}
	if s.state.Interrupted {
		next = max(s.state.Begun+retryEvery, s.started+resumeDelay)
	}
	switch pending := s.pending; {
	case pending == Asked:
		next = now
	case pending != "":
		next = min(next, max(s.state.Begun+againAfter, now))
		if s.state.Begun == 0 {
			next = now
		}
	}
	s.status.Next = max(next-now, 0)
	if next > now {
		return "", false
	}
	reason, full = s.pending, s.full
	if reason == "" {
		reason = Scheduled
	}
	s.pending, s.full = "", false
	return reason, full
}

// scan makes one scan, or goes on with the one that was broken off.
func (s *Scanner) scan(ctx context.Context, files *baseline.Index, reason string, full bool) {
	digest := files.Digest()
	resumed := s.begin(digest, reason, full)
	var pass *Pass
	err := idle.Run(func(err error) { s.c.Log.Warn("run a scan in the idle classes", "error", err) }, func() error {
		want, err := files.Entries()
		if err != nil {
			return err
		}
		p := newPacer(ctx)
		p.lease, p.limit, p.alive = s.c.Lease, func() watch.Scan { return s.c.Policy().Scan }, s.c.Alive
		ignore := s.c.Policy().Ignore
		kept, spent := s.c.Now(), s.c.Now()
		p.pause = func(begun bool) { s.paused(begun, p.paused); p.paused = 0 }
		pass = &Pass{
			Root: s.c.Root, From: resumed, Want: want, Full: s.state.Full, Vouched: s.c.Vouched, Pace: p.pace, Read: s.c.Read,
			Counts: s.state.Counts,
		}
		pass.Tell = func(d diff.Difference, named bool) { pass.Counts.Add(d, s.tell(ctx, d, named, ignore)) }
		pass.Step = func(path string, c *Counts, mounts []Mount) {
			now := s.c.Now()
			keep := now-kept >= s.c.Keep
			s.progress(path, c, mounts, keep, now-spent)
			if keep {
				kept, spent = now, now
				s.save()
			}
		}
		err = pass.Run()
		s.progress("", &pass.Counts, pass.Mounts, true, s.c.Now()-spent)
		return err
	})
	if errors.Is(err, errStopped) {
		return // Run saves
	}
	s.finish(ctx, err, pass)
}

// begin notes that a scan begins and returns the path behind which it goes on.
func (s *Scanner) begin(digest [32]byte, reason string, full bool) (from string) {
	s.mu.Lock()
	if name := hexDigest(digest); s.state.Position == "" || s.state.Baseline != name || full && !s.state.Full {
		s.state.Position, s.state.Baseline, s.state.Counts = "", name, Counts{}
		s.state.Reason, s.state.Full = reason, full
		s.state.Begun, s.state.Spent, s.state.Paused = s.c.Now(), 0, 0
	} else {
		from, _ = baseline.Unescape(s.state.Position)
	}
	s.status = Status{State: Scanning, Reason: s.state.Reason, Full: s.state.Full, Resumed: from != "", Total: s.status.Total}
	if files := s.c.Files(); files != nil {
		s.status.Total = files.Files()
	}
	s.mu.Unlock()
	s.save()
	return from
}

func (s *Scanner) paused(begun bool, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.State = Scanning; begun {
		s.status.State = Paused
	}
	s.state.Paused += took
}

// progress notes how far a scan is. The position that is kept may stay behind the
// one that is shown: what lies between is told again, and recorded once.
func (s *Scanner) progress(path string, c *Counts, mounts []Mount, keep bool, spent time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Counts, s.status.Mounts = *c, mounts
	if !keep {
		return
	}
	if path != "" {
		s.state.Position = baseline.Escape(path)
		s.status.path = strings.Clone(path)
		s.state.Counts = *c
	}
	s.state.Spent += spent
}
