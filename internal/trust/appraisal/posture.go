package appraisal

import (
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/posture"
	"ward/internal/trust/release"
)

// judgePosture compares what the device says of its state beside its files with
// what the release expects, by the same function as the device itself does. A
// release that expects nothing leaves the claim out. So does who appraises the
// device that it runs on: the role that reads the posture there judges it there, as
// often as it looks.
//
// Only what a quote signs counts. It proves that the system that was attested has
// said so: whoever has that system in his hands can make it lie.
func judgePosture(res *Result, e evidence.Evidence, r *release.Verified, v vouched, p Policy) {
	if r == nil || p.Direct {
		return
	}
	policy := r.Manifest().Posture
	if policy == nil {
		return
	}
	if v.clock == nil {
		res.lower(ClaimPosture, None)
		return
	}
	if len(e.Posture) == 0 {
		res.lower(ClaimPosture, None)
		res.find(finding.New(finding.PostureUnreadable, "the device has told nothing about its posture"))
		return
	}
	res.lower(ClaimPosture, Affirming)
	for _, f := range posture.Judge(policy, e.Posture) {
		res.lower(ClaimPosture, postureTier(f))
		res.find(f)
	}
}

// postureTier is what a finding means for the claim: what could not be read or
// judged says nothing, what opens the device is a sign of alteration.
func postureTier(f finding.Finding) Tier {
	switch {
	case f.Code == finding.PostureUnreadable || f.Code == finding.PostureRuleUnknown:
		return None
	case f.Severity == finding.High || f.Severity == finding.Critical:
		return Contraindicated
	case f.Severity == finding.Info:
		return Affirming
	}
	return Warning
}
