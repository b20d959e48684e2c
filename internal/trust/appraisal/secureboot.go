package appraisal

import (
	"bytes"

	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
	"ward/internal/trust/secureboot"
)

// secureBootRegister is the PCR into which the firmware measures Secure Boot
// (Firmware Profile, section 3.3.4.8).
const secureBootRegister = 7

// secureBootTiers is what a finding means for the claim.
var secureBootTiers = map[finding.Code]Tier{
	finding.SecureBootOff:     Contraindicated,
	finding.SecureBootKeys:    Contraindicated,
	finding.SecureBootMode:    Warning,
	finding.SecureBootDBX:     Warning,
	finding.SecureBootUnknown: None,
}

// judgeSecureBoot tells from the log how Secure Boot stood, if the log gives the
// PCR 7 that the TPM holds, and compares it with what the release demands.
func judgeSecureBoot(res *Result, e evidence.Evidence, log *parsedLog, boot release.Boot) {
	var state secureboot.State // of which nothing is known
	if p := res.PCRs[secureBootRegister]; log != nil && len(p.Measured) > 0 && bytes.Equal(p.Measured, p.Replayed) {
		state = secureboot.Derive(log.Log, e.Bank)
		res.SecureBoot = &state
	}
	if boot.SecureBoot == nil {
		return
	}
	res.lower(ClaimSecureBoot, Affirming)
	for _, f := range secureboot.Judge(state, *boot.SecureBoot) {
		if t, ok := secureBootTiers[f.Code]; ok {
			if f.Severity == finding.Critical {
				t = Contraindicated // shim's switch to verify nothing is a mode, and critical
			}
			res.lower(ClaimSecureBoot, t)
		}
		res.find(f)
	}
}
