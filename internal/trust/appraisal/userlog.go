package appraisal

import (
	"fmt"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/format/userlog"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
)

// userOddities is how the appraisal takes the anomalies of user space's log; like
// the firmware's it can break a rule and still explain the registers. Kinds that
// are not listed say nothing.
var userOddities = map[userlog.AnomalyKind]oddity{
	userlog.Truncated:       {finding.UserLogUnreadable, finding.High, Warning, true},
	userlog.Malformed:       {finding.UserLogUnreadable, finding.High, Warning, true},
	userlog.TooMany:         {finding.UserLogUnreadable, finding.High, Warning, true},
	userlog.PCROutOfRange:   {finding.BootLogAnomaly, finding.Medium, Warning, false},
	userlog.DigestMissing:   {finding.BootLogAnomaly, finding.Medium, Warning, false},
	userlog.DigestRepeated:  {finding.BootLogAnomaly, finding.Medium, Warning, false},
	userlog.DigestMalformed: {finding.BootLogAnomaly, finding.Medium, Warning, false},
	userlog.TypeDiffers:     {finding.BootLogAnomaly, finding.High, Warning, false},
	userlog.BootDiffers:     {finding.BootLogAnomaly, finding.High, Warning, false},
}

// userMeasured is what user space says that it measured.
type userMeasured struct {
	records map[int][]userRecord // by register, in their order
	whole   bool                 // all of it was read
}

// judgeUserLog reads the log of what user space measured and goes on with it in a
// copy of the bank that the firmware's log gave, so that one replay explains the
// registers that both extend. No log is none at all: most systems write none.
func judgeUserLog(res *Result, e evidence.Evidence, firmware *pcr.Bank) (whole *pcr.Bank, user userMeasured) {
	user.whole = true
	if firmware == nil || e.UserLogError == "" && len(e.UserLog) == 0 {
		return firmware, user
	}
	whole = firmware.Clone()
	unreadable := func(f finding.Finding) (*pcr.Bank, userMeasured) {
		user.whole = false
		res.lower(ClaimEventLog, None)
		res.find(f)
		return firmware, user
	}
	if e.UserLogError != "" {
		return unreadable(finding.New(finding.UserLogUnreadable, e.UserLogError))
	}
	log, err := userlog.Parse(e.UserLog)
	if err == nil {
		err = log.Extend(whole)
	}
	if err != nil {
		return unreadable(finding.New(finding.UserLogUnreadable, err.Error()))
	}
	for _, a := range log.Anomalies {
		o, ok := userOddities[a.Kind]
		if !ok {
			continue
		}
		f := finding.New(o.code, fmt.Sprintf("user space's log: %s: %s", a.Kind, a.Detail)).AtOffset(a.Offset)
		f.Severity = o.severity
		if a.PCR >= 0 {
			f = f.At(a.PCR)
		}
		if a.Index >= 0 {
			f = f.AtIndex(a.Index)
		}
		res.lower(ClaimEventLog, o.tier)
		res.find(f)
		user.whole = user.whole && !o.ends
	}
	user.records = make(map[int][]userRecord)
	for _, r := range log.Records {
		if d, ok := r.Digest(e.Bank); ok && r.Extends() && r.PCR != ima.Register {
			user.records[r.PCR] = append(user.records[r.PCR], userRecord{r.Index, d, userText(r)})
		}
	}
	return whole, user
}

// userText is what a record says about itself.
func userText(r userlog.Record) string {
	text := r.Describe()
	if r.String != nil {
		text += ": " + measured.UntrustedPath(*r.String)
	}
	if r.Standing() != userlog.Vouched {
		return "untrusted: " + text
	}
	return text
}
