package posture

import (
	"context"
	"encoding/json"
	"log/slog"
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

	held []posture.Judgement // raised
}

// find is what of the judgements is about a claim, nil where none is.
func find(all []posture.Judgement, claim string) *posture.Judgement {
	for i := range all {
		if all[i].Claim == claim {
			return &all[i]
		}
	}
	return nil
}

// judge raises what is wrong and was not told so, and clears what was and is no
// more.
func (r *reporter) judge(ctx context.Context, policy *posture.Policy, claims []posture.Claim) {
	now := posture.Judgements(policy, posture.Conceal(policy, claims, r.hide))
	for i := range r.held {
		was := &r.held[i]
		if is := find(now, was.Claim); is == nil || is.Finding.Code != was.Finding.Code {
			f := was.Finding
			f.Detail = was.Claim + ": this is so no more"
			r.record(ctx, event.FindingCleared, was.Claim, &f, nil)
		}
	}
	for i := range now {
		is := &now[i]
		was := find(r.held, is.Claim)
		if was == nil || is.Finding.Code != was.Finding.Code || is.Finding.Detail != was.Finding.Detail {
			r.record(ctx, event.FindingRaised, is.Claim, &is.Finding, nil)
		}
	}
	r.held = now
}

// changes records every claim that is another than before.
func (r *reporter) changes(ctx context.Context, policy *posture.Policy, reason string, before, now []posture.Claim) {
	for i := range now {
		was, c := &before[i], &now[i]
		added, removed := posture.Difference(was.Values, c.Values)
		if len(added)+len(removed) == 0 && was.More == c.More && was.Absent == c.Absent && was.Error == c.Error {
			continue
		}
		d := change{Claim: c.Name, Reason: reason, Absent: c.Absent, Error: c.Error}
		d.Added, d.Removed = r.told(policy, c.Name, added, &d.More), r.told(policy, c.Name, removed, &d.More)
		text, err := json.Marshal(&d)
		if err != nil {
			panic("posture: encode change: " + err.Error()) // texts and numbers always encode
		}
		r.record(ctx, event.PostureChanged, c.Name, nil, text)
	}
}

// told are values as an event lists them.
func (r *reporter) told(policy *posture.Policy, claim string, values []string, more *int) []string {
	values = posture.Conceal(policy, []posture.Claim{{Name: claim, Values: values}}, r.hide)[0].Values
	if n := len(values) - maxTold; n > 0 {
		*more += n
		values = values[:maxTold]
	}
	return values
}

func (r *reporter) record(ctx context.Context, kind, claim string, f *finding.Finding, report json.RawMessage) {
	e := event.Event{Type: kind, Time: time.Now(), Subject: posture.Subject(claim), Severity: finding.Info, Finding: f, Report: report}
	if f != nil {
		e.Severity = f.Severity
	}
	if err := r.recorder.Record(ctx, e); err != nil {
		r.log.Error("record event", "type", kind, "subject", e.Subject, "error", err)
	}
}
