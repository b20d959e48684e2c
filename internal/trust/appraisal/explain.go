package appraisal

import (
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/release"
)

// Explain compares a boot with what a release or a prediction says of it, for
// those who build releases: steps 4 to 6 of AppraiseList, without signatures and
// without what ran since. measured are the registers of the same boot; nil: they
// were not read, and the log is taken at its word.
func Explain(boot release.Boot, log []byte, measured pcr.Values) Result {
	res := Result{Claims: make(map[Claim]Tier, len(claims)), PCRs: make(map[int]PCRResult)}
	e := evidence.Evidence{Bank: pcr.SHA256, PCRs: measured, EventLog: log}
	parsed := judgeEventLog(&res, e)
	replayed := replay(&res, e, parsed)
	if measured == nil && replayed != nil {
		e.PCRs = make(pcr.Values, pcr.Count)
		for i := range pcr.Count {
			e.PCRs[i] = replayed.Value(i)
		}
	}
	judgePCRs(&res, e, parsed, replayed, userMeasured{whole: true}, boot, false)
	judgeBoot(&res, e, parsed, boot, userMeasured{whole: true})
	res.Verdict = Affirming
	for _, t := range res.Claims {
		res.Verdict = join(res.Verdict, t)
	}
	return res
}
