package appraisal

import (
	"fmt"
	"slices"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/secureboot"
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
	ClaimRelease    Claim = "release"    // there is a verified release to judge against
	ClaimQuote      Claim = "quote"      // the TPM vouches for the registers, now and here
	ClaimEventLog   Claim = "eventlog"   // the logs are whole and keep their rules
	ClaimPCRs       Claim = "pcrs"       // the registers are explained by the logs
	ClaimBoot       Claim = "boot"       // the registers hold what the release names
	ClaimSecureBoot Claim = "secureboot" // Secure Boot stood as the release demands
	ClaimRuntime    Claim = "runtime"    // what ran since is in the release
	ClaimPosture    Claim = "posture"    // the running system is set as the release expects
)

// claims in the order in which they are decided.
var claims = [...]Claim{ClaimRelease, ClaimQuote, ClaimEventLog, ClaimPCRs, ClaimBoot, ClaimSecureBoot, ClaimRuntime, ClaimPosture}

// onDemand are the claims that only a release that demands something of them makes.
var onDemand = [...]Claim{ClaimSecureBoot, ClaimPosture}

// Claims lists the claims in the order in which they are decided.
func Claims() []Claim { return slices.Clone(claims[:]) }

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

	// SecureBoot is how Secure Boot stood; nil when the log does not explain PCR 7.
	SecureBoot *secureboot.State `json:"secureBoot,omitempty"`

	Next    *Since `json:"next,omitempty"`    // what to hold later evidence of the device against; nil: this establishes nothing
	Running []byte `json:"running,omitempty"` // components that ran since boot (package inventory), as a quote vouches for them
}

// lower sets a claim's tier, or joins it with what is there.
func (r *Result) lower(c Claim, t Tier) {
	if old, ok := r.Claims[c]; ok {
		t = join(old, t)
	}
	r.Claims[c] = t
}

func (r *Result) find(fs ...finding.Finding) { r.Findings = append(r.Findings, fs...) }

// next sets what later evidence is held against: what a quote vouches for, and of
// the list as far as PCR 10 confirms it. What was known of the same boot's list
// stays where this evidence adds nothing to it.
func (r *Result) next(e evidence.Evidence, v vouched, list ima.Checkpoint, known *Since) {
	if v.clock == nil {
		return
	}
	r.Running = e.Running
	r.Next = &Since{Boot: e.Boot, Clock: *v.clock, List: list, Epoch: e.Record.Epoch, Sequence: e.Record.Sequence}
	if r.Next.Sequence == 0 && known != nil {
		r.Next.Epoch, r.Next.Sequence = known.Epoch, known.Sequence
	}
	if list.Entries == 0 && known != nil && known.Boot == e.Boot {
		r.Next.List = known.List
	}
}
