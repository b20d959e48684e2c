package appraisal

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
)

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
	against := measured.Against{Bank: e.Bank, PCR10: p.Measured, Boot: bootValues(e, replayed), Baseline: files, From: e.From, Cut: truncated}
	sum, findings := measured.Judge(list, against)
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
	case files.Err() != nil:
		findings = append(findings, finding.New(finding.IMANotJudged, fmt.Sprintf("%d entries: %v", sum.Unjudged, files.Err())))
	case sum.Unjudged > 0:
		findings = append(findings, finding.New(finding.IMANotJudged, fmt.Sprintf("%d entries hold no %s digest of a file's content", sum.Unjudged, measured.BaselineDigest)))
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
