package appraisal

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"ward/internal/format/eventlog"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// judgeBoot compares the judged registers with the release. user holds what user
// space extended into them, as its own log says; the registers'
// states say whether firmware's and user space's log together explain them. A
// register into which user space extended is compared as the firmware left it.
//
// What is checked, in this order:
//
//  1. which of the accepted firmware the exact registers fit best;
//  2. each exact register holds what belongs to that firmware; where it does
//     not, the events that make the difference are named; where it does, the
//     log's labels are those of the release;
//  3. each event of a register of mode events is one that a rule allows;
//  4. what user space extended is what the release names, in its order.
func judgeBoot(res *Result, e evidence.Evidence, log *parsedLog, boot release.Boot, user userMeasured) {
	list := judged(boot)
	if len(list) == 0 || len(e.PCRs) == 0 {
		res.lower(ClaimBoot, None)
		return
	}
	res.lower(ClaimBoot, Affirming)
	held := firmwareValues(res, e, log, user.records)
	firmware, mixed := fits(boot, held, log, e.Bank)
	res.Firmware = firmware
	for _, i := range list {
		ref := boot.PCRs[i]
		if i == ima.Register {
			res.lower(ClaimBoot, None)
			res.find(finding.New(finding.BootNotJudged, "the release names a value for PCR 10, which grows while the device runs").At(i))
			continue
		}
		p := res.PCRs[i]
		explained := p.State == Recorded || p.State == Reset
		switch {
		case p.State == Unreadable:
			res.lower(ClaimBoot, None)
		case p.State == Unexplained && !user.whole && len(ref.UserEvents) > 0:
			// What user space extended cannot be told from what it may extend.
			res.lower(ClaimBoot, None)
		case ref.Mode == release.Events:
			p.State = judgeEvents(res, log, e.Bank, i, ref, p.State)
		default:
			p.Reference = ref.Digests()
			p.State = judgeExact(res, log, e.Bank, i, ref, held[i], p.State, firmware)
		}
		if explained {
			if judgeUser(res, i, ref, user.records[i]) {
				p.State = Differs
			}
		}
		res.PCRs[i] = p
	}
	if len(mixed) > 0 {
		res.lower(ClaimBoot, Contraindicated)
		res.find(finding.New(finding.FirmwareMixed, fmt.Sprintf("most registers fit firmware %q; PCR %s are those of another one", firmware, numbers(mixed))).
			At(mixed[0]))
	}
}

// firmwareValues are the registers as firmware and kernel left them: what the
// TPM holds, or where user space went on and both logs explain the register,
// what the firmware's log gives.
func firmwareValues(res *Result, e evidence.Evidence, log *parsedLog, user map[int][]userRecord) map[int]pcr.Digest {
	held := make(map[int]pcr.Digest, len(e.PCRs))
	for i, p := range res.PCRs {
		held[i] = p.Measured
	}
	if log == nil || len(user) == 0 {
		return held
	}
	bank, err := log.Replay(e.Bank)
	if err != nil {
		return held
	}
	for i := range user {
		if s := res.PCRs[i].State; s == Recorded || s == Reset {
			held[i] = bank.Value(i)
		}
	}
	return held
}

// fits finds the accepted firmware that most exact registers fit; among equals
// the one whose events go along with the log's the furthest. mixed are the
// registers that hold a value of another accepted firmware instead.
func fits(boot release.Boot, held map[int]pcr.Digest, log *parsedLog, bank pcr.Algorithm) (firmware string, mixed []int) {
	best, bestAlong := -1, 0
	for _, f := range boot.Firmware {
		n, along := 0, 0
		for i, ref := range boot.PCRs {
			v, ok := ref.Of(f)
			switch {
			case ok && bytes.Equal(v.Digest, held[i]):
				n++
			case ok:
				along += common(v.Events, extending(log, bank, i), bank)
			}
		}
		if n > best || n == best && along > bestAlong {
			firmware, best, bestAlong = f, n, along
		}
	}
	for _, i := range judged(boot) {
		ref := boot.PCRs[i]
		if v, ok := ref.Of(firmware); ok && !bytes.Equal(v.Digest, held[i]) && accepted(ref.Values, held[i]) {
			mixed = append(mixed, i)
		}
	}
	return firmware, mixed
}

// common counts the events with which both begin.
func common(want []release.ReferenceEvent, events []eventlog.Event, bank pcr.Algorithm) int {
	n := 0
	for n < len(want) && n < len(events) {
		if d, _ := events[n].Digest(bank); !bytes.Equal(d, want[n].Digest) {
			break
		}
		n++
	}
	return n
}

func accepted(values []release.Value, held pcr.Digest) bool {
	return slices.ContainsFunc(values, func(v release.Value) bool { return len(v.Digest) > 0 && bytes.Equal(v.Digest, held) })
}

// judgeExact compares a register with the value that belongs to a firmware and
// returns what became of it.
func judgeExact(res *Result, log *parsedLog, bank pcr.Algorithm, index int, ref release.Reference, held pcr.Digest, state State, firmware string) State {
	explained := state == Recorded || state == Reset
	want, ok := ref.Of(firmware)
	switch {
	case ok && bytes.Equal(want.Digest, held):
		if !explained {
			return state
		}
		if fs := relabelled(log, bank, index, want.Events); len(fs) > 0 {
			res.lower(ClaimEventLog, Warning)
			res.find(fs...)
		}
		return Matches
	case accepted(ref.Values, held):
		// Of another accepted firmware: one finding for all of them.
		res.lower(ClaimBoot, Contraindicated)
	default:
		res.lower(ClaimBoot, Contraindicated)
		res.find(finding.New(finding.BootPCRDiffers, fmt.Sprintf("PCR %d does not hold the released value", index)).
			At(index).Want(want.Digest.String(), held.String()))
	}
	if explained {
		res.find(differences(log, bank, index, want)...)
	}
	return Differs
}

// judgeEvents compares each event of a register with the rules and returns what
// became of it. In PCR 0 to 7 exactly one separator is implied. A register that
// the log does not explain is not judged: nothing says what its events were.
func judgeEvents(res *Result, log *parsedLog, bank pcr.Algorithm, index int, ref release.Reference, state State) State {
	if state != Recorded && state != Reset || log == nil {
		res.lower(ClaimBoot, None)
		return state
	}
	var fs []finding.Finding
	met := make([]bool, len(ref.Rules))
	separators := 0
	for _, e := range extending(log, bank, index) {
		digest, _ := e.Digest(bank)
		if index <= lastFirmware && e.Type == eventlog.EVSeparator && e.Separator() == eventlog.SeparatorNormal {
			if separators++; separators == 1 {
				continue
			}
		}
		vouched, allowed := e.Rehashes(bank), false
		for n, rule := range ref.Rules {
			if rule.Allows(e.Type.String(), digest, vouched) {
				allowed, met[n] = true, true
			}
		}
		if !allowed {
			fs = append(fs, finding.New(finding.BootEventUnexpected, fmt.Sprintf("PCR %d: no rule of the release allows digest %s", index, digest)).
				At(index).AtIndex(e.Index).AtOffset(e.Offset).Want("", describe(e)))
		}
	}
	if index <= lastFirmware && separators == 0 {
		fs = append(fs, finding.New(finding.BootEventMissing, fmt.Sprintf("PCR %d: the separator is missing", index)).
			At(index).Want(eventlog.EVSeparator.String(), ""))
	}
	for n, rule := range ref.Rules {
		if rule.Required && !met[n] {
			fs = append(fs, finding.New(finding.BootEventMissing, fmt.Sprintf("PCR %d: an event of type %s is required and missing", index, rule.Type)).
				At(index).Want(rule.Type, ""))
		}
	}
	if len(fs) == 0 {
		return Matches
	}
	res.lower(ClaimBoot, Contraindicated)
	res.find(bounded(fs, "events")...)
	return Differs
}

// A userRecord is a record of user space's own log that extended a register.
type userRecord struct {
	Index  int // in that log
	Digest pcr.Digest
	Text   string // what it says about itself; untrusted
}

// judgeUser compares what user space extended into a judged register with what
// the release names, in its order: the first of it, as far as the device has
// come. Each record that is another is foreign, and so are those behind the last
// one. It tells whether there was any.
func judgeUser(res *Result, index int, ref release.Reference, records []userRecord) bool {
	var fs []finding.Finding
	for n, r := range records {
		f := finding.New(finding.UserEvent, fmt.Sprintf("PCR %d: record %d of the log of user space, digest %s", index, r.Index, r.Digest)).At(index)
		found := shownText(index, "", r.Text)
		switch {
		case n >= len(ref.UserEvents):
			fs = append(fs, f.Want("", found))
		case !bytes.Equal(r.Digest, ref.UserEvents[n].Digest):
			fs = append(fs, f.Want(referenceText(index, ref.UserEvents[n]), found))
		}
	}
	if len(fs) == 0 {
		return false
	}
	res.lower(ClaimBoot, Contraindicated)
	res.find(bounded(fs, "records")...)
	return true
}

// bounded cuts a list of findings; the last one says how many were left out.
func bounded(fs []finding.Finding, what string) []finding.Finding {
	if len(fs) <= maxFindings {
		return fs
	}
	more := len(fs) - maxFindings
	fs = fs[:maxFindings]
	fs[maxFindings-1].Detail += fmt.Sprintf("; %d more %s are not listed", more, what)
	return fs
}

// numbers lists registers for people.
func numbers(list []int) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = fmt.Sprint(n)
	}
	return strings.Join(texts, ", ")
}
