package appraisal

import (
	"bytes"
	"fmt"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// judgeBoot compares the judged registers with the release.
func judgeBoot(res *Result, e evidence.Evidence, log *parsedLog, boot release.Boot) {
	list := judged(boot)
	if len(list) == 0 || len(e.PCRs) == 0 {
		res.lower(ClaimBoot, None)
		return
	}
	res.lower(ClaimBoot, Affirming)
	for _, i := range list {
		ref := boot.PCRs[i]
		if i == ima.Register {
			res.lower(ClaimBoot, None)
			res.find(finding.New(finding.BootNotJudged, "the release names a value for PCR 10, which grows while the device runs").At(i))
			continue
		}
		p := res.PCRs[i]
		p.Reference = ref.Values
		explained := p.State == Recorded || p.State == Reset
		switch {
		case p.State == Unreadable:
			res.lower(ClaimBoot, None)
		case !accepted(ref.Values, p.Measured):
			p.State = Differs
			res.lower(ClaimBoot, Contraindicated)
			res.find(finding.New(finding.BootPCRDiffers, fmt.Sprintf("PCR %d does not hold the released value", i)).
				At(i).Want(ref.Values[0].String(), p.Measured.String()))
			if explained {
				res.find(differences(log, e.Bank, i, ref)...)
			}
		case explained:
			p.State = Matches
			if fs := relabelled(log, e.Bank, i, ref); len(fs) > 0 {
				res.lower(ClaimEventLog, Warning)
				res.find(fs...)
			}
		}
		res.PCRs[i] = p
	}
}

func accepted(values []pcr.Digest, measured pcr.Digest) bool {
	for _, v := range values {
		if len(v) > 0 && bytes.Equal(v, measured) {
			return true
		}
	}
	return false
}
