package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/object"
	"ward/internal/device/tpm/session"
	"ward/internal/trust/policy"
)

// MaxSealed is how many bytes can be sealed: what every TPM takes (MAX_SYM_DATA,
// Part 2, section 11.1.14).
const MaxSealed = 128

// CreateKey makes a P-256 signing key beneath the storage root key. With a nil
// policy it is used with its empty authorisation; with policy.BootPolicy it
// signs in approved boot states alone.
func (t *TPM) CreateKey(ctx context.Context, boot *policy.Digest) (Blob, error) {
	template := object.SigningTemplate(false)
	template.ObjectAttributes.UserWithAuth = boot == nil
	return run(ctx, t, "create key", func(c *channel) (Blob, error) {
		return t.create(c, template, boot, nil)
	})
}

// Seal seals 1 to 128 bytes to this TPM and, with a policy, to the boot states
// that it stands for. The secret crosses the bus encrypted.
func (t *TPM) Seal(ctx context.Context, secret []byte, boot *policy.Digest) (Blob, error) {
	if len(secret) == 0 || len(secret) > MaxSealed {
		return Blob{}, fmt.Errorf("seal: %d bytes, want 1 to %d", len(secret), MaxSealed)
	}
	return run(ctx, t, "seal", func(c *channel) (Blob, error) {
		return t.create(c, object.SealedTemplate(boot != nil), boot, secret)
	})
}

// Unseal reads a sealed secret (TPM2_Unseal, Part 3, section 12.7). boot is nil
// for one that is sealed to the TPM alone. The secret crosses the bus encrypted.
func (t *TPM) Unseal(ctx context.Context, blob Blob, boot *Boot) ([]byte, error) {
	return run(ctx, t, "unseal", func(c *channel) ([]byte, error) {
		object, guarded, err := t.use(c, blob, boot, session.HideAnswer)
		if err != nil {
			return nil, err
		}
		rsp, err := tpm2.Unseal{ItemHandle: object.With(guarded)}.Execute(c)
		if err != nil {
			return nil, refused(err)
		}
		return rsp.OutData.Buffer, nil
	})
}

// CertifyKey has the attestation key state that a key that is kept outside
// lives in this TPM, with the attributes and the policy that its Name stands
// for. It needs no approved boot state.
func (t *TPM) CertifyKey(ctx context.Context, blob Blob) (Certification, error) {
	return run(ctx, t, "certify key", func(c *channel) (Certification, error) {
		ak, _, err := object.ReadPublic(c, HandleAK)
		if err != nil {
			return Certification{}, err
		}
		_, root, err := t.storageSalt(c)
		if err != nil {
			return Certification{}, err
		}
		key, err := object.Load(c, root, blob)
		if err != nil {
			return Certification{}, err
		}
		return object.Certify(c, key, ak)
	})
}

func (t *TPM) create(c *channel, template tpm2.TPMTPublic, boot *policy.Digest, secret []byte) (Blob, error) {
	if boot != nil {
		template.AuthPolicy = tpm2.TPM2BDigest{Buffer: boot[:]}
	}
	s, root, err := t.storageSalt(c)
	if err != nil {
		return Blob{}, err
	}
	guarded, err := session.Protected(c, s, session.HideCommand)
	if err != nil {
		return Blob{}, err
	}
	command := tpm2.Create{ParentHandle: root.With(guarded), InPublic: tpm2.New2B(template)}
	if secret != nil {
		command.InSensitive = tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}}
	}
	rsp, err := command.Execute(c)
	if err != nil {
		return Blob{}, fmt.Errorf("create: %w", err)
	}
	return Blob{Public: rsp.OutPublic.Bytes(), Private: rsp.OutPrivate.Buffer}, nil
}

// use loads a blob and opens the session that authorises its use.
func (t *TPM) use(c *channel, blob Blob, boot *Boot, options ...tpm2.AuthOption) (Key, tpm2.Session, error) {
	s, root, err := t.storageSalt(c)
	if err != nil {
		return Key{}, nil, err
	}
	key, err := object.Load(c, root, blob)
	if err != nil {
		return Key{}, nil, err
	}
	var guarded tpm2.Session
	if boot == nil {
		guarded, err = session.Protected(c, s, options...)
	} else {
		guarded, err = boot.Session(c, s, options...)
	}
	return key, guarded, err
}

// refused names what the TPM answers to the use of an object whose policy the
// session does not satisfy.
func refused(err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCPolicyFail), errors.Is(err, tpm2.TPMRCAuthUnavailable):
		return fmt.Errorf("%w: %w", ErrPolicy, err)
	case errors.Is(err, tpm2.TPMRCPCRChanged):
		return fmt.Errorf("%w: %w", ErrBootState, err)
	}
	return err
}
