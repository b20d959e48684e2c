package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/object"
)

// signTimeout bounds one signature with the waiting for other commands; TPMs
// on boards sign in 200 to 600 ms.
const signTimeout = 10 * time.Second

// Signer returns a crypto.Signer for the P-256 signing key at a persistent
// handle. It signs SHA-256 digests, is safe for concurrent use, and ends with
// ctx or 10 seconds after a call. Every signature is checked against the
// public key before it is handed out, so an answer that was changed, or a TPM
// that was exchanged in the meantime, is an error and not a bad signature.
func (t *TPM) Signer(ctx context.Context, handle uint32) (crypto.Signer, error) {
	key, err := t.ReadPublic(ctx, handle)
	if err != nil {
		return nil, err
	}
	return t.NewSigner(ctx, key, signTimeout), nil
}

// NewSigner is a Signer for a key that was read before, with its own bound for
// one signature.
func (t *TPM) NewSigner(ctx context.Context, key Key, timeout time.Duration) crypto.Signer {
	return &signer{tpm: t, ctx: ctx, key: key, timeout: timeout, use: func(*channel) (Key, tpm2.Session, error) {
		return key, tpm2.PasswordAuth(nil), nil
	}}
}

// BlobSigner is a Signer for a key that is kept outside and loaded for each
// signature. boot is nil for a key without a policy, else it is asked at every
// signature, so that a new release's approvals count from the next one on.
func (t *TPM) BlobSigner(ctx context.Context, blob Blob, boot func() Boot, timeout time.Duration) (crypto.Signer, error) {
	key, err := blob.Key()
	if err != nil {
		return nil, err
	}
	return &signer{tpm: t, ctx: ctx, key: key, timeout: timeout, use: func(c *channel) (Key, tpm2.Session, error) {
		if boot == nil { // nothing is secret, and the signature is checked
			_, root, err := t.storageSalt(c)
			if err != nil {
				return Key{}, nil, err
			}
			key, err := object.Load(c, root, blob)
			return key, tpm2.PasswordAuth(nil), err
		}
		b := boot()
		return t.use(c, blob, &b)
	}}, nil
}

type signer struct {
	tpm     *TPM
	ctx     context.Context // crypto.Signer has no context of its own
	key     Key
	timeout time.Duration
	use     func(*channel) (Key, tpm2.Session, error)
}

func (s *signer) Public() crypto.PublicKey { return s.key.Public }

// Sign signs a SHA-256 digest (TPM2_Sign, Part 3, section 20.2) and returns
// the ASN.1 signature of RFC 3279, section 2.2.3. The TPM has its own random
// numbers.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, errors.New("sign with TPM: want a SHA-256 digest")
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.timeout)
	defer cancel()
	return run(ctx, s.tpm, "sign with TPM", func(c *channel) ([]byte, error) {
		object, guarded, err := s.use(c)
		if err != nil {
			return nil, err
		}
		rsp, err := tpm2.Sign{
			KeyHandle:  object.With(guarded),
			Digest:     tpm2.TPM2BDigest{Buffer: digest},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
		}.Execute(c)
		if errors.Is(err, tpm2.TPMRCHandle) {
			return nil, fmt.Errorf("%w: %w", ErrNoKey, err)
		}
		if err != nil {
			return nil, refused(err)
		}
		sig, err := rsp.Signature.Signature.ECDSA()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrResponse, err)
		}
		encoded, err := asn1.Marshal(struct{ R, S *big.Int }{
			new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer),
		})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrResponse, err)
		}
		if !ecdsa.VerifyASN1(s.key.Public, digest, encoded) {
			return nil, s.stranger(c)
		}
		return encoded, nil
	})
}

// stranger says why a signature is not by the key: the TPM is another one, or
// the answer was changed.
func (s *signer) stranger(c *channel) error {
	const what = "the signature is not by the key that was read before"
	if s.key.Handle != 0 {
		now, _, err := object.ReadPublic(c, s.key.Handle)
		if err == nil && !bytes.Equal(now.Name, s.key.Name) {
			return fmt.Errorf("%w: %s", ErrOtherTPM, what)
		}
	}
	return fmt.Errorf("%w: %s", ErrResponse, what)
}
