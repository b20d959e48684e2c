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
	"crypto/ecdsa"
	"fmt"
	"io"
	"slices"
	"time"

	"ward/internal/format/pcr"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
	"ward/internal/trust/release"
)

// Policy is what the one who appraises decides beforehand.
type Policy struct {
	BringUp  bool             // report everything, judge nothing
	Baseline *baseline.Index  // the release's files; nil: what ran cannot be judged
	AK       *ecdsa.PublicKey // the device's attestation key; nil: none is known, and no quote counts
	Direct   bool             // the registers were read from the TPM by whoever appraises: no quote need vouch for them
	Device   *Name            // whose evidence it must be; nil: anybody's
	Nonce    []byte           // what was asked; empty: nothing was, and the evidence's own nonce counts
	Since    *Since           // what earlier evidence of the device has established; nil: nothing
}

// Name is a device's full name.
type Name struct{ Tenant, Device string }

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
//  1. name: the evidence is of the device that was asked.
//  2. release: there is a verified release, of this bank, and it judges PCRs.
//  3. quote: the TPM vouches for the registers (judgeQuotes).
//  4. eventlog: the log is there, can be read, is whole and keeps its rules;
//     exactly one separator, not the error one, in each of PCR 0 to 7. The same
//     for the log of what user space measured, where there is one.
//  5. pcrs: every PCR was read, and replaying the logs gives its value: for each
//     judged PCR and each of PCR 0 to 7. One without events is at its reset
//     value. PCR 10 is left to step 8. Others that the release does not judge
//     are extended from user space too; they are reported.
//  6. boot: each judged PCR holds a value that the release names; where it does
//     not, the events that make the difference are named; where it does, the
//     log's labels are those of the release.
//  7. secureboot: Secure Boot stood as the release demands; a release that
//     demands nothing leaves the claim out.
//  8. runtime: the IMA list begins with the boot_aggregate of this boot, or goes
//     on where earlier evidence ended; a prefix of it gives PCR 10, nothing in it
//     is a violation, and every file in it is one of the release.
//  9. posture: what the device says of its state beside its files is what the
//     release expects; a release that expects nothing leaves the claim out.
//  10. the verdict joins the claims: contraindicated wins over none, none over
//     warning, warning over affirming. In bring-up mode it is none.
func AppraiseList(e evidence.Evidence, list io.Reader, truncated func() bool, r *release.Verified, p Policy, now time.Time) Result {
	res := Result{Claims: make(map[Claim]Tier, len(claims)), PCRs: make(map[int]PCRResult), BringUp: p.BringUp}

	foreign := judgeName(&res, e, p)
	boot := judgeRelease(&res, e, r)
	var v vouched
	if !foreign {
		v = judgeQuotes(&res, e, p)
	}
	read := len(e.PCRs) > 0
	e.PCRs = v.registers
	log := judgeEventLog(&res, e)
	firmware := replay(&res, e, log)
	replayed, user := judgeUserLog(&res, e, firmware)
	if !judgeStale(&res, v, e.Bank, replayed) {
		judgePCRs(&res, e, log, replayed, user, boot, read)
		judgeBoot(&res, e, log, boot, user)
		judgeSecureBoot(&res, e, log, boot)
		verified := judgeRuntime(&res, e, list, truncated, firmware, p)
		res.next(e, v, verified, p.Since)
	}

	judgePosture(&res, e, r, v, p)

	res.Verdict = Affirming
	for _, c := range claims {
		if t, made := res.Claims[c]; made || !slices.Contains(onDemand[:], c) {
			res.Verdict = join(res.Verdict, t)
		}
	}
	if p.BringUp {
		res.Verdict = None
		res.find(finding.New(finding.DaemonBringUp, "reported, not judged"))
	}
	return res
}

// judgeName tells whether the evidence is of another device than the one that
// was asked.
func judgeName(res *Result, e evidence.Evidence, p Policy) (foreign bool) {
	if p.Device == nil || *p.Device == (Name{e.Tenant, e.Device}) {
		return false
	}
	res.lower(ClaimQuote, Contraindicated)
	res.find(finding.New(finding.EvidenceForeign, "").Want(p.Device.Tenant+"/"+p.Device.Device, measured.UntrustedPath(e.Tenant+"/"+e.Device)))
	return true
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
