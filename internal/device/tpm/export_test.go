package tpm

import (
	"context"
	"fmt"

	"ward/internal/device/tpm/object"
)

// HandleSigning is where a test keeps a signing key that is not restricted, as a
// build host's policy key may lie in a TPM.
const HandleSigning uint32 = 0x81001010

// ProvisionSigning makes the keys of manufacture, and the test's.
func (t *TPM) ProvisionSigning(ctx context.Context) (Keys, Key, error) {
	keys, err := t.ProvisionKeys(ctx)
	if err != nil {
		return Keys{}, Key{}, err
	}
	key, err := run(ctx, t, "make a signing key", func(c *channel) (Key, error) {
		return t.provision(c, HandleSigning, object.SigningTemplate(false), beneath(keys.SRK))
	})
	if err != nil {
		return Keys{}, Key{}, fmt.Errorf("signing key: %w", err)
	}
	return keys, key, nil
}
