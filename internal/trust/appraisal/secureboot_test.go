package appraisal_test

import (
	"bytes"
	"testing"

	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/finding"
	"ward/internal/trust/secureboot"
)

// What a release demands of Secure Boot is held against what the firmware
// measured, and what was not measured so that it can be told is no pass.
//
// Verifies: SR-001 SR-007
func TestSecureBootIsJudged(t *testing.T) {
	foreign := []pcr.Digest{bytes.Repeat([]byte{1}, 32)}
	raw := readFile(t, "../../format/eventlog/testdata/qemu-x86_64.bin")
	for name, c := range map[string]struct {
		demand *secureboot.Policy
		log    []byte
		claim  appraisal.Tier
		want   []finding.Code
	}{
		"nothing is demanded":  {nil, raw, appraisal.None, nil},
		"it was on":            {&secureboot.Policy{Required: true}, raw, appraisal.Affirming, nil},
		"another key":          {&secureboot.Policy{Required: true, DB: foreign}, raw, appraisal.Contraindicated, []finding.Code{finding.SecureBootKeys}},
		"a hash is missing":    {&secureboot.Policy{Required: true, MinimumDBX: foreign}, raw, appraisal.Warning, []finding.Code{finding.SecureBootDBX}},
		"it was not measured":  {&secureboot.Policy{Required: true}, appraisaltest.Log(appraisaltest.Events()...), appraisal.None, []finding.Code{finding.SecureBootUnknown}},
		"deployed is unproven": {&secureboot.Policy{Deployed: true}, raw, appraisal.None, []finding.Code{finding.SecureBootUnknown}},
	} {
		t.Run(name, func(t *testing.T) {
			d := appraisaltest.Booted(t, c.log, appraisaltest.Program("/init"))
			d.Manifest.Boot.SecureBoot = c.demand
			r := appraise(t, d, d.Evidence())
			claim, made := r.Claims[appraisal.ClaimSecureBoot]
			if made != (c.demand != nil) || claim != c.claim {
				t.Errorf("claim %s, want %s", claim, c.claim)
			}
			verdict := c.claim
			if c.demand == nil {
				verdict = appraisal.Affirming
			}
			if len(c.want) == 0 {
				wantVerdict(t, r, verdict)
			} else if r.Verdict != verdict {
				t.Errorf("verdict %s, want %s", r.Verdict, verdict)
			}
			for _, code := range c.want {
				if !bytes.Contains([]byte(codeList(r)), []byte(code)) {
					t.Errorf("no %s among %s", code, codeList(r))
				}
			}
		})
	}
}

func codeList(r appraisal.Result) string {
	var b bytes.Buffer
	for _, c := range codes(r) {
		b.WriteString(string(c) + " ")
	}
	return b.String()
}

// A log that does not give PCR 7 says nothing about Secure Boot.
//
// Verifies: SR-002 SR-007
func TestSecureBootNeedsPCR7(t *testing.T) {
	d := appraisaltest.Booted(t, readFile(t, "../../format/eventlog/testdata/qemu-x86_64.bin"), appraisaltest.Program("/init"))
	d.Manifest.Boot.SecureBoot = &secureboot.Policy{Required: true}
	e := d.Evidence()
	e.PCRs = clone(e.PCRs)
	e.PCRs[7][0] ^= 1
	r := appraise(t, d, e)
	if r.SecureBoot != nil || r.Claims[appraisal.ClaimSecureBoot] != appraisal.None || r.Verdict != appraisal.Contraindicated {
		t.Errorf("%s, claim %s, state %+v", r.Verdict, r.Claims[appraisal.ClaimSecureBoot], r.SecureBoot)
	}
}
