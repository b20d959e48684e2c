package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/ekstore"
	"ward/internal/device/tpm/object"
	"ward/internal/device/tpm/session"
	"ward/internal/format/endorsement"
	"ward/internal/trust/credential"
)

var (
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
		_, der, err := ekstore.Certificate(c)
		return der, err
	})
}

// Endorsement reads the best certified endorsement key, makes the key from its
// profile's template and checks that the certificate is for it. RSA keys take a
// TPM up to half a minute.
func (t *TPM) Endorsement(ctx context.Context) (Endorsement, error) {
	return run(ctx, t, "read endorsement key", func(c *channel) (Endorsement, error) {
		profile, der, err := ekstore.Certificate(c)
		if err != nil {
			return Endorsement{}, err
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return Endorsement{}, fmt.Errorf("parse certificate at 0x%08x: %w: %w", profile.Certificate, ErrResponse, err)
		}
		public, err := t.endorsementPublic(c, profile)
		if err != nil {
			return Endorsement{}, err
		}
		if k, ok := public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(cert.PublicKey) {
			return Endorsement{}, fmt.Errorf("%s: %w", profile.Name, ErrCertificateKey)
		}
		chain, err := ekstore.Chain(c)
		if err != nil {
			return Endorsement{}, err
		}
		return Endorsement{Profile: profile, Certificate: der, Chain: chain, Public: public}, nil
	})
}

// EndorsementPublic makes the endorsement key of a profile, certified or not, and
// returns its public part.
func (t *TPM) EndorsementPublic(ctx context.Context, profile endorsement.Profile) (crypto.PublicKey, error) {
	return run(ctx, t, "read endorsement key", func(c *channel) (crypto.PublicKey, error) {
		return t.endorsementPublic(c, profile)
	})
}

func (t *TPM) endorsementPublic(c *channel, profile endorsement.Profile) (crypto.PublicKey, error) {
	key, err := t.endorsementKey(c, profile)
	if err != nil {
		return nil, err
	}
	public, err := tpm2.Pub(key.Area)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	return public, nil
}

// Activate opens a credential that was made for this endorsement key and for the
// key at a persistent handle (TPM2_ActivateCredential, Part 3, section 12.5).
// The secret crosses the bus encrypted to the endorsement key.
func (t *TPM) Activate(ctx context.Context, ek Endorsement, handle uint32, blob credential.Blob) ([]byte, error) {
	return run(ctx, t, "activate credential", func(c *channel) ([]byte, error) {
		object, _, err := object.ReadPublic(c, handle)
		if err != nil {
			return nil, err
		}
		key, err := t.endorsementKey(c, ek.Profile)
		if err != nil {
			return nil, err
		}
		guarded, err := session.Protected(c, key.Salt, session.HideAnswer)
		if err != nil {
			return nil, err
		}
		authorization := tpm2.PasswordAuth(nil)
		if !ek.Profile.UserAuth {
			if authorization, err = t.endorsementPolicy(c, key.Salt); err != nil {
				return nil, err
			}
		}
		rsp, err := tpm2.ActivateCredential{
			ActivateHandle: object.With(guarded),
			KeyHandle:      tpm2.AuthHandle{Handle: key.Handle, Name: key.name, Auth: authorization},
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob.Credential},
			Secret:         tpm2.TPM2BEncryptedSecret{Buffer: blob.Secret},
		}.Execute(c)
		if err != nil {
			return nil, notForUs(c, handle, err)
		}
		return rsp.CertInfo.Buffer, nil
	})
}

// notForUs names what the TPM answers to a credential that it cannot open. Some
// (libtpms with OpenSSL 3) answer to an RSA secret that they cannot decrypt as if
// they had failed, and go on.
func notForUs(c *channel, handle uint32, err error) error {
	if errors.Is(err, tpm2.TPMRCFailure) {
		if _, _, gone := object.ReadPublic(c, handle); gone == nil {
			return fmt.Errorf("%w: response code 0x%x", ErrCredential, uint32(tpm2.TPMRCFailure))
		}
	}
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCIntegrity, tpm2.TPMRCValue, tpm2.TPMRCSize, tpm2.TPMRCECCPoint, tpm2.TPMRCInsufficient} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrCredential, err)
		}
	}
	return err
}

// endorsementPolicy satisfies TPM2_PolicySecret(TPM_RH_ENDORSEMENT).
func (t *TPM) endorsementPolicy(c *channel, s session.Salt) (tpm2.Session, error) {
	guarded, err := session.Policy(c, s)
	if err != nil {
		return nil, err
	}
	hierarchy, err := session.Authorized(c, tpm2.TPMRHEndorsement, t.authorizations().Endorsement, &s)
	if err != nil {
		return nil, err
	}
	defer session.Done(c, hierarchy)
	if _, err := (tpm2.PolicySecret{AuthHandle: hierarchy, PolicySession: guarded.Handle(), NonceTPM: guarded.NonceTPM()}).Execute(c); err != nil {
		return nil, fmt.Errorf("authorise with the endorsement hierarchy: %w", err)
	}
	return guarded, nil
}

// primary is a loaded primary key.
type primary struct {
	session.Salt
	name tpm2.TPM2BName
}

// endorsementKey makes the key of a profile; it is loaded until the operation
// ends.
func (t *TPM) endorsementKey(c *channel, profile endorsement.Profile) (primary, error) {
	template, err := ekstore.Template(c, profile)
	if err != nil {
		return primary{}, err
	}
	hierarchy, err := t.hierarchy(c, tpm2.TPMRHEndorsement, t.authorizations().Endorsement)
	if err != nil {
		return primary{}, err
	}
	defer session.Done(c, hierarchy)
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
	return primary{Salt: session.Salt{Handle: rsp.ObjectHandle, Area: *area}, name: rsp.Name}, nil
}
