package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/session"
)

// TakeOwnership gives the owner and the lockout hierarchy their authorisations,
// at manufacture and after ProvisionKeys (TPM2_HierarchyChangeAuth, Part 3,
// section 24.8). From then on nobody without them can undefine a counter, make
// an object persistent or clear the TPM. The values, made by NewAuth, cross the
// bus encrypted. A hierarchy that has one already gives ErrOwned and is left as
// it is: go-tpm cannot change one, as it verifies the answer with the old value
// where the TPM signs with the new.
func (t *TPM) TakeOwnership(ctx context.Context, owner, lockout []byte) error {
	if err := errors.Join(usable(owner), usable(lockout)); err != nil {
		return fmt.Errorf("take ownership: %w", err)
	}
	status, err := t.Status(ctx)
	if err != nil {
		return err
	}
	if status.OwnerSet || status.LockoutSet {
		return fmt.Errorf("take ownership: %w", ErrOwned)
	}
	return t.setAuthorizations(ctx, authorization{tpm2.TPMRHLockout, lockout}, authorization{tpm2.TPMRHOwner, owner})
}

// CompleteOwnership ends a TakeOwnership that was cut off between the two
// hierarchies: the lockout hierarchy has its authorisation, the owner has none. A
// TPM in another state gives ErrOwned.
func (t *TPM) CompleteOwnership(ctx context.Context, owner []byte) error {
	if err := usable(owner); err != nil {
		return fmt.Errorf("complete ownership: %w", err)
	}
	status, err := t.Status(ctx)
	if err != nil {
		return err
	}
	if status.OwnerSet || !status.LockoutSet {
		return fmt.Errorf("complete ownership: %w", ErrOwned)
	}
	return t.setAuthorizations(ctx, authorization{tpm2.TPMRHOwner, owner})
}

// ProveOwner checks the owner's authorisation that was given (Authorize) by using
// it, and leaves nothing behind. A wrong one gives ErrOwned.
func (t *TPM) ProveOwner(ctx context.Context) error {
	_, err := run(ctx, t, "prove the owner's authorisation", func(c *channel) (struct{}, error) {
		made, err := t.createRoot(c, tpm2.ECCSRKTemplate)
		if err == nil {
			c.Flush(made.Handle)
		}
		return struct{}{}, err
	})
	return err
}

type authorization struct {
	hierarchy tpm2.TPMHandle
	value     []byte
}

// setAuthorizations gives hierarchies without an authorisation one; the owner is
// the last.
func (t *TPM) setAuthorizations(ctx context.Context, all ...authorization) error {
	_, err := run(ctx, t, "take ownership", func(c *channel) (struct{}, error) {
		root, _, err := t.storageSalt(c)
		if err != nil {
			return struct{}{}, err
		}
		hidden, err := session.Protected(c, root, session.HideCommand)
		if err != nil {
			return struct{}{}, err
		}
		for _, h := range all {
			_, err := tpm2.HierarchyChangeAuth{
				AuthHandle: tpm2.AuthHandle{Handle: h.hierarchy, Auth: tpm2.PasswordAuth(nil)}, NewAuth: tpm2.TPM2BAuth{Buffer: h.value},
			}.Execute(c, hidden)
			if err != nil {
				return struct{}{}, owned(err)
			}
		}
		return struct{}{}, nil
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.auths.Owner = all[len(all)-1].value
	return nil
}

// usable refuses what is no authorisation of at least 16 bytes.
func usable(auth []byte) error {
	const least = 16
	if len(auth) < least {
		return fmt.Errorf("an authorisation of %d bytes, want at least %d", len(auth), least)
	}
	return session.Usable(auth)
}
