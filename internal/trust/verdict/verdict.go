// Package verdict is what the fleet says of a device: attestation results in the
// words of RFC 9334, section 8.4, with the claims and tiers of appraisal (AR4SI),
// and the fleet's own findings about questions and answers. It is the language
// between the role that appraises and the role that listens and tells; people get
// a line of it, machines JSON (docs/schema/verdict.v1.schema.json).
package verdict

import (
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/finding"
)

// Verdict is the result of one appraisal. The zero value is no pass.
type Verdict struct {
	Verdict    appraisal.Tier                     `json:"verdict"`
	Claims     map[appraisal.Claim]appraisal.Tier `json:"claims"`
	Findings   []finding.Finding                  `json:"findings"`
	Boot       string                             `json:"boot"`              // the boot that the evidence is about
	Asked      bool                               `json:"asked"`             // it answers a question; else it came unasked
	Release    pcr.Digest                         `json:"release,omitempty"` // digest of the manifest that the device says it runs
	Version    string                             `json:"version,omitempty"` // of that release; empty: it is not known here
	Events     int                                `json:"events"`            // in the firmware's log
	IMAEntries int                                `json:"imaEntries"`        // of the IMA list, with those that were verified before

	Components *Components `json:"components,omitempty"` // nil: the evidence tells none that a quote vouches for, or they cannot be named here
}

// Components are those of the release by name, name@version, and which of them have
// run on the device since its boot. The others are dormant: installed, and not used
// in this boot.
type Components struct {
	Known   int      `json:"known"`   // of the release
	Running []string `json:"running"` // sorted
}

// Of takes over what an appraisal decided.
func Of(r appraisal.Result) Verdict {
	if r.Claims == nil {
		r.Claims = make(map[appraisal.Claim]appraisal.Tier)
	}
	if r.Findings == nil {
		r.Findings = []finding.Finding{} // in JSON a list, always
	}
	return Verdict{Verdict: r.Verdict, Claims: r.Claims, Findings: r.Findings, Events: r.Events, IMAEntries: r.IMAEntries}
}

// Statement is one thing that the fleet says of a device: a verdict, or a finding
// of its own.
type Statement struct {
	Tenant, Device string
	Verdict        *Verdict
	Finding        *finding.Finding
	Cleared        bool // the finding, a condition, no longer holds
}

// Question is a signed challenge on its way to a device.
type Question struct {
	Tenant, Device string
	Envelope       []byte
}
