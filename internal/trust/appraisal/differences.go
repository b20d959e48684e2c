package appraisal

import (
	"bytes"
	"fmt"
	"strings"

	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
	"ward/internal/trust/sequence"
)

// differences names the events that make a PCR differ from the release: digests
// compared in their order, so that an event that was put in, taken out or
// replaced is named and those around it are not. Where one stands in the place
// of another the finding holds both.
func differences(log *parsedLog, bank pcr.Algorithm, index int, value release.Value) []finding.Finding {
	want := value.Events
	if len(want) == 0 && !pcr.IsReset(bank, index, value.Digest) {
		return nil // the release does not say what makes up the value
	}
	events := extending(log, bank, index)
	changes, ok := sequence.Diff(len(want), len(events), func(i, j int) bool {
		d, _ := events[j].Digest(bank)
		return bytes.Equal(want[i].Digest, d)
	})
	if !ok {
		return []finding.Finding{finding.New(finding.BootEventUnexpected,
			fmt.Sprintf("PCR %d has %d events where the release has %d: too many to name those that differ", index, len(events), len(want))).At(index)}
	}
	fs := make([]finding.Finding, 0, min(len(changes), maxFindings+1))
	for _, c := range changes {
		fs = append(fs, difference(index, bank, want, events, c))
	}
	return bounded(fs, "differences")
}

func difference(index int, bank pcr.Algorithm, reference []release.ReferenceEvent, events []eventlog.Event, c sequence.Change) finding.Finding {
	if c.Found < 0 {
		want := reference[c.Expected]
		return finding.New(finding.BootEventMissing,
			fmt.Sprintf("PCR %d: event %d of the release's %d is missing, digest %s", index, c.Expected+1, len(reference), want.Digest)).
			At(index).Want(referenceText(index, want), "")
	}
	e := events[c.Found]
	digest, _ := e.Digest(bank)
	f := finding.New(finding.BootEventUnexpected, fmt.Sprintf("PCR %d: digest %s is not the release's", index, digest)).
		At(index).AtIndex(e.Index).AtOffset(e.Offset)
	if c.Expected < 0 {
		return f.Want("", describe(e))
	}
	want := reference[c.Expected]
	f.Detail = fmt.Sprintf("PCR %d: digest %s in the place of the release's %s", index, digest, want.Digest)
	return f.Want(referenceText(index, want), describe(e))
}

// referenceText says which event of the release it is, as describe does.
func referenceText(index int, e release.ReferenceEvent) string {
	return shownText(index, e.Type, e.Text)
}

// relabelled finds events whose digests are the release's and whose labels are
// not: another type, or data that no longer hash to the digest. Registers say
// nothing about labels; somebody changed the log on its way.
func relabelled(log *parsedLog, bank pcr.Algorithm, index int, reference []release.ReferenceEvent) []finding.Finding {
	events := extending(log, bank, index)
	if len(events) != len(reference) {
		return nil
	}
	var fs []finding.Finding
	for n, e := range events {
		want := reference[n]
		digest, _ := e.Digest(bank)
		if !bytes.Equal(digest, want.Digest) {
			return nil // events of another making of the same value: nothing to compare
		}
		typeDiffers := e.Type.String() != want.Type
		dataDiffers := want.Text != "" && !untrusted(want.Text) && untrusted(bootevent.Describe(e))
		if !typeDiffers && !dataDiffers || len(fs) == maxFindings {
			continue
		}
		f := finding.New(finding.BootLogAnomaly, fmt.Sprintf("PCR %d: the event's digest is the release's, its label is not", index)).
			At(index).AtIndex(e.Index).AtOffset(e.Offset).Want(referenceText(index, want), describe(e))
		f.Severity = finding.High
		fs = append(fs, f)
	}
	return fs
}

// untrusted tells a description of data that do not hash to the digest.
func untrusted(text string) bool { return strings.HasPrefix(text, "untrusted:") }
