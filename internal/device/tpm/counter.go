package tpm

import (
	"context"
	"fmt"

	"ward/internal/device/tpm/bootpolicy"
	"ward/internal/device/tpm/nvram"
	"ward/internal/trust/policy"
)

// ErrNotPermitted: the policy key does not permit the counter's step.
var ErrNotPermitted = bootpolicy.ErrNotPermitted

// JournalCounter is policy.JournalCounter.
func JournalCounter(durable bool) policy.Index { return policy.JournalCounter(durable) }

// ReadCounter reads a counter. One that was never stepped gives nvram.ErrNeverWritten.
func (t *TPM) ReadCounter(ctx context.Context, index policy.Index, auth []byte) (uint64, error) {
	return run(ctx, t, fmt.Sprintf("read counter 0x%08x", index.Handle), func(c *channel) (uint64, error) {
		name, guarded, err := t.openNV(c, index, auth, neither)
		if err != nil {
			return 0, err
		}
		return name.Counter(c, guarded)
	})
}

// Increment steps a counter once and reads it (TPM2_NV_Increment, Part 3,
// section 31.8). A command that is sent twice by somebody on the bus moves it
// once. After an error the counter may have moved: read it.
func (t *TPM) Increment(ctx context.Context, index policy.Index, auth []byte) (uint64, error) {
	return run(ctx, t, fmt.Sprintf("step counter 0x%08x", index.Handle), func(c *channel) (uint64, error) {
		name, guarded, err := t.openNV(c, index, auth, neither)
		if err != nil {
			return 0, err
		}
		if err := nvram.Step(c, name.With(guarded), name.Named); err != nil {
			return 0, err
		}
		if name, err = nvram.Find(c, index); err != nil { // the first step changes the name
			return 0, err
		}
		return name.Counter(c, guarded)
	})
}

// DefineRollback makes the anti-rollback counter of devices with this policy key
// at manufacture, and steps it to its base with the owner's authorisation. A TPM
// whose counters were above the base before gives ErrCounterAhead: it cannot be
// used. It can be repeated as long as no release has raised the counter.
func (t *TPM) DefineRollback(ctx context.Context, key policy.Key, base uint64) error {
	index := policy.RollbackCounter(key)
	_, err := run(ctx, t, "define rollback counter", func(c *channel) (struct{}, error) {
		if err := t.defineNV(c, index, nil); err != nil {
			return struct{}{}, err
		}
		name, guarded, err := t.openNV(c, index, nil, neither)
		if err != nil {
			return struct{}{}, err
		}
		owner, err := t.owner(c)
		if err != nil {
			return struct{}{}, err
		}
		if !name.Written {
			if err := nvram.Step(c, owner, name.Named); err != nil {
				return struct{}{}, owned(err)
			}
			if name, err = nvram.Find(c, index); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, name.Raise(c, guarded, base, func() error { return owned(nvram.Step(c, owner, name.Named)) })
	})
	return err
}

// Raise steps the anti-rollback counter up to what the policy key permits. A
// counter that is there already is left alone; one above gives ErrCounterAhead.
func (t *TPM) Raise(ctx context.Context, key policy.Key, permission policy.Raise) error {
	if err := permission.Verify(key); err != nil {
		return fmt.Errorf("raise rollback counter: %w: %w", ErrNotPermitted, err)
	}
	index := policy.RollbackCounter(key)
	_, err := run(ctx, t, "raise rollback counter", func(c *channel) (struct{}, error) {
		name, guarded, err := t.openNV(c, index, nil, neither)
		if err != nil {
			return struct{}{}, err
		}
		root, _, err := t.storageSalt(c)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, name.Raise(c, guarded, permission.To, func() error {
			return bootpolicy.Step(c, root, name, key, permission)
		})
	})
	return err
}
