package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/format/endorsement"
	"ward/internal/trust/credential"
)

// maxChain bounds the certificates above the EK's, and the bytes that hold them:
// makers store one or two of 1 KiB each.
const (
	maxChain      = 8
	maxChainBytes = 16 << 10
)

var (
	// ErrNoCertificate: the TPM's maker stored no EK certificate in it.
	ErrNoCertificate = errors.New("the TPM holds no EK certificate")
	// ErrCertificateKey: the EK certificate is for another key than the TPM
	// makes from the profile's template.
	ErrCertificateKey = errors.New("the EK certificate is for another key than the TPM's")
	// ErrCredential: the TPM cannot open the credential: it was made for another
	// TPM, another object, or was changed.
	ErrCredential = errors.New("the credential is not for this TPM and this key")
)

// Endorsement is the endorsement key that the maker certified.
type Endorsement struct {
	Profile     endorsement.Profile
	Certificate []byte   // DER, as found; not verified but for its key
	Chain       [][]byte // DER, the certificates above it that the TPM holds
	Public      crypto.PublicKey
}

// EKCertificate reads the TPM maker's certificate for the endorsement key, in
// DER: P-256 before P-384 before RSA-2048. It is not verified here.
func (t *TPM) EKCertificate(ctx context.Context) ([]byte, error) {
	return run(ctx, t, "read EK certificate", func(c *channel) ([]byte, error) {
		_, der, err := certificate(c)
		return der, err
	})
}

// Endorsement reads the best certified endorsement key, makes the key from its
// profile's template and checks that the certificate is for it. RSA keys take a
// TPM up to half a minute.
func (t *TPM) Endorsement(ctx context.Context) (Endorsement, error) {
	return run(ctx, t, "read endorsement key", func(c *channel) (Endorsement, error) {
		profile, der, err := certificate(c)
		if err != nil {
			return Endorsement{}, err
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return Endorsement{}, fmt.Errorf("parse certificate at 0x%08x: %w: %w", profile.Certificate, ErrResponse, err)
		}
		key, err := t.endorsementKey(c, profile)
		if err != nil {
			return Endorsement{}, err
		}
		public, err := tpm2.Pub(key.area)
		if err != nil {
			return Endorsement{}, fmt.Errorf("%w: %w", ErrResponse, err)
		}
		if k, ok := public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(cert.PublicKey) {
			return Endorsement{}, fmt.Errorf("%s: %w", profile.Name, ErrCertificateKey)
		}
		chain, err := certificateChain(c)
		if err != nil {
			return Endorsement{}, err
		}
		return Endorsement{Profile: profile, Certificate: der, Chain: chain, Public: public}, nil
	})
}

// Activate opens a credential that was made for this endorsement key and for the
// key at a persistent handle (TPM2_ActivateCredential, Part 3, section 12.5).
// The secret crosses the bus encrypted to the endorsement key.
func (t *TPM) Activate(ctx context.Context, ek Endorsement, handle uint32, blob credential.Blob) ([]byte, error) {
	return run(ctx, t, "activate credential", func(c *channel) ([]byte, error) {
		object, _, err := readPublic(c, handle)
		if err != nil {
			return nil, err
		}
		key, err := t.endorsementKey(c, ek.Profile)
		if err != nil {
			return nil, err
		}
		session, err := protected(c, key.salt, tpm2.AESEncryption(aesBits, tpm2.EncryptOut))
		if err != nil {
			return nil, err
		}
		authorization := tpm2.PasswordAuth(nil)
		if !ek.Profile.UserAuth {
			if authorization, err = t.endorsementPolicy(c, key.salt); err != nil {
				return nil, err
			}
		}
		rsp, err := tpm2.ActivateCredential{
			ActivateHandle: object.with(session),
			KeyHandle:      tpm2.AuthHandle{Handle: key.handle, Name: key.name, Auth: authorization},
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob.Credential},
			Secret:         tpm2.TPM2BEncryptedSecret{Buffer: blob.Secret},
		}.Execute(c)
		if err != nil {
			return nil, notForUs(err)
		}
		return rsp.CertInfo.Buffer, nil
	})
}

// notForUs names what the TPM answers to a credential that it cannot open.
func notForUs(err error) error {
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCIntegrity, tpm2.TPMRCValue, tpm2.TPMRCSize, tpm2.TPMRCECCPoint, tpm2.TPMRCInsufficient} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrCredential, err)
		}
	}
	return err
}

// endorsementPolicy satisfies TPM2_PolicySecret(TPM_RH_ENDORSEMENT).
func (t *TPM) endorsementPolicy(c *channel, s salt) (tpm2.Session, error) {
	session, err := policySession(c, s)
	if err != nil {
		return nil, err
	}
	hierarchy, err := t.hierarchy(c, tpm2.TPMRHEndorsement, t.authorizations().Endorsement, &s)
	if err != nil {
		return nil, err
	}
	defer done(c, hierarchy)
	if _, err := (tpm2.PolicySecret{AuthHandle: hierarchy, PolicySession: session.Handle(), NonceTPM: session.NonceTPM()}).Execute(c); err != nil {
		return nil, fmt.Errorf("authorise with the endorsement hierarchy: %w", err)
	}
	return session, nil
}

// primary is a loaded primary key.
type primary struct {
	salt
	name tpm2.TPM2BName
}

// endorsementKey makes the key of a profile; it is loaded until the operation
// ends.
func (t *TPM) endorsementKey(c *channel, profile endorsement.Profile) (primary, error) {
	template, err := ekTemplate(c, profile)
	if err != nil {
		return primary{}, err
	}
	hierarchy, err := t.hierarchy(c, tpm2.TPMRHEndorsement, t.authorizations().Endorsement, nil)
	if err != nil {
		return primary{}, err
	}
	defer done(c, hierarchy)
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(c)
	if err != nil {
		return primary{}, fmt.Errorf("create endorsement key: %w", err)
	}
	area, err := rsp.OutPublic.Contents()
	if err != nil {
		return primary{}, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	name, err := tpm2.ObjectName(area)
	if err != nil || !bytes.Equal(name.Buffer, rsp.Name.Buffer) {
		return primary{}, fmt.Errorf("%w: the name is not the one of the public area", ErrResponse)
	}
	return primary{salt: salt{rsp.ObjectHandle, *area}, name: rsp.Name}, nil
}

// ekTemplate is the profile's template, or the maker's own, with the maker's
// nonce where the TPM holds one (EK Credential Profile, section 2.2.1.3).
func ekTemplate(c *channel, profile endorsement.Profile) (tpm2.TPMTPublic, error) {
	template := profile.Public()
	if profile.Template != 0 {
		b, err := optionalNV(c, profile.Template)
		if err != nil {
			return template, fmt.Errorf("read EK template: %w", err)
		}
		if b != nil {
			own, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
			if err != nil || own.Type != template.Type {
				return template, fmt.Errorf("parse EK template: %w", ErrResponse)
			}
			template = *own
		}
	}
	if profile.Nonce != 0 {
		b, err := optionalNV(c, profile.Nonce)
		if err != nil {
			return template, fmt.Errorf("read EK nonce: %w", err)
		}
		if b != nil {
			return endorsement.WithNonce(template, b)
		}
	}
	return template, nil
}

// certificate reads the first certificate that the TPM holds. Makers pad the
// index behind it.
func certificate(c *channel) (endorsement.Profile, []byte, error) {
	for _, profile := range endorsement.Profiles {
		b, err := optionalNV(c, profile.Certificate)
		if err != nil {
			return profile, nil, fmt.Errorf("NV index 0x%08x: %w", profile.Certificate, err)
		}
		if b == nil {
			continue
		}
		var cert asn1.RawValue
		if _, err := asn1.Unmarshal(b, &cert); err != nil {
			return profile, nil, fmt.Errorf("NV index 0x%08x: %w: %w", profile.Certificate, ErrResponse, err)
		}
		return profile, cert.FullBytes, nil
	}
	return endorsement.Profile{}, nil, ErrNoCertificate
}

// certificateChain reads the certificates above the EK's: they lie one behind
// the other, and one may go over from one index to the next.
func certificateChain(c *channel) ([][]byte, error) {
	var all []byte
	for index := endorsement.FirstChain; index <= endorsement.LastChain; index++ {
		b, err := optionalNV(c, index)
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
			return nil, fmt.Errorf("read EK certificate chain: %w: certificate %d", ErrResponse, len(chain)+1)
		}
		chain, all = append(chain, cert.FullBytes), rest
	}
	return chain, nil
}
