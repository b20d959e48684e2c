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

// lastFirmware is the last PCR that only the firmware and what it loads extend,
// so that the log alone explains it whether or not the release judges it
// (Firmware Profile, section 3.3.4).
const lastFirmware = 7

// judgePCRs decides whether the registers were read and whether the log
// explains them (completeness). read: there were values, vouched for or not.
func judgePCRs(res *Result, e evidence.Evidence, log *parsedLog, replayed *pcr.Bank, user userMeasured, boot release.Boot, read bool) {
	if len(e.PCRs) == 0 {
		res.lower(ClaimPCRs, None)
		if read {
			return // nothing vouches for them: the claim about the quote says so
		}
		detail := e.PCRError
		if detail == "" {
			detail = "no register was read"
		}
		res.find(finding.New(finding.BootPCRUnreadable, detail))
		return
	}
	res.lower(ClaimPCRs, Affirming)
	for i := range pcr.Count {
		if i == ima.Register {
			continue
		}
		strict := i <= lastFirmware || boot.PCRs[i].Judged()
		p := PCRResult{Measured: e.PCRs[i]}
		explained := len(p.Measured) > 0 && pcr.IsReset(e.Bank, i, p.Measured)
		if replayed != nil {
			p.Replayed = replayed.Value(i)
			explained = bytes.Equal(p.Measured, p.Replayed)
		}
		switch {
		case len(p.Measured) == 0:
			p.State = Unreadable
			if strict {
				res.lower(ClaimPCRs, None)
				res.find(finding.New(finding.BootPCRUnreadable, fmt.Sprintf("PCR %d was not read", i)).At(i))
			}
		case explained && (replayed == nil || !replayed.Extended(i)):
			p.State = Reset
		case explained:
			p.State = Recorded
		default:
			p.State = Unexplained
			if strict {
				judgeUnexplained(res, log, replayed, user, i, p)
			}
		}
		if p.State != Unreadable || strict {
			res.PCRs[i] = p
		}
	}
}

// judgeUnexplained tells a log that contradicts a register from one that is not
// whole, or not there, and so says nothing about it.
func judgeUnexplained(res *Result, log *parsedLog, replayed *pcr.Bank, user userMeasured, i int, p PCRResult) {
	if replayed == nil || !log.whole || !user.whole && i > lastFirmware {
		res.lower(ClaimPCRs, None)
		return
	}
	res.lower(ClaimPCRs, Contraindicated)
	detail := fmt.Sprintf("PCR %d: the log's events give another value than the TPM holds", i)
	if !replayed.Extended(i) {
		detail = fmt.Sprintf("PCR %d was extended, and the log holds no event of it", i)
	}
	res.find(finding.New(finding.BootPCRUnexplained, detail).At(i).Want(p.Replayed.String(), p.Measured.String()))
}
