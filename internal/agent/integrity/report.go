package integrity

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// maxSeen bounds what is remembered as recorded. Beyond it the memory
	// begins anew: the kernel itself lists the same path and content once.
	maxSeen = 4096
	// subject is that of the conditions, as in the verdict's findings.
	subject = "ima"
)

// reporter records incidents once, and the conditions of the list itself.
type reporter struct {
	recorder Recorder
	log      *slog.Logger

	seen   map[[16]byte]struct{} // by code, path and content
	faulty finding.Code          // raised: the list cannot be followed
	blind  bool                  // raised: there is no baseline
}

func newReporter(r Recorder, log *slog.Logger) reporter {
	return reporter{recorder: r, log: log, seen: make(map[[16]byte]struct{})}
}

// incident records a finding once in this run. How many of them go into the record
// is bounded before the journal (package storm), for all roles alike.
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
	r.record(ctx, event.FindingIncident, f.Path, f)
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
