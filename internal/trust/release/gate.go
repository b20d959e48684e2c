package release

import (
	"fmt"

	"ward/internal/trust/policy"
)

// Standing is what is known when the rollback counter may be moved.
type Standing struct {
	Running   *Verified   // nil: no release was verified
	Trusted   *policy.Key // the policy key of the trust anchors; nil: there is none
	Affirming bool        // the boot of the running release was appraised so
	Confirmed bool        // the slot of the running release was marked good
	Counter   uint64      // of the TPM
}

// Gate is where a release stands towards the rollback counter. The zero Gate is
// one that moves nothing.
type Gate int

const (
	// GateUnverified: there is no verified release.
	GateUnverified Gate = iota
	// GateUnbound: the release has no identity policy.
	GateUnbound
	// GateForeign: its identity policy is not by the policy key of the trust anchors.
	GateForeign
	// GateLockedOut: the counter is ahead: a newer release was confirmed on this device.
	GateLockedOut
	// GateCurrent: the counter stands at this release.
	GateCurrent
	// GateNotPermitted: the release carries no permission to move the counter.
	GateNotPermitted
	// GateNotAffirming: the boot was not appraised as affirming.
	GateNotAffirming
	// GateUnconfirmed: nobody has marked the slot good.
	GateUnconfirmed
	// GateOpen: the counter may be moved up to this release, and no further.
	GateOpen
)

var gates = [...]string{"unverified", "unbound", "foreign", "locked-out", "current", "not-permitted", "not-affirming", "unconfirmed", "open"}

// String is the gate's word, "locked-out".
func (g Gate) String() string {
	if g < 0 || int(g) >= len(gates) {
		return fmt.Sprintf("Gate(%d)", int(g))
	}
	return gates[g]
}

// Decision is what DecideRaise comes to.
type Decision struct {
	Gate   Gate
	Raise  policy.Raise // of GateOpen
	Bound  uint64       // base and rollback index, where the release has an identity policy
	Reason string       // for people
}

// DecideRaise decides whether the rollback counter may be moved, in the order of
// the gates. It decides alone; package updategate moves.
func DecideRaise(s Standing) Decision {
	if s.Running == nil || s.Running.manifest.Schema == 0 {
		return Decision{Reason: "no release was verified"}
	}
	m := &s.Running.manifest
	p := m.IdentityPolicy
	if p == nil {
		return Decision{Gate: GateUnbound, Reason: "the release has no identity policy: nothing depends on the counter"}
	}
	if s.Trusted == nil {
		return Decision{Gate: GateForeign, Reason: "the trust anchors hold no policy key"}
	}
	if err := p.By(*s.Trusted); err != nil {
		return Decision{Gate: GateForeign, Reason: err.Error()}
	}
	d := Decision{Bound: p.Base + m.RollbackIndex}
	switch {
	case s.Counter > d.Bound:
		d.Gate, d.Reason = GateLockedOut, fmt.Sprintf("the counter is at %d, version %s works up to %d: a newer release was confirmed on this device", s.Counter, m.Version, d.Bound)
	case s.Counter == d.Bound:
		d.Gate, d.Reason = GateCurrent, fmt.Sprintf("the counter stands at this release, %d", s.Counter)
	case p.Raise == nil || p.Raise.To != d.Bound:
		d.Gate, d.Reason = GateNotPermitted, fmt.Sprintf("version %s carries no permission to move the counter", m.Version)
	case !s.Affirming:
		d.Gate, d.Reason = GateNotAffirming, "the verdict on this boot is not affirming"
	case !s.Confirmed:
		d.Gate, d.Reason = GateUnconfirmed, fmt.Sprintf("version %s has not been confirmed: older releases still open what is bound to the boot state", m.Version)
	default:
		d.Gate, d.Raise, d.Reason = GateOpen, *p.Raise, fmt.Sprintf("the counter moves from %d to %d", s.Counter, d.Bound)
	}
	return d
}
