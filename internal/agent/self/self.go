// Package self watches the daemon itself: that it executes what the signed release
// names, that no code came into its memory, that nobody traces it, that the files
// which tell it what to do stay as they are, and that it was not halted (proc(5);
// IEC 62443-4-2 EDR 3.2). Who has root can make it lie about that; he cannot make it
// both silent and unseen, and what he changed on the way here is in the record.
package self

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/device/anchors"
	"ward/internal/device/process"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// tickEvery is how often the role looks at the clock and for a tracer.
	tickEvery = time.Second
	// lookEvery is how often it looks at all else, which reads its own file.
	lookEvery = 5 * time.Minute
	// starvedAfter is the time between two ticks that nobody owes to a busy device.
	// It is under the watchdog's interval: who was halted for longer is started anew.
	starvedAfter = 10 * time.Second
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Release says what is to be compared with: the file baseline of the release, nil
// while none can be trusted. It waits for the first appraisal and later tells the
// latest one.
type Release interface {
	Judged(ctx context.Context) (files *baseline.Index, entries int, err error)
}

// File is one that tells the daemon what to do. It may be missing.
type File struct {
	Path string
	// Genuine says whether a changed content is one that the manufacturer signed;
	// nil: none is.
	Genuine func(content []byte) bool
}

// Config of the role.
type Config struct {
	Release  Release
	Files    []File
	Recorder Recorder
	Hide     func(path string) string // paths that the release does not name; nil: they stay as they are
	Alive    func()
	Log      *slog.Logger
}

// Self is the role.
type Self struct {
	c      Config
	see    func() (process.State, error)
	begun  map[string][32]byte // of each file: its digest at the start; zero: it was not there
	raised map[string]string   // conditions that hold, by code and subject, with their detail

	last   time.Time // of the latest tick
	looked time.Time // of the latest look
	due    bool      // another is due before its time
	tracer int
}

// New notes what the files are now. Run does the work.
func New(c Config) *Self {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Hide == nil {
		c.Hide = func(path string) string { return path }
	}
	s := &Self{c: c, see: process.Look, begun: make(map[string][32]byte), raised: make(map[string]string)}
	for _, f := range c.Files {
		s.begun[f.Path], _, _ = content(f.Path)
	}
	return s
}

// Run watches until ctx ends. The first look waits for the verdict on the boot,
// which comes before everything.
func (s *Self) Run(ctx context.Context) error {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, unix.SIGCONT)
	defer signal.Stop(continued)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()

	judged := make(chan struct{})
	go func() {
		_, _, _ = s.c.Release.Judged(ctx)
		close(judged)
	}()
	s.last = time.Now()
	for {
		s.c.Alive()
		halted := false
		select {
		case <-ctx.Done():
			return nil
		case <-continued:
			halted = true
		case <-tick.C:
			// The signal that ended a halt may come behind the first tick.
			if time.Since(s.last) > starvedAfter {
				select {
				case <-continued:
					halted = true
				case <-time.After(tickEvery):
				}
			}
		}
		tracer, err := process.Tracer()
		if err != nil {
			s.c.Log.Warn("look for a tracer", "error", err)
		}
		ready := true
		select {
		case <-judged:
		default:
			ready = false
		}
		s.tick(ctx, time.Now(), halted, tracer, ready)
	}
}

// tick judges one moment: the time of the monotonic clock, which stands still
// while the device sleeps and only then; whether the process was halted and goes
// on; who traces it; and whether the boot was judged, before which nothing is
// looked at that takes time.
func (s *Self) tick(ctx context.Context, now time.Time, halted bool, tracer int, judged bool) {
	gap := now.Sub(s.last)
	s.last = now
	if gap > starvedAfter {
		s.starved(ctx, gap, halted)
	}
	s.condition(ctx, finding.SelfTraced, "", tracer != 0, "a process traces it")
	urgent := halted || gap > starvedAfter || tracer != s.tracer
	s.tracer = tracer
	s.due = s.due || urgent
	if judged && (s.due || now.Sub(s.looked) >= lookEvery) {
		s.due, s.looked = false, now
		s.look(ctx)
	}
}

// starved tells, after the fact, that the role did not run.
func (s *Self) starved(ctx context.Context, gap time.Duration, halted bool) {
	how := "it got no processor"
	if halted {
		how = "it was halted by a signal"
	}
	f := finding.New(finding.SelfStarved, fmt.Sprintf("%s for %d s", how, int(gap.Seconds())))
	s.record(ctx, event.Event{Type: event.FindingIncident, Subject: "process", Severity: f.Severity, Finding: &f})
}

// look compares everything with what it should be.
func (s *Self) look(ctx context.Context) {
	files, _, err := s.c.Release.Judged(ctx)
	if err != nil {
		return // ctx ended
	}
	seen, err := s.see()
	unseen := ""
	if err != nil {
		unseen = err.Error()
	}
	s.condition(ctx, finding.SelfUnseen, "", err != nil, unseen)
	if err == nil {
		s.program(ctx, files, seen)
	}
	for _, f := range s.c.Files {
		s.file(ctx, files, f)
	}
}

// program judges what is executed.
func (s *Self) program(ctx context.Context, files *baseline.Index, seen process.State) {
	var why []string
	if files != nil {
		if m := files.Lookup(seen.Path, seen.Sum); m != baseline.Known {
			why = append(why, fmt.Sprintf("%s is %s in the release", s.shown(files, seen.Path, seen.Sum), m))
		}
	}
	if seen.Gone {
		why = append(why, "the file was removed, or another lies in its place")
	}
	s.condition(ctx, finding.SelfExecutable, "", len(why) > 0, strings.Join(why, "; "))
	var strange []string
	for _, path := range seen.Strange {
		if strings.HasPrefix(path, "/") {
			path = s.c.Hide(path)
		}
		strange = append(strange, path)
	}
	const most = 8
	if more := len(strange) - most; more > 0 {
		strange = append(strange[:most], fmt.Sprintf("and %d more", more))
	}
	s.condition(ctx, finding.SelfMapping, "", len(strange) > 0, strings.Join(strange, ", "))
	s.condition(ctx, finding.SelfText, "", seen.Written > 0, fmt.Sprintf("%d KiB are not the file's", seen.Written))
}

// shown is a path as it may leave the device.
func (s *Self) shown(files *baseline.Index, path string, sum [32]byte) string {
	if m := files.Lookup(path, sum); m == baseline.Known || m == baseline.ChangedContent {
		return path
	}
	return s.c.Hide(path)
}

// file judges one of the files that tell the daemon what to do.
func (s *Self) file(ctx context.Context, files *baseline.Index, f File) {
	sum, text, err := content(f.Path)
	var match baseline.Match
	if err == nil && files != nil {
		match = files.Lookup(f.Path, sum)
	}
	why := ""
	switch before := s.begun[f.Path]; {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		why = "it cannot be read"
	case match == baseline.Known:
	case match == baseline.ChangedContent:
		why = "the release has another content"
	case sum == before:
	case err != nil:
		why = "it was removed since the start"
	case f.Genuine != nil && f.Genuine(text):
	case before == [32]byte{}:
		why = "it was not there at the start"
	default:
		why = "it was changed since the start"
	}
	s.condition(ctx, finding.SelfConfig, f.Path, why != "", why)
}

// condition raises or clears a condition where that is news.
func (s *Self) condition(ctx context.Context, code finding.Code, path string, holds bool, detail string) {
	key := string(code) + "\x00" + path
	before, held := s.raised[key]
	if holds == held && (!holds || before == detail) {
		return
	}
	f := finding.New(code, detail)
	e := event.Event{Type: event.FindingRaised, Subject: "process", Severity: f.Severity, Finding: &f}
	if path != "" {
		f = f.On(path)
		e.Subject = path
	}
	if holds {
		s.raised[key] = detail
	} else {
		delete(s.raised, key)
		f.Detail, e.Type = "it is as it should be again", event.FindingCleared
	}
	s.record(ctx, e)
}

func (s *Self) record(ctx context.Context, e event.Event) {
	if err := s.c.Recorder.Record(ctx, e); err != nil {
		s.c.Log.Error("record event", "type", e.Type, "error", err)
	}
}

// maxFile bounds the files that tell the daemon what to do; a manifest is the largest.
const maxFile = 4 << 20

// content is what a file holds and its digest, the zero one where there is none.
func content(path string) (sum [32]byte, text []byte, err error) {
	if text, err = anchors.Read(path, maxFile); err != nil {
		return sum, nil, err
	}
	return sha256.Sum256(text), text, nil
}
