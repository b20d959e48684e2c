package tpm

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"
	"time"

	"ward/internal/trust/credential"
	"ward/internal/trust/policy"
)

// CreateKey is TPM.CreateKey.
func (l *Lazy) CreateKey(ctx context.Context, boot *policy.Digest) (Blob, error) {
	return With(l, func(t *TPM) (Blob, error) { return t.CreateKey(ctx, boot) })
}

// CertifyKey is TPM.CertifyKey.
func (l *Lazy) CertifyKey(ctx context.Context, blob Blob) (Certification, error) {
	return With(l, func(t *TPM) (Certification, error) { return t.CertifyKey(ctx, blob) })
}

// Endorsement is TPM.Endorsement.
func (l *Lazy) Endorsement(ctx context.Context) (Endorsement, error) {
	return With(l, func(t *TPM) (Endorsement, error) { return t.Endorsement(ctx) })
}

// Activate is TPM.Activate for the attestation key.
func (l *Lazy) Activate(ctx context.Context, ek Endorsement, blob credential.Blob) ([]byte, error) {
	return With(l, func(t *TPM) ([]byte, error) { return t.Activate(ctx, ek, HandleAK, blob) })
}

// Is sees that the TPM is there and has this storage root key (TPMT_PUBLIC), with
// one command. Another one, or none, gives ErrOtherTPM.
func (l *Lazy) Is(ctx context.Context, srk []byte) error {
	_, err := With(l, func(t *TPM) (struct{}, error) {
		key, err := t.ReadPublic(ctx, HandleSRK)
		if err == nil && !bytes.Equal(key.Area, srk) {
			err = fmt.Errorf("compare storage root keys: %w", ErrOtherTPM)
		}
		return struct{}{}, err
	})
	return err
}

// KeySigner is a Signer for a key that is kept outside. Unlike BlobSigner's it
// asks for the TPM at every signature, so that it lives on when the TPM was gone
// and came back. boot is nil for a key without a policy.
func (l *Lazy) KeySigner(blob Blob, boot func() Boot, timeout time.Duration) (crypto.Signer, error) {
	key, err := blob.Key()
	if err != nil {
		return nil, err
	}
	return &lazySigner{lazy: l, blob: blob, boot: boot, timeout: timeout, key: key}, nil
}

type lazySigner struct {
	lazy    *Lazy
	blob    Blob
	boot    func() Boot
	timeout time.Duration
	key     Key
}

func (s *lazySigner) Public() crypto.PublicKey { return s.key.Public }

func (s *lazySigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return With(s.lazy, func(t *TPM) ([]byte, error) {
		signer, err := t.BlobSigner(context.Background(), s.blob, s.boot, s.timeout)
		if err != nil {
			return nil, err
		}
		return signer.Sign(random, digest, opts)
	})
}
