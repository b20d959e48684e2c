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
)

// differences names the events that make a PCR differ from the release: digests
// compared in their order, so that an event that was put in, taken out or
// replaced is named and those around it are not. Where one stands in the place
// of another the finding holds both.
func differences(log *parsedLog, bank pcr.Algorithm, index int, ref release.Reference) []finding.Finding {
	if len(ref.Events) == 0 {
		return nil
	}
	events := extending(log, bank, index)
	changes, ok := diff(len(ref.Events), len(events), func(i, j int) bool {
		d, _ := events[j].Digest(bank)
		return bytes.Equal(ref.Events[i].Digest, d)
	})
	if !ok {
		return []finding.Finding{finding.New(finding.BootEventUnexpected,
			fmt.Sprintf("PCR %d has %d events where the release has %d: too many to name those that differ", index, len(events), len(ref.Events))).At(index)}
	}
	var fs []finding.Finding
	for n, c := range changes {
		if n == maxFindings {
			last := &fs[len(fs)-1]
			last.Detail += fmt.Sprintf("; %d more differences are not listed", len(changes)-n)
			break
		}
		fs = append(fs, difference(index, bank, ref, events, c))
	}
	return fs
}

func difference(index int, bank pcr.Algorithm, ref release.Reference, events []eventlog.Event, c change) finding.Finding {
	if c.found < 0 {
		want := ref.Events[c.expected]
		return finding.New(finding.BootEventMissing,
			fmt.Sprintf("PCR %d: event %d of the release's %d is missing, digest %s", index, c.expected+1, len(ref.Events), want.Digest)).
			At(index).Want(referenceText(index, want), "")
	}
	e := events[c.found]
	digest, _ := e.Digest(bank)
	f := finding.New(finding.BootEventUnexpected, fmt.Sprintf("PCR %d: digest %s is not the release's", index, digest)).
		At(index).AtIndex(e.Index).AtOffset(e.Offset)
	if c.expected < 0 {
		return f.Want("", describe(e))
	}
	want := ref.Events[c.expected]
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
func relabelled(log *parsedLog, bank pcr.Algorithm, index int, ref release.Reference) []finding.Finding {
	events := extending(log, bank, index)
	if len(events) != len(ref.Events) {
		return nil
	}
	var fs []finding.Finding
	for n, e := range events {
		want := ref.Events[n]
		digest, _ := e.Digest(bank)
		if !bytes.Equal(digest, want.Digest) {
			return nil // another accepted value than the one that the events explain
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
