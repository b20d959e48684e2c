package bootpolicy

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
	"ward/internal/device/tpm/nvram"
	"ward/internal/device/tpm/session"
	"ward/internal/trust/policy"
)

// ErrNotPermitted: the policy key does not permit the counter's step.
var ErrNotPermitted = errors.New("the policy key does not permit to raise the counter so far")

// Step steps the rollback counter with a policy session: PolicyNV, PolicyCommandCode,
// PolicyAuthorize.
func Step(c *link.Channel, root session.Salt, name nvram.Index, key policy.Key, permission policy.Raise) error {
	guarded, err := session.Policy(c, root)
	if err != nil {
		return err
	}
	defer c.Flush(guarded.Handle())
	err = Compare(c, guarded, name.Named, permission.Operand(), policy.UnsignedLess)
	if err == nil {
		_, err = tpm2.PolicyCommandCode{PolicySession: guarded.Handle(), Code: tpm2.TPMCCNVIncrement}.Execute(c)
	}
	if err == nil {
		err = Authorize(c, guarded, key, permission.Digest(key), permission.Reference(), permission.Signature)
	}
	if err == nil {
		err = nvram.Step(c, name.With(guarded), name.Named)
	}
	if errors.Is(err, tpm2.TPMRCPolicy) || errors.Is(err, tpm2.TPMRCPolicyFail) {
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}
