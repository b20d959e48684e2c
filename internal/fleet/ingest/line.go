package ingest

import (
	"fmt"
	"strings"
	"unicode"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/verdict"
)

// Line is one line for a timeline: time, device, severity, code or type, and
// what it is about. Texts of devices are stripped of control characters.
func (r Received) Line() string {
	severity, code, what := "-", string(r.Kind), ""
	switch r.Kind {
	case KindEvent:
		severity, code, what = r.Event.Severity.String(), r.Event.Type, r.Event.Subject
		if f := r.Event.Finding; f != nil {
			code, what = string(f.Code), describe(*f)
			if suffix, ok := strings.CutPrefix(r.Event.Type, "ward.finding."); ok && suffix != "incident" {
				code += " " + suffix
			}
			if by := event.ReportLine(r.Event.Report); by != "" {
				what += " (" + by + ")"
			}
		} else if len(r.Event.Report) > 0 {
			what = event.ReportLine(r.Event.Report)
		}
		if r.Event.Repeated != nil {
			what += " (" + event.RepeatedLine(*r.Event.Repeated) + ")"
		}
		what = fmt.Sprintf("%s [%d/%d]", what, r.Event.Epoch, r.Event.Sequence)
		if r.Held {
			what += " held: no receipt covers it"
		}
	case KindStatus:
		code, what = "status."+r.Status.State, describeStatus(r.Status)
		if r.Retained {
			what += " (kept by the broker)"
		}
	case KindFinding:
		severity, code, what = r.Finding.Severity.String(), string(r.Finding.Code), describe(*r.Finding)+" [seen by the fleet]"
		if r.Cleared {
			code += " cleared"
		}
	case KindVerdict:
		severity, code, what = severityOf(*r.Verdict), "verdict."+r.Verdict.Verdict.String(), describeVerdict(*r.Verdict)
	case KindShed:
		code, what = "shed", fmt.Sprintf("record %d/%d has no content any more", r.Epoch, r.Sequence)
	case KindReceipt:
		code, what = "receipt", fmt.Sprintf("confirmed up to record %d", r.Sequence)
	}
	return printable(fmt.Sprintf("%s  %-16s %-8s %-28s %s", r.At.Format("2006-01-02T15:04:05.000Z07:00"), r.Device, severity, code, what))
}

func describe(f finding.Finding) string {
	var parts []string
	if d, ok := finding.Lookup(f.Code); ok {
		parts = append(parts, d.Title)
	}
	for _, p := range []string{f.Path, f.Detail} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ": ")
}

// maxShown is how many findings of a verdict stand in its line.
const maxShown = 3

func severityOf(v verdict.Verdict) string {
	if len(v.Findings) == 0 {
		return "-"
	}
	return finding.Worst(v.Findings).String()
}

func describeVerdict(v verdict.Verdict) string {
	release := "an unknown release"
	if v.Version != "" {
		release = "release " + v.Version
	}
	text := fmt.Sprintf("boot %s, %s, %d events, %d IMA entries", v.Boot, release, v.Events, v.IMAEntries)
	if c := v.Components; c != nil {
		text += fmt.Sprintf(", %d of %d components ran", len(c.Running), c.Known)
	}
	if !v.Asked {
		text += ", unasked"
	}
	for i, f := range v.Findings {
		if i == maxShown {
			return fmt.Sprintf("%s; and %d findings more", text, len(v.Findings)-i)
		}
		text += fmt.Sprintf("; %s: %s", f.Code, describe(f))
	}
	return text
}

func describeStatus(s presence.Status) string {
	text := fmt.Sprintf("session %d, epoch %d, boot %s", s.Session, s.Epoch, s.Boot)
	if s.Release != "" {
		text += ", release " + s.Release
	}
	return text
}

func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '\ufffd'
	}, s)
}
