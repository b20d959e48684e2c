package posture

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/posture"
)

// maxTold is how many values an event of change lists of each kind.
const maxTold = 16

// change is the report of an event: what of a claim is another than before. More
// counts values that are not listed.
type change struct {
	Claim   string   `json:"claim"`
	Reason  string   `json:"reason"` // why the look was taken: start, scheduled, module, mount, ...
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	More    int      `json:"more,omitempty"`
	Absent  bool     `json:"absent,omitempty"` // there is no such thing any more
	Error   string   `json:"error,omitempty"`  // it can be read no more, and why
}

// reporter holds one condition a claim.
type reporter struct {
	recorder Recorder
	hide     func(string) string
	log      *slog.Logger

	held map[string]finding.Finding // raised, by the claim's name
}

func newReporter(r Recorder, hide func(string) string, log *slog.Logger) reporter {
	return reporter{recorder: r, hide: hide, log: log, held: make(map[string]finding.Finding)}
}

// judge raises what is wrong and was not told so, and clears what was and is no
// more.
func (r *reporter) judge(ctx context.Context, policy *posture.Policy, claims []posture.Claim) {
	now := make(map[string]finding.Finding)
	judgements := posture.Judgements(policy, posture.Conceal(policy, claims, r.hide))
	for _, j := range judgements {
		now[j.Claim] = j.Finding
	}
	for _, claim := range slices.Sorted(maps.Keys(r.held)) {
		was := r.held[claim]
		if is, still := now[claim]; !still || is.Code != was.Code {
			delete(r.held, claim)
			r.finding(ctx, event.FindingCleared, claim, finding.New(was.Code, claim+": this is so no more"))
		}
	}
	for _, j := range judgements {
		if was, held := r.held[j.Claim]; !held || was.Detail != j.Finding.Detail {
			r.held[j.Claim] = j.Finding
			r.finding(ctx, event.FindingRaised, j.Claim, j.Finding)
		}
	}
}

// changes records every claim that is another than before.
func (r *reporter) changes(ctx context.Context, policy *posture.Policy, reason string, before, now []posture.Claim) {
	for i, c := range now {
		was := before[i]
		if slices.Equal(was.Values, c.Values) && was.More == c.More && was.Absent == c.Absent && was.Error == c.Error {
			continue
		}
		d := change{Claim: c.Name, Reason: reason, Absent: c.Absent, Error: c.Error}
		added, removed := posture.Difference(was.Values, c.Values)
		d.Added, d.Removed = r.told(policy, c.Name, added, &d.More), r.told(policy, c.Name, removed, &d.More)
		text, err := json.Marshal(d)
		if err != nil {
			panic("posture: encode change: " + err.Error()) // texts and numbers always encode
		}
		r.record(ctx, event.Event{Type: event.PostureChanged, Time: time.Now(), Subject: posture.Subject(c.Name), Severity: finding.Info, Report: text})
	}
}

// told are values as an event lists them.
func (r *reporter) told(policy *posture.Policy, claim string, values []string, more *int) []string {
	c := posture.Conceal(policy, []posture.Claim{{Name: claim, Values: values}}, r.hide)[0]
	if n := len(c.Values) - maxTold; n > 0 {
		*more += n
		return c.Values[:maxTold]
	}
	return c.Values
}

func (r *reporter) finding(ctx context.Context, kind, claim string, f finding.Finding) {
	r.record(ctx, event.Event{Type: kind, Time: time.Now(), Subject: posture.Subject(claim), Severity: f.Severity, Finding: &f})
}

func (r *reporter) record(ctx context.Context, e event.Event) {
	if err := r.recorder.Record(ctx, e); err != nil {
		r.log.Error("record event", "type", e.Type, "subject", e.Subject, "error", err)
	}
}
