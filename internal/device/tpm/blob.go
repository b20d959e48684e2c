package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/trust/policy"
)

// MaxSealed is how many bytes can be sealed: what every TPM takes (MAX_SYM_DATA,
// Part 2, section 11.1.14).
const MaxSealed = 128

// Blob is a key or a sealed secret that is kept outside of the TPM. The TPM that
// made it can load it, and no other.
type Blob struct {
	Public  []byte `json:"public"`  // TPMT_PUBLIC
	Private []byte `json:"private"` // what a TPM2B_PRIVATE holds, encrypted by the TPM
}

// attributes of objects beneath the storage root key. Those with a policy are
// used in no other way; the AK may certify them in every boot state.
func blobAttributes(bound bool) tpm2.TPMAObject {
	return tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true, UserWithAuth: !bound}
}

// CreateKey makes a P-256 signing key beneath the storage root key. With a nil
// policy it is used with its empty authorisation; with policy.BootPolicy it
// signs in approved boot states alone.
func (t *TPM) CreateKey(ctx context.Context, boot *policy.Digest) (Blob, error) {
	template := signing(false)
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
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: blobAttributes(boot != nil),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}),
	}
	return run(ctx, t, "seal", func(c *channel) (Blob, error) {
		return t.create(c, template, boot, secret)
	})
}

// Unseal reads a sealed secret (TPM2_Unseal, Part 3, section 12.7). boot is nil
// for one that is sealed to the TPM alone. The secret crosses the bus encrypted.
func (t *TPM) Unseal(ctx context.Context, blob Blob, boot *Boot) ([]byte, error) {
	return run(ctx, t, "unseal", func(c *channel) ([]byte, error) {
		object, session, err := t.use(c, blob, boot, tpm2.AESEncryption(aesBits, tpm2.EncryptOut))
		if err != nil {
			return nil, err
		}
		rsp, err := tpm2.Unseal{ItemHandle: object.with(session)}.Execute(c)
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
		ak, _, err := readPublic(c, HandleAK)
		if err != nil {
			return Certification{}, err
		}
		_, root, err := t.storageSalt(c)
		if err != nil {
			return Certification{}, err
		}
		object, err := load(c, root, blob)
		if err != nil {
			return Certification{}, err
		}
		return certify(c, object, ak)
	})
}

// Key reads the public part of a key that is kept outside.
func (b Blob) Key() (Key, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](b.Public)
	if err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	return keyOf(0, public)
}

func (t *TPM) create(c *channel, template tpm2.TPMTPublic, boot *policy.Digest, secret []byte) (Blob, error) {
	if boot != nil {
		template.AuthPolicy = tpm2.TPM2BDigest{Buffer: boot[:]}
	}
	s, root, err := t.storageSalt(c)
	if err != nil {
		return Blob{}, err
	}
	session, err := protected(c, s, tpm2.AESEncryption(aesBits, tpm2.EncryptIn))
	if err != nil {
		return Blob{}, err
	}
	command := tpm2.Create{ParentHandle: root.with(session), InPublic: tpm2.New2B(template)}
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
	object, err := load(c, root, blob)
	if err != nil {
		return Key{}, nil, err
	}
	var session tpm2.Session
	if boot == nil {
		session, err = protected(c, s, options...)
	} else {
		session, err = boot.session(c, s, options...)
	}
	return object, session, err
}

// load loads a blob until the operation ends. Only the handle and the Name of
// what is returned are set.
func load(c *channel, root Key, blob Blob) (Key, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](blob.Public)
	if err != nil {
		return Key{}, fmt.Errorf("load: read public area: %w", err)
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return Key{}, fmt.Errorf("load: %w", err)
	}
	rsp, err := tpm2.Load{
		ParentHandle: root.handle(), InPrivate: tpm2.TPM2BPrivate{Buffer: blob.Private}, InPublic: tpm2.New2B(*public),
	}.Execute(c)
	switch {
	case errors.Is(err, tpm2.TPMRCIntegrity), errors.Is(err, tpm2.TPMRCBinding):
		return Key{}, fmt.Errorf("load: %w, or the blob was changed: %w", ErrOtherTPM, err)
	case errors.Is(err, tpm2.TPMRCHandle):
		return Key{}, fmt.Errorf("load: %w: %w", ErrNoKey, err)
	case err != nil:
		return Key{}, fmt.Errorf("load: %w", err)
	case !bytes.Equal(rsp.Name.Buffer, name.Buffer):
		return Key{}, fmt.Errorf("load: %w: another name than the blob's", ErrResponse)
	}
	return Key{Handle: uint32(rsp.ObjectHandle), Name: name.Buffer}, nil
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
