package appraisal_test

import (
	"slices"
	"testing"
	"time"

	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/posture"
)

// What a device says of its posture is judged by its release, under a quote alone,
// and what it does not say or could not read is no pass.
//
// Verifies: SR-096
func TestPosture(t *testing.T) {
	const n, a, w, c = appraisal.None, appraisal.Affirming, appraisal.Warning, appraisal.Contraindicated
	rules := []posture.Rule{
		{Claim: posture.Lockdown, Mode: posture.Equal, Values: []string{"integrity"}},
		{Claim: posture.DMVerity, Mode: posture.Equal, Values: []string{"ward-root sha256:00"}, Optional: true},
		{Claim: posture.Mounts, Mode: posture.Within, Values: []string{"/ ext4 ro", "/tmp tmpfs nodev,nosuid"}},
		{Claim: posture.Sockets, Mode: posture.Contains, Values: []string{"tcp 0.0.0.0:8443 /usr/bin/pump"}},
		{Claim: posture.DiskWear, Mode: posture.Recorded},
	}
	told := func(change ...posture.Claim) []posture.Claim {
		claims := []posture.Claim{
			{Name: posture.DMVerity, Values: []string{"ward-root sha256:00"}},
			{Name: posture.Lockdown, Values: []string{"integrity"}},
			{Name: posture.Mounts, Values: []string{"/ ext4 ro"}},
			{Name: posture.Sockets, Values: []string{"tcp 0.0.0.0:8443 /usr/bin/pump", "udp 127.0.0.1:323 /usr/sbin/chronyd"}},
		}
		for _, p := range change {
			i := slices.IndexFunc(claims, func(o posture.Claim) bool { return o.Name == p.Name })
			claims[i] = p
		}
		return claims
	}
	for name, test := range map[string]struct {
		policy  *posture.Policy
		told    []posture.Claim
		change  func(e *evidence.Evidence, p *appraisal.Policy) // after the quote
		made    bool
		claim   appraisal.Tier
		verdict appraisal.Tier
		codes   []finding.Code
	}{
		"as released":           {&posture.Policy{Rules: rules}, told(), nil, true, a, a, nil},
		"nothing is expected":   {nil, told(posture.Claim{Name: posture.Lockdown, Values: []string{"none"}}), nil, false, n, a, nil},
		"an empty policy":       {&posture.Policy{}, told(), nil, true, a, a, nil},
		"unlocked":              {&posture.Policy{Rules: rules}, told(posture.Claim{Name: posture.Lockdown, Values: []string{"none"}}), nil, true, c, c, []finding.Code{finding.PostureLockdown}},
		"another mount":         {&posture.Policy{Rules: rules}, told(posture.Claim{Name: posture.Mounts, Values: []string{"/ ext4 rw"}}), nil, true, w, w, []finding.Code{finding.PostureMount}},
		"another root hash":     {&posture.Policy{Rules: rules}, told(posture.Claim{Name: posture.DMVerity, Values: []string{"ward-root sha256:01"}}), nil, true, c, c, []finding.Code{finding.PostureVerity}},
		"no dm-verity, allowed": {&posture.Policy{Rules: rules}, told(posture.Claim{Name: posture.DMVerity, Absent: true}), nil, true, a, a, nil},
		"not read":              {&posture.Policy{Rules: rules}, told(posture.Claim{Name: posture.Lockdown, Error: "I/O error"}), nil, true, n, n, []finding.Code{finding.PostureUnreadable}},
		"not read and wrong": {
			&posture.Policy{Rules: rules}, told(posture.Claim{Name: posture.Lockdown, Error: "I/O error"}, posture.Claim{Name: posture.DMVerity, Values: []string{"x"}}), nil,
			true, c, c, []finding.Code{finding.PostureUnreadable, finding.PostureVerity},
		},
		"values left out":     {&posture.Policy{Rules: rules}, told(posture.Claim{Name: posture.Mounts, Values: []string{"/ ext4 ro"}, More: 1}), nil, true, w, w, []finding.Code{finding.PostureMount}},
		"a claim is left out": {&posture.Policy{Rules: rules}, told()[:3], nil, true, n, n, []finding.Code{finding.PostureRuleUnknown}},
		"nothing told":        {&posture.Policy{Rules: rules}, nil, nil, true, n, n, []finding.Code{finding.PostureUnreadable}},
		"changed on the way": {
			&posture.Policy{Rules: rules}, told(posture.Claim{Name: posture.Lockdown, Values: []string{"none"}}),
			func(e *evidence.Evidence, _ *appraisal.Policy) { e.Posture = told() },
			true, n, c, []finding.Code{finding.QuoteNonce, finding.QuoteNonce},
		},
		"no quote vouches for it": {
			&posture.Policy{Rules: rules}, told(), func(_ *evidence.Evidence, p *appraisal.Policy) { p.AK = nil },
			true, n, n, []finding.Code{finding.QuoteMissing},
		},
		"on the device itself": {
			&posture.Policy{Rules: rules}, told(posture.Claim{Name: posture.Lockdown, Values: []string{"none"}}),
			func(_ *evidence.Evidence, p *appraisal.Policy) { p.Direct = true },
			false, n, a, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := appraisaltest.New(t)
			d.Manifest.Posture = test.policy
			e := d.Evidence()
			e.Nonce, e.Record = asked, record
			e.SetPosture(test.told)
			d.Quote(t, &e)
			p := d.Policy(t)
			p.Nonce = asked
			if test.change != nil {
				test.change(&e, &p)
			}
			res := appraisal.Appraise(e, d.Verified(t), p, time.Time{})
			tier, made := res.Claims[appraisal.ClaimPosture]
			var codes []finding.Code
			for _, f := range res.Findings {
				codes = append(codes, f.Code)
			}
			if made != test.made || tier != test.claim || res.Verdict != test.verdict || test.verdict == a && len(codes) > 0 {
				t.Errorf("made %t, claim %s, verdict %s, findings %v", made, tier, res.Verdict, codes)
			}
			for _, code := range test.codes {
				if !slices.Contains(codes, code) {
					t.Errorf("no %s among %v", code, codes)
				}
			}
		})
	}
}
