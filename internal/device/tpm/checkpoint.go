package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/object"
	"ward/internal/trust/policy"
)

// CertifyCounter has the attestation key certify the value at which a counter
// stands, with qualifying data (TPM2_NV_Certify, Part 3, section 31.16). As long as
// the counter stands there it can be done again; a value that has passed can never
// be certified again. A counter that was never stepped gives ErrNeverWritten.
// Reading the certificate is the caller's: it says which index and value it is for.
func (t *TPM) CertifyCounter(ctx context.Context, index policy.Index, auth []byte, qualifying [32]byte) (Certification, error) {
	return run(ctx, t, fmt.Sprintf("certify counter 0x%08x", index.Handle), func(c *channel) (Certification, error) {
		ak, _, err := object.ReadPublic(c, HandleAK)
		if err != nil {
			return Certification{}, fmt.Errorf("attestation key: %w", err)
		}
		name, guarded, err := t.openNV(c, index, auth, neither)
		if err != nil {
			return Certification{}, err
		}
		rsp, err := tpm2.NVCertify{
			SignHandle: ak.Plain(), AuthHandle: name.With(guarded), NVIndex: name.Named,
			QualifyingData: tpm2.TPM2BData{Buffer: qualifying[:]}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Size: policy.CounterSize,
		}.Execute(c)
		if errors.Is(err, tpm2.TPMRCNVUninitialized) {
			return Certification{}, fmt.Errorf("%w: %w", ErrNeverWritten, err)
		}
		if err != nil {
			return Certification{}, err
		}
		return Certification{Attest: rsp.CertifyInfo.Bytes(), Signature: tpm2.Marshal(rsp.Signature)}, nil
	})
}
