package tpm

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/nvram"
	"ward/internal/device/tpm/object"
	"ward/internal/trust/policy"
)

// Checkpoint steps a counter and has the attestation key certify its new value
// with qualifying data (TPM2_NV_Increment and TPM2_NV_Certify, Part 3, sections
// 31.8 and 31.16). A value that has passed can never be certified again. After an
// error the counter may have moved without a certificate.
func (t *TPM) Checkpoint(ctx context.Context, index policy.Index, auth []byte, qualifying [32]byte) (Certification, uint64, error) {
	var value uint64
	certified, err := run(ctx, t, fmt.Sprintf("certify counter 0x%08x", index.Handle), func(c *channel) (Certification, error) {
		ak, _, err := object.ReadPublic(c, HandleAK)
		if err != nil {
			return Certification{}, fmt.Errorf("attestation key: %w", err)
		}
		name, guarded, err := t.openNV(c, index, auth, neither)
		if err != nil {
			return Certification{}, err
		}
		if err := nvram.Step(c, name.With(guarded), name.Named); err != nil {
			return Certification{}, err
		}
		if name, err = nvram.Find(c, index); err != nil { // the first step changes the name
			return Certification{}, err
		}
		rsp, err := tpm2.NVCertify{
			SignHandle: ak.Plain(), AuthHandle: name.With(guarded), NVIndex: name.Named,
			QualifyingData: tpm2.TPM2BData{Buffer: qualifying[:]}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Size: policy.CounterSize,
		}.Execute(c)
		if err != nil {
			return Certification{}, err
		}
		if value, err = certifiedValue(rsp, name); err != nil {
			return Certification{}, fmt.Errorf("%w: %w", ErrResponse, err)
		}
		return Certification{Attest: rsp.CertifyInfo.Bytes(), Signature: tpm2.Marshal(rsp.Signature)}, nil
	})
	return certified, value, err
}

// certifiedValue reads the counter's value out of a certificate for this index.
func certifiedValue(rsp *tpm2.NVCertifyResponse, name nvram.Index) (uint64, error) {
	attest, err := rsp.CertifyInfo.Contents()
	if err != nil {
		return 0, err
	}
	nv, err := attest.Attested.NV()
	if err != nil {
		return 0, err
	}
	if string(nv.IndexName.Buffer) != string(name.Named.Name.Buffer) || len(nv.NVContents.Buffer) != policy.CounterSize {
		return 0, fmt.Errorf("the certificate is for another index")
	}
	return binary.BigEndian.Uint64(nv.NVContents.Buffer), nil
}
