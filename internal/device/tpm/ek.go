package tpm

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// NV indexes of EK certificates, best first (TCG EK Credential Profile,
// section 2.2.1.4 and 2.2.1.5): P-256, P-384, RSA-2048.
var ekCertificates = []uint32{0x01c0000a, 0x01c00016, 0x01c00002}

const (
	// nvChunk is read at once; every TPM's NV buffer takes at least 512 bytes.
	nvChunk = 512
	// maxCertificate bounds an EK certificate; those seen take 0.8 to 2 KiB.
	maxCertificate = 8 << 10
)

// ErrNoCertificate: the TPM's maker stored no EK certificate in it.
var ErrNoCertificate = errors.New("the TPM holds no EK certificate")

// EKCertificate reads the TPM maker's certificate for the endorsement key, in
// DER: P-256 before P-384 before RSA-2048. It is not verified here.
func (t *TPM) EKCertificate(ctx context.Context) ([]byte, error) {
	return run(ctx, t, "read EK certificate", func(c *channel) ([]byte, error) {
		for _, index := range ekCertificates {
			der, err := readNV(c, index)
			if errors.Is(err, tpm2.TPMRCHandle) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("NV index 0x%08x: %w", index, err)
			}
			// Makers pad the index behind the certificate.
			var cert asn1.RawValue
			if _, err := asn1.Unmarshal(der, &cert); err != nil {
				return nil, fmt.Errorf("NV index 0x%08x: %w: %w", index, ErrResponse, err)
			}
			return cert.FullBytes, nil
		}
		return nil, ErrNoCertificate
	})
}

// readNV reads a whole NV index with its own, empty authorisation.
func readNV(c *channel, index uint32) ([]byte, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(c)
	if err != nil {
		return nil, err
	}
	public, err := rsp.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	if public.DataSize > maxCertificate {
		return nil, fmt.Errorf("%d bytes, at most %d are read", public.DataSize, maxCertificate)
	}
	var data []byte
	for len(data) < int(public.DataSize) {
		want := min(nvChunk, int(public.DataSize)-len(data))
		part, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Name: rsp.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: rsp.NVName},
			Size:       uint16(want),
			Offset:     uint16(len(data)),
		}.Execute(c)
		if err != nil {
			return nil, err
		}
		if len(part.Data.Buffer) != want {
			return nil, fmt.Errorf("%w: %d bytes, want %d", ErrResponse, len(part.Data.Buffer), want)
		}
		data = append(data, part.Data.Buffer...)
	}
	return data, nil
}
