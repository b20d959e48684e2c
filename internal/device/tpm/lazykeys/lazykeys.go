// Package lazykeys makes, certifies and uses the keys that are kept outside of a
// TPM that is opened when it is needed (TPM 2.0 Library Specification, Part 3,
// sections 12 and 18.2), so that a signer lives on when the TPM was gone and came
// back.
package lazykeys

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/trust/credential"
	"ward/internal/trust/policy"
)

// Keys are those of one TPM.
type Keys struct{ Lazy *tpm.Lazy }

// CreateKey is TPM.CreateKey.
func (k Keys) CreateKey(ctx context.Context, boot *policy.Digest) (tpm.Blob, error) {
	return tpm.With(k.Lazy, func(t *tpm.TPM) (tpm.Blob, error) { return t.CreateKey(ctx, boot) })
}

// CertifyKey is TPM.CertifyKey.
func (k Keys) CertifyKey(ctx context.Context, blob tpm.Blob) (tpm.Certification, error) {
	return tpm.With(k.Lazy, func(t *tpm.TPM) (tpm.Certification, error) { return t.CertifyKey(ctx, blob) })
}

// tpm.Endorsement is TPM.Endorsement.
func (k Keys) Endorsement(ctx context.Context) (tpm.Endorsement, error) {
	return tpm.With(k.Lazy, func(t *tpm.TPM) (tpm.Endorsement, error) { return t.Endorsement(ctx) })
}

// Activate is TPM.Activate for the attestation key.
func (k Keys) Activate(ctx context.Context, ek tpm.Endorsement, blob credential.Blob) ([]byte, error) {
	return tpm.With(k.Lazy, func(t *tpm.TPM) ([]byte, error) { return t.Activate(ctx, ek, tpm.HandleAK, blob) })
}

// Is sees that the TPM is there and has this storage root key (TPMT_PUBLIC), with
// one command. Another one, or none, gives tpm.ErrOtherTPM.
func (k Keys) Is(ctx context.Context, srk []byte) error {
	_, err := tpm.With(k.Lazy, func(t *tpm.TPM) (struct{}, error) {
		key, err := t.ReadPublic(ctx, tpm.HandleSRK)
		if err == nil && !bytes.Equal(key.Area, srk) {
			err = fmt.Errorf("compare storage root keys: %w", tpm.ErrOtherTPM)
		}
		return struct{}{}, err
	})
	return err
}

// KeySigner is a Signer for a key that is kept outside. Unlike BlobSigner's it
// asks for the TPM at every signature, so that it lives on when the TPM was gone
// and came back. boot is nil for a key without a policy.
func (k Keys) KeySigner(blob tpm.Blob, boot func() tpm.Boot, timeout time.Duration) (crypto.Signer, error) {
	key, err := blob.Key()
	if err != nil {
		return nil, err
	}
	return &lazySigner{lazy: k.Lazy, blob: blob, boot: boot, timeout: timeout, key: key}, nil
}

type lazySigner struct {
	lazy    *tpm.Lazy
	blob    tpm.Blob
	boot    func() tpm.Boot
	timeout time.Duration
	key     tpm.Key
}

func (s *lazySigner) Public() crypto.PublicKey { return s.key.Public }

func (s *lazySigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return tpm.With(s.lazy, func(t *tpm.TPM) ([]byte, error) {
		signer, err := t.BlobSigner(context.Background(), s.blob, s.boot, s.timeout)
		if err != nil {
			return nil, err
		}
		return signer.Sign(random, digest, opts)
	})
}
