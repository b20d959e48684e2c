package attester

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"time"

	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// maxEvents bounds the findings that become events of their own in one round,
// the gravest first; the verdict says how many there were.
const maxEvents = 64

// verdictSubject is the subject of a verdict's event.
const verdictSubject = "boot"

// Verdict is the report of a ward.boot.verdict event.
type Verdict struct {
	Verdict    appraisal.Tier                     `json:"verdict"`
	Claims     map[appraisal.Claim]appraisal.Tier `json:"claims"`
	BringUp    bool                               `json:"bringUp"`
	Events     int                                `json:"events"`
	IMAEntries int                                `json:"imaEntries"`
	Release    *Release                           `json:"release,omitempty"` // absent: none was accepted
	PCRs       map[int]PCR                        `json:"pcrs"`              // those that were extended
	Findings   int                                `json:"findings"`          // all of them
	Unlisted   int                                `json:"unlisted"`          // of these, without an event of their own
	TookMS     float64                            `json:"tookMs"`            // from the daemon's start, the TPM's time excluded
	TPMMS      float64                            `json:"tpmMs"`
}

// Release names the release that the boot was judged against.
type Release struct {
	Product string `json:"product"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // SHA-256 of the manifest
}

// PCR is what became of one register.
type PCR struct {
	Value pcr.Digest      `json:"value,omitempty"`
	State appraisal.State `json:"state"`
}

// severities of a verdict's event.
var severities = map[appraisal.Tier]finding.Severity{
	appraisal.None:            finding.High,
	appraisal.Affirming:       finding.Info,
	appraisal.Warning:         finding.Medium,
	appraisal.Contraindicated: finding.Critical,
}

// reported is what the earlier rounds of this run said, so that a later round
// records what changed and nothing else.
type reported struct {
	verdict    string                     // of the last event, without its times
	conditions map[string]finding.Finding // raised and not cleared, by code and subject
	incidents  map[string]bool            // recorded, by code, subject and content
	ran        bool                       // what ran was compared with a baseline: from then on others follow the list
}

func newReported() reported {
	return reported{conditions: make(map[string]finding.Finding), incidents: make(map[string]bool)}
}

// report records the verdict, then each finding, then what no longer holds.
func (a *Attester) report(ctx context.Context, s Snapshot) {
	fs := slices.Clone(s.Result.Findings)
	for i := range fs {
		fs[i].Path = a.discreet(fs[i])
	}
	sort.SliceStable(fs, func(x, y int) bool { return fs[x].Severity > fs[y].Severity })
	listed, unlisted := a.choose(ctx, fs)

	v := verdictOf(s, unlisted)
	if text := fmt.Sprint(v.Verdict, v.Claims, v.Release, v.Findings); text != a.reported.verdict {
		a.reported.verdict = text
		a.config.Log.Info("boot appraised", "verdict", v.Verdict.String(), "events", v.Events, "ima_entries", v.IMAEntries,
			"findings", v.Findings, "took_ms", v.TookMS, "tpm_ms", v.TPMMS)
		a.recordVerdict(ctx, v)
	}
	holds := make(map[string]bool, len(listed))
	for _, f := range listed {
		key := string(f.Code) + "\x00" + subject(f)
		holds[key] = true
		a.raise(ctx, key, f)
	}
	a.reported.ran = a.reported.ran || s.Baseline != nil
	for _, key := range slices.Sorted(maps.Keys(a.reported.conditions)) {
		if f := a.reported.conditions[key]; !holds[key] {
			delete(a.reported.conditions, key)
			a.record(ctx, event.Event{Type: event.FindingCleared, Subject: subject(f), Severity: f.Severity, Finding: &f})
		}
	}
}

func (a *Attester) recordVerdict(ctx context.Context, v Verdict) {
	report, err := json.Marshal(v)
	if err != nil {
		a.config.Log.Error("encode verdict", "error", err)
		return
	}
	severity := severities[v.Verdict]
	if v.BringUp {
		severity = finding.Medium
	}
	a.record(ctx, event.Event{Type: event.BootVerdict, Subject: verdictSubject, Severity: severity, Report: report})
}

// choose picks the findings that become events: conditions that hold, and incidents
// that were not told in this boot, of the first round that could tell them. The
// rest, for which there is no room, is counted.
func (a *Attester) choose(ctx context.Context, fs []finding.Finding) (listed []finding.Finding, unlisted int) {
	for _, f := range fs {
		switch {
		case isIncident(f) && a.reported.ran:
		case len(listed) == maxEvents:
			unlisted++
		case isIncident(f) && !a.config.First(ctx, subject(f), f):
		default:
			listed = append(listed, f)
		}
	}
	return listed, unlisted
}

func isIncident(f finding.Finding) bool {
	d, ok := finding.Lookup(f.Code)
	return ok && d.Kind == finding.Incident
}

// first is First for who has no memory beyond this run.
func (r *reported) first(_ context.Context, subject string, f finding.Finding) bool {
	key := string(f.Code) + "\x00" + subject + "\x00" + f.Found
	again := r.incidents[key]
	r.incidents[key] = true
	return !again
}

// raise records an incident, and a condition that was not raised before.
func (a *Attester) raise(ctx context.Context, key string, f finding.Finding) {
	kind := event.FindingIncident
	if !isIncident(f) {
		if _, ok := a.reported.conditions[key]; ok {
			return
		}
		a.reported.conditions[key], kind = f, event.FindingRaised
	}
	a.record(ctx, event.Event{Type: kind, Subject: subject(f), Severity: f.Severity, Finding: &f})
}

func (a *Attester) record(ctx context.Context, e event.Event) {
	e.Time = time.Now()
	if err := a.config.Recorder.Record(ctx, e); err != nil {
		a.config.Log.Error("record event", "type", e.Type, "subject", e.Subject, "error", err)
	}
}

// subject names what a finding is about: the key of a condition beside its code.
// The conditions of the IMA list have one subject, for other roles clear them.
func subject(f finding.Finding) string {
	area := f.Code.Area()
	switch {
	case f.Path != "":
		return f.Path
	case f.PCR == nil || area != "boot":
		return area
	case f.Index != nil:
		return fmt.Sprintf("pcr/%d/event/%d", *f.PCR, *f.Index)
	case f.Code == finding.BootEventMissing:
		return fmt.Sprintf("pcr/%d/%s", *f.PCR, f.Expected)
	}
	return "pcr/" + strconv.Itoa(*f.PCR)
}

func verdictOf(s Snapshot, unlisted int) Verdict {
	r := s.Result
	v := Verdict{
		Verdict: r.Verdict, Claims: r.Claims, BringUp: r.BringUp, Events: r.Events, IMAEntries: r.IMAEntries,
		PCRs: make(map[int]PCR), Findings: len(r.Findings), Unlisted: unlisted,
		TookMS: milliseconds(s.Took), TPMMS: milliseconds(s.TPM),
	}
	for i, p := range r.PCRs {
		if p.State != appraisal.Reset {
			v.PCRs[i] = PCR{Value: p.Measured, State: p.State}
		}
	}
	if s.Release != nil {
		m, digest := s.Release.Manifest(), s.Release.Digest()
		v.Release = &Release{Product: m.Product, Version: m.Version, Digest: hex.EncodeToString(digest[:])}
	}
	return v
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
