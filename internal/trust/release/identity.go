package release

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ward/internal/format/dsse"
	"ward/internal/format/pcr"
	"ward/internal/trust/policy"
)

// IdentityPolicy is what opens keys and secrets that are bound to the boot state,
// while this release runs: what the policy key has signed for it.
type IdentityPolicy struct {
	PolicyKey []byte            `json:"policyKey"` // SubjectPublicKeyInfo
	Base      uint64            `json:"base"`      // what manufacture steps the rollback counter to
	Approvals []policy.Approval `json:"approvals"` // one for each boot state, counter at most base + rollbackIndex
	Raise     *policy.Raise     `json:"raise,omitempty"`
}

// maxApprovals bounds the approvals: one for each accepted firmware and, where
// user space extends a register, each step of that.
const maxApprovals = 128

// ErrPolicyKey: the identity policy is by another policy key than the one that
// is trusted.
var ErrPolicyKey = errors.New("the identity policy is by another policy key")

// Key is the policy key that the manifest names. It is trusted only where it is
// the one of the trust anchors; the TPM takes no other.
func (p IdentityPolicy) Key() (policy.Key, error) {
	public, err := x509.ParsePKIXPublicKey(p.PolicyKey)
	if err != nil {
		return policy.Key{}, fmt.Errorf("parse policy key: %w: %w", policy.ErrKey, err)
	}
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return policy.Key{}, fmt.Errorf("parse policy key: %w: want a key on the curve P-256", policy.ErrKey)
	}
	key, err := policy.NewKey(ec)
	if err != nil {
		return policy.Key{}, fmt.Errorf("parse policy key: %w", err)
	}
	if again, err := x509.MarshalPKIXPublicKey(ec); err != nil || !bytes.Equal(again, p.PolicyKey) {
		return policy.Key{}, fmt.Errorf("parse policy key: %w: another encoding than DER", policy.ErrKey)
	}
	return key, nil
}

// By tells whether the policy is by a key that is trusted, ErrPolicyKey if not.
func (p IdentityPolicy) By(trusted policy.Key) error {
	key, err := p.Key()
	if err != nil {
		return err
	}
	if !bytes.Equal(key.Name, trusted.Name) {
		return fmt.Errorf("%w: it names %x, trusted is %x", ErrPolicyKey, key.Name, trusted.Name)
	}
	return nil
}

// ParseUntrustedIdentityPolicy reads the identity policy of an envelope whose
// signatures nobody has verified, for who has no release keys, as in the
// initramfs. The policy key that is given has signed every approval and the
// permission of what is returned, and the TPM takes nothing else; of the release
// itself nothing is vouched for. A manifest without an identity policy gives nil.
// Errors wrap dsse.ErrMalformed, dsse.ErrPayloadType, ErrSchema, ErrManifest or
// ErrPolicyKey.
func ParseUntrustedIdentityPolicy(envelope []byte, trusted policy.Key) (*IdentityPolicy, error) {
	e, err := dsse.Parse(envelope)
	if err != nil {
		return nil, fmt.Errorf("read identity policy: %w", err)
	}
	if e.UntrustedPayloadType != PayloadType {
		return nil, fmt.Errorf("read identity policy: %w: %q", dsse.ErrPayloadType, e.UntrustedPayloadType)
	}
	m, err := Parse(e.UntrustedPayload)
	if err != nil {
		return nil, fmt.Errorf("read identity policy: %w", err)
	}
	if m.IdentityPolicy == nil {
		return nil, nil
	}
	if err := m.IdentityPolicy.By(trusted); err != nil {
		return nil, fmt.Errorf("read identity policy: %w", err)
	}
	return m.IdentityPolicy, nil
}

// check is step 9 of Parse. Errors begin with the field's name.
func (p *IdentityPolicy) check(m *Manifest) error {
	key, err := p.Key()
	if err != nil {
		return fmt.Errorf("policyKey: %w", err)
	}
	if p.Base == 0 {
		return errors.New("base: 0, want what manufacture steps the counter to, from 1")
	}
	bound := p.Base + m.RollbackIndex
	if bound < p.Base {
		return fmt.Errorf("base: %d and the rollback index %d are more than a counter can hold", p.Base, m.RollbackIndex)
	}
	if len(p.Approvals) == 0 || len(p.Approvals) > maxApprovals {
		return fmt.Errorf("approvals: %d, want 1 to %d", len(p.Approvals), maxApprovals)
	}
	for i, a := range p.Approvals {
		if slices.ContainsFunc(p.Approvals[:i], func(o policy.Approval) bool { return equalValues(o.Values, a.Values) }) {
			return fmt.Errorf("approvals[%d]: the boot state stands twice", i)
		}
		if err := checkApproval(a, key, bound, &m.Boot); err != nil {
			return fmt.Errorf("approvals[%d].%w", i, err)
		}
	}
	if p.Raise == nil {
		return nil
	}
	if p.Raise.To != bound {
		return fmt.Errorf("raise.to: %d, want base and rollback index, %d", p.Raise.To, bound)
	}
	if err := p.Raise.Verify(key); err != nil {
		return fmt.Errorf("raise.signature: %w", err)
	}
	return nil
}

func checkApproval(a policy.Approval, key policy.Key, bound uint64, b *Boot) error {
	if a.Bank != pcr.SHA256 {
		return fmt.Errorf("bank: %q, want %q", a.Bank, pcr.SHA256)
	}
	if a.AtMost != bound {
		return fmt.Errorf("counterAtMost: %d, want base and rollback index, %d", a.AtMost, bound)
	}
	registers := slices.Sorted(maps.Keys(a.Values))
	if !slices.Equal(registers, DefaultComposite) && !slices.ContainsFunc(b.Composites, func(c Composite) bool { return slices.Equal(registers, c.PCRs) }) {
		return fmt.Errorf("pcrs: %v, want %v or those of a composite", registers, DefaultComposite)
	}
	for _, n := range registers {
		if err := checkDigest(a.Values[n]); err != nil {
			return fmt.Errorf("pcrs.%d: %w", n, err)
		}
	}
	if !b.accepts(a.Values) {
		return errors.New("pcrs: a state that the release itself does not accept under any firmware")
	}
	if err := a.Verify(key); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	return nil
}

func equalValues(x, y pcr.Values) bool {
	return maps.EqualFunc(x, y, func(d, e pcr.Digest) bool { return bytes.Equal(d, e) })
}

// clone copies what a caller could change; nil stays nil.
func (p *IdentityPolicy) clone() *IdentityPolicy {
	if p == nil {
		return nil
	}
	c := *p
	c.PolicyKey = slices.Clone(p.PolicyKey)
	c.Approvals = slices.Clone(p.Approvals)
	for i, a := range c.Approvals {
		c.Approvals[i].Values, c.Approvals[i].Signature = maps.Clone(a.Values), slices.Clone(a.Signature)
	}
	if p.Raise != nil {
		r := *p.Raise
		r.Signature = slices.Clone(r.Signature)
		c.Raise = &r
	}
	return &c
}
