package appraisal

import (
	"errors"
	"fmt"
	"strings"

	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
)

// An oddity is how the appraisal takes one kind of anomaly.
type oddity struct {
	code     finding.Code
	severity finding.Severity
	tier     Tier
	ends     bool // nothing behind it was read
}

// oddities: a log that breaks a rule can still explain the registers, so most
// kinds are a warning. Kinds that are not listed say nothing.
var oddities = map[eventlog.AnomalyKind]oddity{
	eventlog.Truncated:         {finding.BootLogTruncated, finding.High, Warning, true},
	eventlog.TrailingData:      {finding.BootLogAnomaly, finding.Medium, Warning, true},
	eventlog.Malformed:         {finding.BootLogUnreadable, finding.High, None, true},
	eventlog.PCROutOfRange:     {finding.BootLogAnomaly, finding.Medium, Warning, false},
	eventlog.DigestMissing:     {finding.BootLogAnomaly, finding.Medium, Warning, false},
	eventlog.DigestRepeated:    {finding.BootLogAnomaly, finding.Medium, Warning, false},
	eventlog.NoActionDigest:    {finding.BootLogAnomaly, finding.Low, Warning, false},
	eventlog.LocalityMisplaced: {finding.BootLogAnomaly, finding.Medium, Warning, false},
	eventlog.LocalityRepeated:  {finding.BootLogAnomaly, finding.Medium, Warning, false},
	eventlog.LocalityUnknown:   {finding.BootLogAnomaly, finding.Medium, Warning, false},
	eventlog.SeparatorMissing:  {finding.BootLogAnomaly, finding.High, Warning, false},
	eventlog.SeparatorRepeated: {finding.BootLogAnomaly, finding.High, Warning, false},
	eventlog.SeparatorError:    {finding.BootLogAnomaly, finding.High, Warning, false},
	eventlog.SeparatorUnknown:  {finding.BootLogAnomaly, finding.High, Warning, false},
}

// EventLogFindings are the findings about a log by itself, without registers or
// a release: one for each anomaly that is no honest oddity.
func EventLogFindings(log *eventlog.Log) []finding.Finding {
	var fs []finding.Finding
	for _, a := range log.Anomalies {
		o, ok := oddities[a.Kind]
		if !ok {
			continue
		}
		f := finding.New(o.code, fmt.Sprintf("%s: %s", a.Kind, a.Detail)).AtOffset(a.Offset)
		f.Severity = o.severity
		if a.PCR >= 0 && a.PCR < pcr.Count {
			f = f.At(a.PCR)
		}
		if a.Index >= 0 {
			f = f.AtIndex(a.Index)
		}
		fs = append(fs, f)
	}
	return fs
}

// EventLogProblem is the finding about a log that gives nothing to replay; err
// is what eventlog.Parse returned.
func EventLogProblem(err error) finding.Finding {
	if errors.Is(err, eventlog.ErrEmpty) {
		return finding.New(finding.BootLogEmpty, "the file has no bytes")
	}
	return finding.New(finding.BootLogUnreadable, err.Error())
}

// parsedLog is a log with what the appraisal needs to know of it.
type parsedLog struct {
	*eventlog.Log
	whole bool
}

// judgeEventLog reads the log and sets its claim; nil when it cannot be read.
func judgeEventLog(res *Result, e evidence.Evidence) *parsedLog {
	if e.EventLogError != "" {
		res.lower(ClaimEventLog, None)
		res.find(finding.New(finding.BootLogUnreadable, e.EventLogError))
		return nil
	}
	log, err := eventlog.Parse(e.EventLog)
	if err != nil {
		res.lower(ClaimEventLog, None)
		res.find(EventLogProblem(err))
		return nil
	}
	res.Events = len(log.Events)
	res.lower(ClaimEventLog, Affirming)
	res.find(EventLogFindings(log)...)
	whole := true
	for _, a := range log.Anomalies {
		if o, ok := oddities[a.Kind]; ok {
			res.lower(ClaimEventLog, o.tier)
			whole = whole && !o.ends
		}
	}
	return &parsedLog{log, whole}
}

// replay computes the PCRs that the log gives; nil when it gives none.
func replay(res *Result, e evidence.Evidence, log *parsedLog) *pcr.Bank {
	if log == nil {
		return nil
	}
	bank, err := log.Replay(e.Bank)
	if err != nil {
		res.lower(ClaimEventLog, None)
		res.find(finding.New(finding.BootLogUnreadable, err.Error()))
		return nil
	}
	return bank
}

// extending lists the events that extended a PCR of a bank, in their order.
func extending(log *parsedLog, bank pcr.Algorithm, index int) []eventlog.Event {
	if log == nil {
		return nil
	}
	var events []eventlog.Event
	for _, e := range log.Events {
		if e.PCR != index || e.Type == eventlog.EVNoAction {
			continue
		}
		if _, ok := e.Digest(bank); ok {
			events = append(events, e)
		}
	}
	return events
}

// maxText bounds what a finding repeats of an event, in bytes.
const maxText = 200

// describe says which event it is.
func describe(e eventlog.Event) string {
	return shownText(e.PCR, e.Type.String(), bootevent.Describe(e))
}

// kernelConfig is the PCR into which systemd's stub measures command lines and
// credentials from beside the kernel image, logged word by word (UAPI group,
// Linux TPM PCR Registry).
const kernelConfig = 12

// commandMarks begin the command lines that boot loaders log.
var commandMarks = []string{"grub_cmd:", "grub_kernel_cmdline", "kernel_cmdline:", "module_cmdline:"}

const withheld = "(not repeated)"

// shownText joins an event's type with the text about it, within maxText bytes.
// A payload holds no command lines: they are withheld.
func shownText(index int, kind, text string) string {
	if index == kernelConfig && kind == eventlog.EVIPL.String() {
		text = withheld
	}
	for _, mark := range commandMarks {
		if at := strings.Index(text, mark); at >= 0 {
			text = text[:at+len(mark)] + " " + withheld
		}
	}
	if text == "" {
		return kind
	}
	text = kind + " " + text
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}
