package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/statefile"
	"ward/internal/device/tpm"
	"ward/internal/trust/policy"
)

// maxState bounds the entries of the state folder that are erased: Ward makes a
// dozen.
const maxState = 4096

// lostAndFound is the file system's own.
const lostAndFound = "lost+found"

// Parting says how a device's life ends.
type Parting struct {
	State string // the state directory
	// Farewell keeps the signed farewell and returns when it is durable. Nil: none is
	// made, as for a device whose TPM is dead.
	Farewell func(envelope []byte) error
	// Vault are the TPM's authorisations: with them Ward's objects are removed from
	// it. Nil: they stay.
	Vault *Vault
	// PolicyKey names the rollback counter that is to be removed with the vault.
	PolicyKey *policy.Key
	Now       time.Time
}

// Decommission ends a device's life: a last event, signed by the reporting key,
// goes into the journal and to o.Farewell; then identity and sealed secrets,
// journal and everything else in the state directory are written over and removed;
// last Ward's objects in the TPM, if the vault is given. Nothing is removed before
// the farewell is kept and the vault's values have proved right. It can be
// repeated when it was cut off, then without a farewell.
func Decommission(ctx context.Context, chip *tpm.TPM, store *idstore.Store, o Parting) error {
	if o.Vault != nil {
		if err := unlock(ctx, chip, store, *o.Vault); err != nil {
			return fmt.Errorf("decommission: %w", err)
		}
	}
	if o.Farewell != nil {
		envelope, err := sayFarewell(ctx, chip, store, o)
		if err == nil {
			err = o.Farewell(envelope)
		}
		if err != nil {
			return fmt.Errorf("farewell: %w", err)
		}
	}
	if err := errors.Join(store.Wipe(), wipe(o.State)); err != nil {
		return fmt.Errorf("decommission: %w", err)
	}
	if o.Vault == nil {
		return nil
	}
	if err := vacate(ctx, chip, o.PolicyKey); err != nil {
		return fmt.Errorf("the state is wiped; remove Ward's objects from the TPM: %w", err)
	}
	return nil
}

// unlock proves the vault's value before anything is lost.
func unlock(ctx context.Context, chip *tpm.TPM, store *idstore.Store, v Vault) error {
	if d, err := store.Device(); err == nil && (d.Tenant != v.Tenant || d.Serial != v.Serial) {
		return fmt.Errorf("%w: it is of %s of %s, this is %s of %s", ErrVault, v.Serial, v.Tenant, d.Serial, d.Tenant)
	}
	s, err := chip.Status(ctx)
	if err != nil {
		return err
	}
	if !s.OwnerSet {
		return nil
	}
	owner, _, err := v.values()
	if err == nil {
		err = chip.Authorize(tpm.Authorizations{Owner: owner})
	}
	if err == nil {
		err = chip.ProveOwner(ctx)
	}
	if err != nil {
		return fmt.Errorf("the vault file's value is not the TPM's: %w", err)
	}
	return nil
}

// wipe erases what is in the state directory.
func wipe(state string) (err error) {
	f, err := statefile.OpenFolder(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	entries, err := f.List(".", maxState)
	for _, e := range entries {
		if e.Name() != lostAndFound {
			err = errors.Join(err, f.Erase(e.Name()))
		}
	}
	return err
}

// vacate removes Ward's counters and keys from the TPM.
func vacate(ctx context.Context, chip *tpm.TPM, key *policy.Key) error {
	indexes := []policy.Index{tpm.JournalCounter(false), tpm.JournalCounter(true)}
	if key != nil {
		indexes = append(indexes, policy.RollbackCounter(*key))
	}
	for _, x := range indexes {
		if err := chip.UndefineNV(ctx, x); err != nil {
			return err
		}
	}
	return chip.EvictKeys(ctx)
}
