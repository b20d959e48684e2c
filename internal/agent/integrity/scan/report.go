package scan

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Subjects of the conditions.
const (
	subjectScan  = "scan"
	subjectFiles = "files"
)

func hexDigest(d [32]byte) string { return hex.EncodeToString(d[:]) }

// tell records a difference, once in this boot, and says whether it is one that the
// release does not allow.
func (s *Scanner) tell(ctx context.Context, d diff.Difference, named bool, ignore []string) bool {
	f, told := d.Finding()
	if !told || f.Code == finding.FileNew && f.Severity < finding.High && within(d.Path, ignore) {
		return false
	}
	if !named {
		f.Path = s.c.Hide(strings.Clone(d.Path))
	}
	if s.c.First(ctx, f.Path, f) {
		s.record(ctx, event.FindingIncident, f.Path, f)
	}
	return true
}

func within(path string, folders []string) bool {
	for _, f := range folders {
		if baseline.Within(path, f) {
			return true
		}
	}
	return false
}

// restore tells what held at the end of the boot before: nobody has looked since.
func (s *Scanner) restore(ctx context.Context) {
	s.mu.Lock()
	last, told := s.state.Last, s.state.Differ
	s.mu.Unlock()
	if told == "" && last != nil && last.Differences() > 0 {
		s.differ(ctx, *last)
	}
}

// Report is that of a ward.integrity.scan event.
type Report struct {
	Verdict       string  `json:"verdict"` // "clean", "differs", "failed"
	Reason        string  `json:"reason"`
	Full          bool    `json:"full"`
	Seconds       float64 `json:"seconds"` // those of a pause included, those without the daemon not
	PausedSeconds float64 `json:"pausedSeconds"`
	Counts
	Mounts []Mount `json:"mounts"`
	Error  string  `json:"error,omitempty"`
}

// Verdicts of a report.
const (
	Clean   = "clean"
	Differs = "differs"
	Failed  = "failed"
)

// finish notes the end of a scan and tells of it. The error says why it did not
// come to its end.
func (s *Scanner) finish(ctx context.Context, err error, pass *Pass) {
	s.mu.Lock()
	r := Report{
		Verdict: Clean, Reason: s.state.Reason, Full: s.state.Full, Seconds: s.state.Spent.Seconds(), PausedSeconds: s.state.Paused.Seconds(),
		Counts: s.status.Counts, Mounts: s.status.Mounts,
	}
	if pass != nil {
		r.Counts, r.Mounts = pass.Counts, pass.Mounts
	}
	switch {
	case err != nil:
		r.Verdict, r.Error = Failed, event.Visible(err.Error())
	case r.Differences() > 0:
		r.Verdict = Differs
	}
	s.state.Position, s.state.Counts = "", Counts{}
	interrupted := s.state.Interrupted
	s.state.Interrupted = err != nil
	if err == nil {
		s.state.Last, s.state.Waiting, s.state.At = &r.Counts, 0, s.c.Now()
	}
	s.ended++
	s.status = Status{State: Waiting, Last: &r, LastAt: time.Now(), Total: s.status.Total}
	s.mu.Unlock()

	switch {
	case err != nil && !interrupted:
		s.record(ctx, event.FindingRaised, subjectScan, finding.New(finding.ScanInterrupted, r.Error))
	case err == nil && interrupted:
		s.record(ctx, event.FindingCleared, subjectScan, finding.New(finding.ScanInterrupted, "a scan has come to its end"))
	}
	if err == nil {
		s.differ(ctx, r.Counts)
		s.overdue(ctx)
	}
	severity := finding.Info
	if r.Verdict != Clean {
		severity = finding.Low // what it found has findings of its own
	}
	b, encodeErr := json.Marshal(&r)
	if encodeErr != nil {
		s.c.Log.Error("encode report of a scan", "error", encodeErr)
		return
	}
	s.recordEvent(ctx, event.Event{Type: event.IntegrityScan, Time: time.Now(), Subject: subjectFiles, Severity: severity, Report: b})
	s.save()
}

// differ raises and clears the condition that files differ from the release.
func (s *Scanner) differ(ctx context.Context, c Counts) {
	detail := ""
	if c.Differences() > 0 {
		detail = fmt.Sprintf("%d changed, %d missing, %d new, %d not readable", c.Changed, c.Missing, c.New, c.Unreadable)
	}
	s.mu.Lock()
	before := s.state.Differ
	s.state.Differ = detail
	s.mu.Unlock()
	switch {
	case detail == before:
	case detail == "":
		s.record(ctx, event.FindingCleared, subjectFiles, finding.New(finding.FilesDiffer, "a full scan found every file as the release has it"))
	default:
		s.record(ctx, event.FindingRaised, subjectFiles, finding.New(finding.FilesDiffer, detail))
	}
}

// overdue raises the condition that no scan has come to its end for too long, and
// clears it.
func (s *Scanner) overdue(ctx context.Context) {
	bound := time.Duration(s.c.Policy().Scan.OverdueSeconds) * time.Second
	s.mu.Lock()
	late := s.state.Waiting + s.c.Now() - s.state.At
	is, was := late >= bound, s.state.Overdue
	s.state.Overdue = is
	what := s.status.State
	s.mu.Unlock()
	switch {
	case is && !was:
		s.record(ctx, event.FindingRaised, subjectScan, finding.New(finding.ScanOverdue, fmt.Sprintf("for %s no full scan has come to its end; now: %s", late.Round(time.Second), what)))
	case was && !is:
		s.record(ctx, event.FindingCleared, subjectScan, finding.New(finding.ScanOverdue, "a full scan has come to its end"))
	}
}

func (s *Scanner) record(ctx context.Context, kind, subject string, f finding.Finding) {
	s.recordEvent(ctx, event.Event{Type: kind, Time: time.Now(), Subject: subject, Severity: f.Severity, Finding: &f})
}

func (s *Scanner) recordEvent(ctx context.Context, e event.Event) {
	if err := s.c.Recorder.Record(ctx, e); err != nil {
		s.c.Log.Error("record event", "type", e.Type, "subject", e.Subject, "error", err)
	}
}
