package appraisal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
)

// IMAList is what a list is judged against. A field that is nil is not known,
// and what depends on it is left out.
type IMAList struct {
	Bank     pcr.Algorithm
	PCR10    pcr.Digest      // as measured, before the list was read
	Boot     []pcr.Values    // PCRs 0 to 9 as measured or replayed: either may stand behind boot_aggregate
	Baseline *baseline.Index // the release's files
	From     ima.Checkpoint  // where the list begins, as an earlier replay of this boot gave it
	Cut      func() bool     // asked at the list's end: whether its reader ended it early
}

// IMASummary is what was read of a list.
type IMASummary struct {
	Entries    int
	Violations int
	Fits       bool           // a prefix of the list gives PCR10
	FitsAt     ima.Checkpoint // after that prefix
	FitsOffset int64          // bytes of it in this list
	Replayed   pcr.Digest     // PCR 10 after that prefix, or after the whole list
	Whole      bool           // the list was read to its own end
	Unjudged   int            // files that could not be compared with the baseline
}

// imaJudge goes through a list once, in constant memory.
type imaJudge struct {
	against  IMAList
	replay   *ima.Replay
	sum      IMASummary
	findings []finding.Finding
	counts   map[finding.Code]int
	foreign  int              // entries that extend another PCR
	begun    int              // boot_aggregate entries
	handed   bool             // the kernel's last record before it started another one was seen
	lost     *finding.Finding // it was not seen where it should be
}

// IMAFindings reads a list to its end and returns what it holds and the findings
// about it:
//
//  1. it can be read to a clean end;
//  2. it begins with boot_aggregate, and each of these holds the hash over PCR 0
//     to 9 of this boot;
//  3. a prefix of it gives PCR 10: entries that came after PCR 10 was read are
//     accepted, missing ones are not;
//  4. no entry is a violation, and each file is in the baseline.
func IMAFindings(list io.Reader, against IMAList) (IMASummary, []finding.Finding) {
	j := &imaJudge{against: against, counts: make(map[finding.Code]int)}
	var err error
	if j.replay, err = ima.ReplayFrom(against.Bank, against.From); err != nil {
		j.find(finding.New(finding.IMAUnreadable, err.Error()))
		return j.sum, j.findings
	}
	if err := j.read(list); err != nil {
		j.find(unreadable(err))
	} else if against.Cut != nil && against.Cut() {
		j.find(finding.New(finding.IMATruncated, "the list goes on beyond what is read of it"))
	} else {
		j.sum.Whole = true
	}
	j.end()
	return j.sum, j.findings
}

func unreadable(err error) finding.Finding {
	var cut *ima.TruncatedError
	if errors.As(err, &cut) {
		return finding.New(finding.IMATruncated, err.Error()).AtIndex(cut.Index).AtOffset(cut.Offset)
	}
	f := finding.New(finding.IMAUnreadable, err.Error())
	var bad *ima.MalformedError
	if errors.As(err, &bad) {
		f = f.AtIndex(bad.Index).AtOffset(bad.Offset)
	}
	return f
}

func (j *imaJudge) read(list io.Reader) error {
	dec, err := ima.NewDecoderAt(list, j.against.From.Entries, 0)
	if err != nil {
		return err
	}
	for {
		e, err := dec.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := j.add(e); err != nil {
			return err
		}
		if j.sum.Fits && j.sum.FitsAt.Entries == 0 {
			j.sum.FitsAt = ima.Checkpoint{PCR: j.sum.Replayed}
			j.sum.FitsAt.Entries, j.sum.FitsOffset = dec.Position()
		}
	}
}

func (j *imaJudge) add(e ima.Entry) error {
	if j.sum.Entries == 0 && j.against.From.Entries == 0 && !e.IsBootAggregate() {
		j.find(finding.New(finding.IMABootAggregate, "the list does not begin with boot_aggregate").AtIndex(e.Index).AtOffset(e.Offset))
	}
	j.sum.Entries++
	switch {
	case e.PCR != ima.Register:
		j.foreign++
	case !j.sum.Fits:
		if err := j.replay.Add(e); err != nil {
			return err
		}
		j.fit()
	}
	if len(e.TemplateHash) == j.against.Bank.Size() && !e.Rehashes() {
		j.find(finding.New(finding.IMAPCRDiffers, "the entry's content does not hash to what was extended").AtIndex(e.Index).AtOffset(e.Offset))
	}
	if e.IsBootAggregate() {
		j.kexec(e)
		j.aggregate(e)
	}
	j.handed = j.handed || e.Template == bufferTemplate && e.Path == kexecRecord
	standing, f := JudgeEntry(e, j.against.Baseline)
	switch standing {
	case NotJudged:
		j.sum.Unjudged++
	case Violated:
		j.sum.Violations++
		j.find(f)
	case Unknown, Changed:
		j.find(f)
	}
	return nil
}

// fit notes the first prefix that gives PCR 10.
func (j *imaJudge) fit() {
	j.sum.Replayed = j.replay.Value()
	if j.against.PCR10 != nil && bytes.Equal(j.sum.Replayed, j.against.PCR10) {
		j.sum.Fits = true
	}
}

// kexecRecord is the entry that a kernel measures last when it starts another one
// (Linux 6.15, ima_kexec.c); the new kernel then goes on with the list.
const kexecRecord = "kexec_execute"

// kexec tells of a second boot_aggregate: another kernel was started without the
// firmware.
func (j *imaJudge) kexec(e ima.Entry) {
	j.begun++
	if j.begun == 1 && j.against.From.Entries == 0 {
		return
	}
	j.find(finding.New(finding.IMAKexec, "boot_aggregate stands in the list again").AtIndex(e.Index).AtOffset(e.Offset))
	if !j.handed {
		lost := finding.New(finding.IMARecordsLost, "no "+kexecRecord+" stands before the new kernel's boot_aggregate").AtIndex(e.Index).AtOffset(e.Offset)
		j.lost = &lost
	}
	j.handed = false
}

// aggregate compares a boot_aggregate with this boot. One of another algorithm
// than the bank's cannot be compared, nor can a boot whose PCRs are not known.
func (j *imaJudge) aggregate(e ima.Entry) {
	if e.Digest.Algorithm != j.against.Bank.String() || len(j.against.Boot) == 0 {
		return
	}
	var want pcr.Digest
	for _, values := range j.against.Boot {
		want = ima.BootAggregate(j.against.Bank, values)
		if bytes.Equal(want, e.Digest.Digest) {
			return
		}
	}
	j.find(finding.New(finding.IMABootAggregate, "boot_aggregate is not the hash over this boot's PCR 0 to 9").
		AtIndex(e.Index).AtOffset(e.Offset).Want(want.String(), e.Digest.Digest.String()))
}

// end draws what only the whole list tells. A list with entries beside a
// PCR 10 that was never extended does not fit: the kernel extends before it
// shows.
func (j *imaJudge) end() {
	if !j.sum.Fits && j.against.PCR10 != nil && j.against.From.Entries > 0 && bytes.Equal(j.against.From.PCR, j.against.PCR10) {
		j.sum.Fits, j.sum.FitsAt, j.sum.Replayed = true, j.against.From, j.against.From.PCR // nothing was added
	}
	never := j.against.PCR10 == nil || pcr.IsReset(j.against.Bank, ima.Register, j.against.PCR10)
	switch {
	case !j.sum.Whole || j.sum.Fits:
	case j.sum.Entries == 0 && never:
		j.find(finding.New(finding.IMAAbsent, "the list has no entry"))
	case j.against.PCR10 != nil:
		detail := fmt.Sprintf("no prefix of the list's %d entries gives PCR 10", j.sum.Entries)
		if never {
			detail = fmt.Sprintf("PCR 10 was never extended, and the list has %d entries: the kernel had no TPM when it began to measure, or the TPM was reset", j.sum.Entries)
		}
		j.find(finding.New(finding.IMAPCRDiffers, detail).At(ima.Register).Want(j.sum.Replayed.String(), j.against.PCR10.String()))
	}
	if j.lost != nil && j.sum.Whole && !j.sum.Fits && j.against.PCR10 != nil {
		j.find(*j.lost) // where the list gives PCR 10, nothing was lost
	}
	if j.foreign > 0 {
		j.find(finding.New(finding.IMANotJudged, fmt.Sprintf("%d entries extend another register than PCR 10", j.foreign)))
	}
	for _, code := range slices.Sorted(maps.Keys(j.counts)) {
		if more := j.counts[code] - maxFindings; more > 0 {
			j.findings = append(j.findings, finding.New(code, fmt.Sprintf("%d more are not listed", more)))
		}
	}
}

// find keeps a finding; beyond maxFindings of one code they are counted.
func (j *imaJudge) find(f finding.Finding) {
	j.counts[f.Code]++
	if j.counts[f.Code] <= maxFindings {
		j.findings = append(j.findings, f)
	}
}

// runtimeTiers is what a finding about the list means for the claim. Codes that
// are not listed do not change it.
var runtimeTiers = map[finding.Code]Tier{
	finding.IMAUnreadable:    None,
	finding.IMAAbsent:        None,
	finding.IMATruncated:     None,
	finding.IMANotJudged:     None,
	finding.IMACheckpoint:    None,
	finding.IMAKexec:         Warning,
	finding.IMARecordsLost:   None,
	finding.IMAViolation:     Warning,
	finding.IMAUnknownFile:   Warning,
	finding.IMAPCRDiffers:    Contraindicated,
	finding.IMABootAggregate: Contraindicated,
	finding.IMAChangedFile:   Contraindicated,
}

// judgeRuntime sets the claim about what ran since the boot, and returns how far
// PCR 10 confirms the list.
func judgeRuntime(res *Result, e evidence.Evidence, list io.Reader, truncated func() bool, replayed *pcr.Bank, p Policy) ima.Checkpoint {
	verified, findings := runtimeFindings(res, e, list, truncated, replayed, p)
	tier := Affirming
	for _, f := range findings {
		if t, ok := runtimeTiers[f.Code]; ok {
			tier = join(tier, t)
		}
	}
	res.lower(ClaimRuntime, tier)
	if res.PCRs[ima.Register].State != Recorded {
		res.lower(ClaimRuntime, None) // nothing vouches for the list
	}
	res.find(findings...)
	return verified
}

func runtimeFindings(res *Result, e evidence.Evidence, list io.Reader, truncated func() bool, replayed *pcr.Bank, policy Policy) (ima.Checkpoint, []finding.Finding) {
	p := PCRResult{Measured: e.PCRs[ima.Register], State: Unreadable}
	if f, ok := notReadable(e, policy); ok {
		if len(p.Measured) > 0 {
			p.State = Unexplained
			if pcr.IsReset(e.Bank, ima.Register, p.Measured) {
				p.State = Reset
			}
			res.PCRs[ima.Register] = p
		}
		return ima.Checkpoint{}, []finding.Finding{f}
	}
	files := policy.Baseline
	against := IMAList{Bank: e.Bank, PCR10: p.Measured, Boot: bootValues(e, replayed), Baseline: files, From: e.From, Cut: truncated}
	sum, findings := IMAFindings(list, against)
	res.IMAEntries = e.From.Entries + sum.Entries
	p.Replayed = sum.Replayed
	switch {
	case len(p.Measured) == 0:
		if len(e.PCRs) > 0 {
			findings = append(findings, finding.New(finding.BootPCRUnreadable, "PCR 10 was not read").At(ima.Register))
		}
	case sum.Fits:
		p.State = Recorded
	case sum.Entries == 0 && pcr.IsReset(e.Bank, ima.Register, p.Measured):
		p.State = Reset
	default:
		p.State = Unexplained
	}
	res.PCRs[ima.Register] = p
	switch {
	case files == nil:
		findings = append(findings, finding.New(finding.IMANotJudged, "there is no trusted file baseline to compare the list with"))
	case sum.Unjudged > 0:
		findings = append(findings, finding.New(finding.IMANotJudged, fmt.Sprintf("%d entries hold no %s digest of a file's content", sum.Unjudged, baselineDigest)))
	}
	return sum.FitsAt, findings
}

// notReadable says why there is no list to judge.
func notReadable(e evidence.Evidence, p Policy) (finding.Finding, bool) {
	switch {
	case strings.HasPrefix(e.IMAError, evidence.Absent):
		return finding.New(finding.IMAAbsent, e.IMAError), true
	case e.IMAError != "":
		return finding.New(finding.IMAUnreadable, e.IMAError), true
	case e.From.Entries == 0:
	case p.Since == nil || p.Since.Boot != e.Boot || p.Since.List.Entries != e.From.Entries || !bytes.Equal(p.Since.List.PCR, e.From.PCR):
		return finding.New(finding.IMACheckpoint, fmt.Sprintf("the list begins after %d entries of this boot that were never verified here", e.From.Entries)), true
	}
	return finding.Finding{}, false
}

// bootValues are the PCRs that boot_aggregate may be the hash of. User space
// extends PCR 9 later on some systems; then the firmware's log still gives the
// value at the time when the kernel took it.
func bootValues(e evidence.Evidence, replayed *pcr.Bank) []pcr.Values {
	var list []pcr.Values
	complete := len(e.PCRs) > 0
	for i := range ima.Register {
		complete = complete && len(e.PCRs[i]) > 0
	}
	if complete {
		list = append(list, e.PCRs)
	}
	if replayed != nil {
		values := make(pcr.Values, ima.Register)
		for i := range ima.Register {
			values[i] = replayed.Value(i)
		}
		list = append(list, values)
	}
	return list
}
