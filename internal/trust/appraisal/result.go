package appraisal

import (
	"fmt"

	"ward/internal/format/pcr"
	"ward/internal/trust/finding"
)

// Tier is a trustworthiness tier as in AR4SI, section 2.3.2. The zero value says
// that nothing is known; it is not a pass.
type Tier uint8

// Tiers. Unverifiable evidence gives None, evidence of alteration
// Contraindicated.
const (
	None Tier = iota
	Affirming
	Warning
	Contraindicated
)

var tierNames = [...]string{"none", "affirming", "warning", "contraindicated"}

func (t Tier) String() string {
	if int(t) < len(tierNames) {
		return tierNames[t]
	}
	return tierNames[None]
}

// MarshalText writes the tier's name.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a tier's name.
func (t *Tier) UnmarshalText(b []byte) error {
	for i, n := range tierNames {
		if n == string(b) {
			*t = Tier(i)
			return nil
		}
	}
	return fmt.Errorf("parse tier %q: want none, affirming, warning or contraindicated", b)
}

// rank orders tiers by what wins when claims are joined: a sign of alteration
// outweighs everything, and what could not be judged outweighs a warning.
var rank = [...]int{Affirming: 0, Warning: 1, None: 2, Contraindicated: 3}

func join(a, b Tier) Tier {
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// Claim names one thing that the appraisal decides about.
type Claim string

// Claims, each with a tier of its own in the result.
const (
	ClaimRelease  Claim = "release"  // there is a verified release to judge against
	ClaimEventLog Claim = "eventlog" // the firmware's log is whole and keeps its rules
	ClaimPCRs     Claim = "pcrs"     // the registers are explained by the log
	ClaimBoot     Claim = "boot"     // the registers hold what the release names
	ClaimRuntime  Claim = "runtime"  // what ran since is in the release
)

// claims in the order in which they are decided.
var claims = [...]Claim{ClaimRelease, ClaimEventLog, ClaimPCRs, ClaimBoot, ClaimRuntime}

// State is what became of one PCR.
type State string

// States of a PCR.
const (
	Matches     State = "matches"     // explained, and what the release names
	Differs     State = "differs"     // not what the release names
	Recorded    State = "recorded"    // explained; the release does not judge it
	Reset       State = "reset"       // never extended; the release does not judge it
	Unexplained State = "unexplained" // the log or list does not give this value
	Unreadable  State = "unreadable"  // the TPM did not give it
)

// PCRResult is what was found about one PCR.
type PCRResult struct {
	Measured  pcr.Digest   `json:"measured,omitempty"`
	Replayed  pcr.Digest   `json:"replayed,omitempty"`  // from the log, PCR 10 from the IMA list
	Reference []pcr.Digest `json:"reference,omitempty"` // values that the release accepts
	State     State        `json:"state"`
}

// Result is the outcome of an appraisal. The zero value is no pass.
type Result struct {
	Verdict    Tier              `json:"verdict"`
	Claims     map[Claim]Tier    `json:"claims"`
	Findings   []finding.Finding `json:"findings"`
	PCRs       map[int]PCRResult `json:"pcrs"`
	Firmware   string            `json:"firmware,omitempty"` // of those that the release accepts, the one that the registers fit best
	Events     int               `json:"events"`             // events in the firmware's log
	IMAEntries int               `json:"imaEntries"`         // entries read of the IMA list
	BringUp    bool              `json:"bringUp"`
}

// lower sets a claim's tier, or joins it with what is there.
func (r *Result) lower(c Claim, t Tier) {
	if old, ok := r.Claims[c]; ok {
		t = join(old, t)
	}
	r.Claims[c] = t
}

func (r *Result) find(fs ...finding.Finding) { r.Findings = append(r.Findings, fs...) }
