// Package appraisal turns evidence and a signed release into a verdict:
// Appraise is the one function that decides, on the device, in the tools and in
// the fleet. The words are those of RFC 9334 (evidence, reference values,
// appraisal) and AR4SI (claims and their tiers); the rules follow the TCG PC
// Client Platform Firmware Profile for the boot and the kernel's IMA templates
// for what ran since. What cannot be verified gives tier none and a finding of
// its own: it is neither tampering nor a pass.
package appraisal

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"ward/internal/format/pcr"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// Policy is what the one who appraises decides beforehand.
type Policy struct {
	BringUp  bool            // report everything, judge nothing
	Baseline *baseline.Index // the release's files; nil: what ran cannot be judged
}

// maxFindings bounds the findings of one kind of check, so that a log or list
// full of strangers does not fill the memory; what is beyond it is counted.
const maxFindings = 256

// Appraise judges evidence against a release. r is nil when there is none that
// could be verified. now is the time of the appraisal; no rule depends on it yet.
func Appraise(e evidence.Evidence, r *release.Verified, p Policy, now time.Time) Result {
	return AppraiseList(e, bytes.NewReader(e.IMA), func() bool { return e.IMATruncated }, r, p, now)
}

// AppraiseList is Appraise for a device that reads its IMA list as a stream, so
// that it need not fit into memory; e.IMA is not looked at. truncated is asked
// after the list's end.
//
// What is checked, in this order:
//
//  1. release: there is a verified release, of this bank, and it judges PCRs.
//  2. eventlog: the log is there, can be read, is whole and keeps its rules;
//     exactly one separator, not the error one, in each of PCR 0 to 7.
//  3. pcrs: every PCR was read, and replaying the log gives its value: for each
//     judged PCR and each of PCR 0 to 7. One without events is at its reset
//     value. PCR 10 is left to step 5. Others that the release does not judge
//     are extended from user space too; they are reported.
//  4. boot: each judged PCR holds a value that the release names; where it does
//     not, the events that make the difference are named; where it does, the
//     log's labels are those of the release.
//  5. runtime: the IMA list begins with the boot_aggregate of this boot, a
//     prefix of it gives PCR 10, nothing in it is a violation, and every file
//     in it is one of the release.
//  6. the verdict joins the claims: contraindicated wins over none, none over
//     warning, warning over affirming. In bring-up mode it is none.
func AppraiseList(e evidence.Evidence, list io.Reader, truncated func() bool, r *release.Verified, p Policy, now time.Time) Result {
	res := Result{Claims: make(map[Claim]Tier, len(claims)), PCRs: make(map[int]PCRResult), BringUp: p.BringUp}

	boot := judgeRelease(&res, e, r)
	log := judgeEventLog(&res, e)
	replayed := replay(&res, e, log)
	judgePCRs(&res, e, log, replayed, boot)
	judgeBoot(&res, e, log, boot, nil)
	judgeRuntime(&res, e, list, truncated, replayed, p.Baseline)

	res.Verdict = Affirming
	for _, c := range claims {
		res.Verdict = join(res.Verdict, res.Claims[c])
	}
	if p.BringUp {
		res.Verdict = None
		res.find(finding.New(finding.DaemonBringUp, "reported, not judged"))
	}
	return res
}

// judgeRelease decides whether there is something to judge against.
func judgeRelease(res *Result, e evidence.Evidence, r *release.Verified) release.Boot {
	res.lower(ClaimRelease, None)
	if r == nil {
		res.find(finding.New(finding.BootNotJudged, "there is no verified release manifest to judge against"))
		return release.Boot{}
	}
	boot := r.Manifest().Boot
	if boot.Bank != e.Bank.String() {
		res.find(finding.New(finding.BootNotJudged, fmt.Sprintf("the release names PCRs of bank %q, the evidence is of bank %q", boot.Bank, e.Bank)))
		return release.Boot{}
	}
	if len(judged(boot)) == 0 {
		res.find(finding.New(finding.BootNotJudged, "the release names no PCR to judge"))
		return boot
	}
	res.Claims[ClaimRelease] = Affirming
	return boot
}

// judged lists the PCRs whose values the release judges, in order.
func judged(b release.Boot) []int {
	var list []int
	for i := range pcr.Count {
		if b.PCRs[i].Judged() {
			list = append(list, i)
		}
	}
	return list
}
