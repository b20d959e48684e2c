package release

import "ward/internal/trust/policy"

// IdentityPolicy is what opens keys and secrets that are bound to the boot state,
// while this release runs: what the policy key has signed for it.
type IdentityPolicy struct {
	PolicyKey []byte            `json:"policyKey"` // SubjectPublicKeyInfo
	Base      uint64            `json:"base"`      // what manufacture steps the rollback counter to
	Approvals []policy.Approval `json:"approvals"` // one for each accepted firmware, counter at most base + rollbackIndex
	Raise     *policy.Raise     `json:"raise,omitempty"`
}
