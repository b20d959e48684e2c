package chip

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
	"ward/internal/trust/checkpoint"
)

// Counters are the journal's counters, by the value that manufacture gave them.
type Counters struct {
	Chip  *tpm.Lazy
	Store *idstore.Store
}

// Key is the attestation key.
func (c Counters) Key(ctx context.Context) (*ecdsa.PublicKey, error) {
	return c.Chip.AttestationKey(ctx)
}

func (c Counters) auth() ([]byte, error) {
	auth, err := c.Store.Auth("journal")
	if errors.Is(err, idstore.ErrNone) {
		return nil, fmt.Errorf("this device has no journal counters, it was not manufactured: %w", err)
	}
	return auth, err
}

// Certify has the attestation key certify where a counter stands.
func (c Counters) Certify(ctx context.Context, counter checkpoint.Counter, qualifying [32]byte) (attest, signature []byte, err error) {
	auth, err := c.auth()
	if err != nil {
		return nil, nil, err
	}
	index, _ := counter.Index()
	certified, err := tpm.With(c.Chip, func(t *tpm.TPM) (tpm.Certification, error) {
		return t.CertifyCounter(ctx, index, auth, qualifying)
	})
	return certified.Attest, certified.Signature, err
}

// Step moves a counter on by one.
func (c Counters) Step(ctx context.Context, counter checkpoint.Counter) error {
	auth, err := c.auth()
	if err != nil {
		return err
	}
	index, _ := counter.Index()
	_, err = tpm.With(c.Chip, func(t *tpm.TPM) (uint64, error) { return t.Increment(ctx, index, auth) })
	return err
}
