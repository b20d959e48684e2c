// Package ekstore reads what the TPM's maker stored of the endorsement key: its
// certificate, the certificates above it, nonce and template (TCG EK Credential
// Profile for TPM Family 2.0, section 2.2.1). Nothing of it is verified here.
package ekstore

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
	"ward/internal/device/tpm/nvram"
	"ward/internal/format/endorsement"
)

// maxChain bounds the certificates above the EK's, and the bytes that hold them:
// makers store one or two of 1 KiB each.
const (
	maxChain      = 8
	maxChainBytes = 16 << 10
)

// ErrNoCertificate: the TPM's maker stored no EK certificate in it.
var ErrNoCertificate = errors.New("the TPM holds no EK certificate")

// Template is the profile's template, or the maker's own, with the maker's
// nonce where the TPM holds one (EK Credential Profile, section 2.2.1.3).
func Template(c *link.Channel, profile endorsement.Profile) (tpm2.TPMTPublic, error) {
	template := profile.Public()
	if profile.Template != 0 {
		b, err := nvram.Optional(c, profile.Template)
		if err != nil {
			return template, fmt.Errorf("read EK template: %w", err)
		}
		if b != nil {
			own, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
			if err != nil || own.Type != template.Type {
				return template, fmt.Errorf("parse EK template: %w", link.ErrResponse)
			}
			template = *own
		}
	}
	if profile.Nonce != 0 {
		b, err := nvram.Optional(c, profile.Nonce)
		if err != nil {
			return template, fmt.Errorf("read EK nonce: %w", err)
		}
		if b != nil {
			return endorsement.WithNonce(template, b)
		}
	}
	return template, nil
}

// Certificate reads the first certificate that the TPM holds. Makers pad the
// index behind it.
func Certificate(c *link.Channel) (endorsement.Profile, []byte, error) {
	for _, profile := range endorsement.Profiles {
		b, err := nvram.Optional(c, profile.Certificate)
		if err != nil {
			return profile, nil, fmt.Errorf("NV index 0x%08x: %w", profile.Certificate, err)
		}
		if b == nil {
			continue
		}
		var cert asn1.RawValue
		if _, err := asn1.Unmarshal(b, &cert); err != nil {
			return profile, nil, fmt.Errorf("NV index 0x%08x: %w: %w", profile.Certificate, link.ErrResponse, err)
		}
		return profile, cert.FullBytes, nil
	}
	return endorsement.Profile{}, nil, ErrNoCertificate
}

// Chain reads the certificates above the EK's: they lie one behind
// the other, and one may go over from one index to the next.
func Chain(c *link.Channel) ([][]byte, error) {
	var all []byte
	for index := endorsement.FirstChain; index <= endorsement.LastChain; index++ {
		b, err := nvram.Optional(c, index)
		if err != nil {
			return nil, fmt.Errorf("NV index 0x%08x: %w", index, err)
		}
		if b == nil {
			break
		}
		if all = append(all, b...); len(all) > maxChainBytes {
			return nil, fmt.Errorf("read EK certificate chain: more than %d bytes", maxChainBytes)
		}
	}
	var chain [][]byte
	for all = bytes.TrimLeft(all, "\x00\xff"); len(all) > 0; all = bytes.TrimLeft(all, "\x00\xff") {
		var cert asn1.RawValue
		rest, err := asn1.Unmarshal(all, &cert)
		if err != nil || len(chain) == maxChain {
			return nil, fmt.Errorf("read EK certificate chain: %w: certificate %d", link.ErrResponse, len(chain)+1)
		}
		chain, all = append(chain, cert.FullBytes), rest
	}
	return chain, nil
}
