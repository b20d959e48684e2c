package tpm

import (
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
)

// signTimeout bounds one signature with the waiting for other commands; TPMs
// on boards sign in 200 to 600 ms.
const signTimeout = 10 * time.Second

// Signer returns a crypto.Signer for the P-256 signing key at a persistent
// handle. It signs SHA-256 digests, is safe for concurrent use, and ends with
// ctx or 10 seconds after a call. Every signature is checked against the
// public key before it is handed out, so a TPM that was exchanged in the
// meantime is an error and not a bad signature.
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
	return &signer{tpm: t, ctx: ctx, key: key, timeout: timeout}
}

type signer struct {
	tpm     *TPM
	ctx     context.Context // crypto.Signer has no context of its own
	key     Key
	timeout time.Duration
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
		rsp, err := tpm2.Sign{
			KeyHandle:  s.key.handle(),
			Digest:     tpm2.TPM2BDigest{Buffer: digest},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
		}.Execute(c)
		if errors.Is(err, tpm2.TPMRCHandle) {
			return nil, fmt.Errorf("%w: %w", ErrNoKey, err)
		}
		if err != nil {
			return nil, err
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
			return nil, fmt.Errorf("%w: the signature is not by the key 0x%08x that was read before", ErrResponse, s.key.Handle)
		}
		return encoded, nil
	})
}
