package release

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ward/internal/format/pcr"
	"ward/internal/trust/policy"
)

// States lists the states that the release accepts of some registers under a
// firmware: their exact values and, where user space extends a register after
// the firmware, those after each step. A register that is not exact, and more
// than 128 states, are errors that say why.
func (b Boot) States(firmware string, pcrs []int) ([]pcr.Values, error) {
	states := []pcr.Values{{}}
	for _, n := range pcrs {
		held, err := b.held(firmware, n)
		if err != nil {
			return nil, err
		}
		if len(states)*len(held) > maxApprovals {
			return nil, fmt.Errorf("list states of firmware %q: more than %d, for user space extends several of PCR %v", firmware, maxApprovals, pcrs)
		}
		var longer []pcr.Values
		for _, s := range states {
			for _, d := range held {
				next := maps.Clone(s)
				next[n] = d
				longer = append(longer, next)
			}
		}
		states = longer
	}
	return states, nil
}

// held lists what an exact register holds under a firmware, step by step.
func (b Boot) held(firmware string, n int) ([]pcr.Digest, error) {
	ref, named := b.PCRs[n]
	switch {
	case !named:
		return nil, fmt.Errorf("PCR %d is not in the manifest", n)
	case ref.Mode == Recorded:
		return nil, fmt.Errorf("PCR %d is recorded and has no exact value: %s", n, ref.Reason)
	case ref.Mode == Events:
		return nil, fmt.Errorf("PCR %d is judged by its events and has no exact value", n)
	}
	v, ok := ref.Of(firmware)
	if !ok {
		return nil, fmt.Errorf("PCR %d has no value of firmware %q", n, firmware)
	}
	all := []pcr.Digest{v.Digest}
	for _, e := range ref.UserEvents {
		all = append(all, pcr.SHA256.Sum(slices.Concat(all[len(all)-1], e.Digest)))
	}
	return all, nil
}

// accepts tells whether some accepted firmware gives these values; registers
// that are not exact say nothing against it.
func (b Boot) accepts(values pcr.Values) bool {
	return slices.ContainsFunc(b.Firmware, func(firmware string) bool {
		for n, d := range values {
			if b.PCRs[n].Mode != Exact {
				continue
			}
			held, err := b.held(firmware, n)
			if err != nil || !slices.ContainsFunc(held, func(h pcr.Digest) bool { return bytes.Equal(h, d) }) {
				return false
			}
		}
		return true
	})
}

// Approval says what the policy key is to sign for a release.
type Approval struct {
	Base    uint64 // what manufacture steps the rollback counter to
	PCRs    []int  // ascending; nil: DefaultComposite
	NoRaise bool   // the release never moves the counter
}

// Approve gives the manifest an identity policy in the place of the one that it
// has: every state of the registers that the release accepts, and the permission
// to raise the counter, each signed by the policy key. A file's key signs
// deterministically (RFC 6979). Registers other than the default's become
// composites of the release.
func (m Manifest) Approve(a Approval, key crypto.Signer) (Manifest, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Manifest{}, fmt.Errorf("approve boot states: %w", err)
	}
	p := IdentityPolicy{PolicyKey: public, Base: a.Base}
	m.Boot = m.Boot.clone()
	pcrs := a.PCRs
	if pcrs == nil {
		pcrs = DefaultComposite
	} else if len(pcrs) == 0 || !slices.IsSorted(pcrs) {
		return Manifest{}, errors.New("approve boot states: want registers in ascending order")
	}
	for _, firmware := range m.Boot.Firmware {
		states, err := m.Boot.States(firmware, pcrs)
		if err != nil {
			return Manifest{}, fmt.Errorf("approve boot states: %w", err)
		}
		for _, s := range states {
			if slices.ContainsFunc(p.Approvals, func(o policy.Approval) bool { return equalValues(o.Values, s) }) {
				continue // two firmware that measure the same
			}
			signed, err := policy.Approval{Bank: pcr.SHA256, Values: s, AtMost: a.Base + m.RollbackIndex}.Sign(nil, key)
			if err != nil {
				return Manifest{}, fmt.Errorf("approve boot states: %w", err)
			}
			p.Approvals = append(p.Approvals, signed)
		}
	}
	if !a.NoRaise {
		signed, err := policy.Raise{To: a.Base + m.RollbackIndex}.Sign(nil, key)
		if err != nil {
			return Manifest{}, fmt.Errorf("approve boot states: %w", err)
		}
		p.Raise = &signed
	}
	if !slices.Equal(pcrs, DefaultComposite) && !slices.ContainsFunc(m.Boot.Composites, func(c Composite) bool { return slices.Equal(c.PCRs, pcrs) }) {
		if err := m.Boot.Compose(pcrs); err != nil {
			return Manifest{}, fmt.Errorf("approve boot states: %w", err)
		}
	}
	m.IdentityPolicy = &p
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("approve boot states: %w: %w", ErrManifest, err)
	}
	return m, nil
}
