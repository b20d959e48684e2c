package integrity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// burst is how many incidents are recorded one by one within one window;
	// more are a storm, which is counted and summed up at the window's end.
	burst  = 16
	window = 10 * time.Second
	// maxSeen bounds what is remembered as recorded. Beyond it the memory
	// begins anew: the kernel itself lists the same path and content once.
	maxSeen = 4096
	// subject is that of the conditions, as in the verdict's findings.
	subject = "ima"
)

// reporter records incidents once and within bounds, and the conditions of the
// list itself.
type reporter struct {
	recorder Recorder
	log      *slog.Logger

	seen     map[[16]byte]struct{} // by code, path and content
	began    time.Time             // of the window
	recorded int                   // in this window, one by one
	held     map[finding.Code]*storm
	faulty   finding.Code // raised: the list cannot be followed
	blind    bool         // raised: there is no baseline
}

// storm is what one code has held back in a window.
type storm struct {
	last  finding.Finding
	count int
}

func newReporter(r Recorder, log *slog.Logger) reporter {
	return reporter{recorder: r, log: log, seen: make(map[[16]byte]struct{}), held: make(map[finding.Code]*storm)}
}

// incident records a finding once in this run, the first ones of a window at
// once.
func (r *reporter) incident(ctx context.Context, f finding.Finding) {
	sum := sha256.Sum256([]byte(string(f.Code) + "\x00" + f.Path + "\x00" + f.Found))
	key := [16]byte(sum[:])
	if _, again := r.seen[key]; again {
		return
	}
	if len(r.seen) == maxSeen {
		clear(r.seen)
	}
	r.seen[key] = struct{}{}
	r.tick(ctx)
	if r.recorded == 0 {
		r.began = time.Now()
	}
	r.recorded++
	if r.recorded <= burst {
		r.record(ctx, event.FindingIncident, f.Path, f)
		return
	}
	if r.held[f.Code] == nil {
		r.held[f.Code] = new(storm)
	}
	r.held[f.Code].last = f
	r.held[f.Code].count++
}

// tick ends the window when it is over.
func (r *reporter) tick(ctx context.Context) {
	if r.recorded > 0 && time.Since(r.began) >= window {
		r.flush(ctx)
	}
}

// flush sums up what was held back, one event a code.
func (r *reporter) flush(ctx context.Context) {
	took := time.Since(r.began).Round(time.Second)
	for _, code := range slices.Sorted(maps.Keys(r.held)) {
		s := r.held[code]
		f := s.last
		f.Detail = fmt.Sprintf("suppressed: %d findings of this kind within %s have no event of their own; this is the last of them", s.count, took)
		r.record(ctx, event.FindingIncident, f.Path, f)
	}
	clear(r.held)
	r.recorded = 0
}

// baseline raises and clears the condition of having nothing to compare with.
func (r *reporter) baseline(ctx context.Context, there bool) {
	switch {
	case !there && !r.blind:
		r.record(ctx, event.FindingRaised, subject, finding.New(finding.IMANotJudged, "there is no trusted file baseline: only violations can be told"))
	case there && r.blind:
		r.record(ctx, event.FindingCleared, subject, finding.New(finding.IMANotJudged, "there is a trusted file baseline"))
	}
	r.blind = !there
}

// fault raises the condition of a list that cannot be followed.
func (r *reporter) fault(ctx context.Context, err error) {
	code := finding.IMAUnreadable
	if errors.Is(err, fs.ErrNotExist) {
		code = finding.IMAAbsent
	}
	if err == nil || r.faulty == code {
		return
	}
	r.mended(ctx)
	r.faulty = code
	r.record(ctx, event.FindingRaised, subject, finding.New(code, err.Error()))
}

// mended clears what fault raised.
func (r *reporter) mended(ctx context.Context) {
	if r.faulty == "" {
		return
	}
	f := finding.New(r.faulty, "the list is followed again")
	r.faulty = ""
	r.record(ctx, event.FindingCleared, subject, f)
}

func (r *reporter) record(ctx context.Context, kind, subject string, f finding.Finding) {
	e := event.Event{Type: kind, Time: time.Now(), Subject: subject, Severity: f.Severity, Finding: &f}
	if err := r.recorder.Record(ctx, e); err != nil {
		r.log.Error("record event", "type", kind, "code", string(f.Code), "error", err)
	}
}
