package provision

import (
	"context"
	"fmt"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
	"ward/internal/trust/policy"
)

// SealSecret seals 1 to 128 bytes to this TPM and, with a policy, to the boot
// states that it stands for, and stores them under a name.
func SealSecret(ctx context.Context, chip *tpm.TPM, store *idstore.Store, name string, secret []byte, boot *policy.Digest) error {
	if _, err := pinned(chip, store); err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	blob, err := chip.Seal(ctx, secret, boot)
	if err == nil {
		err = store.SetSecret(name, SecretFile(blob))
	}
	if err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	return nil
}

// Unseal reads a stored secret. boot is asked for one that is bound to the boot
// state. tpm.ErrBootState, tpm.ErrRollback, tpm.ErrPolicy and tpm.ErrOtherTPM say
// why it stays shut.
func Unseal(ctx context.Context, chip *tpm.TPM, store *idstore.Store, name string, boot func() (*tpm.Boot, error)) ([]byte, error) {
	secret, err := unseal(ctx, chip, store, name, boot)
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", name, err)
	}
	return secret, nil
}

func unseal(ctx context.Context, chip *tpm.TPM, store *idstore.Store, name string, boot func() (*tpm.Boot, error)) ([]byte, error) {
	f, err := store.Secret(name)
	if err != nil {
		return nil, err
	}
	if _, err := pinned(chip, store); err != nil {
		return nil, err
	}
	bound, err := PolicyOf(f)
	if err != nil {
		return nil, err
	}
	var b *tpm.Boot
	if bound != nil {
		if b, err = boot(); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoApprovals, err)
		}
	}
	return chip.Unseal(ctx, blobOf(f), b)
}
