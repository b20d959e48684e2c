package tpm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// signing is the template of a P-256 signing key that never leaves its TPM
// (fixedTPM, fixedParent), was made by it (sensitiveDataOrigin), is used with
// its empty authorisation, and stands outside the dictionary attack logic.
func signing(restricted bool) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
			NoDA: true, Restricted: restricted, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// ProvisionKeys makes what is missing of the device's keys, at manufacture:
// the storage root key (TCG's P-256 template), the attestation key and the
// reporting key, each persistent, and has the attestation key certify the
// reporting key. Keys that are there are kept, so it can be repeated; another
// object at one of the handles gives ErrOccupied and is not touched, an owner
// whose authorisation was not given ErrOwned.
func (t *TPM) ProvisionKeys(ctx context.Context) (Keys, error) {
	return run(ctx, t, "provision keys", func(c *channel) (Keys, error) {
		var k Keys
		var err error
		if k.SRK, err = t.provision(c, HandleSRK, tpm2.ECCSRKTemplate, t.createRoot); err != nil {
			return k, fmt.Errorf("storage root key: %w", err)
		}
		child := func(c *channel, template tpm2.TPMTPublic) (tpm2.NamedHandle, error) {
			return createChild(c, k.SRK, template)
		}
		if k.AK, err = t.provision(c, HandleAK, signing(true), child); err != nil {
			return k, fmt.Errorf("attestation key: %w", err)
		}
		if k.Reporting, err = t.provision(c, HandleReporting, signing(false), child); err != nil {
			return k, fmt.Errorf("reporting key: %w", err)
		}
		if k.Certification, err = certify(c, k.Reporting, k.AK); err != nil {
			return k, fmt.Errorf("certify reporting key: %w", err)
		}
		return k, nil
	})
}

// provision returns the key at a persistent handle, and makes it when there is
// none.
func (t *TPM) provision(c *channel, handle uint32, template tpm2.TPMTPublic, create func(*channel, tpm2.TPMTPublic) (tpm2.NamedHandle, error)) (Key, error) {
	key, public, err := readPublic(c, handle)
	if err == nil {
		template.Unique = public.Unique
		if !bytes.Equal(tpm2.Marshal(template), key.Area) {
			return Key{}, fmt.Errorf("%w: 0x%08x", ErrOccupied, handle)
		}
		return key, nil
	}
	if !errors.Is(err, ErrNoKey) {
		return Key{}, err
	}
	object, err := create(c, template)
	if err != nil {
		return Key{}, err
	}
	defer c.Flush(object.Handle)
	owner, err := t.owner(c)
	if err != nil {
		return Key{}, err
	}
	defer done(c, owner)
	if _, err := (tpm2.EvictControl{
		Auth:             owner,
		ObjectHandle:     object,
		PersistentHandle: tpm2.TPMIDHPersistent(handle),
	}).Execute(c); err != nil {
		return Key{}, fmt.Errorf("make persistent: %w", owned(err))
	}
	key, _, err = readPublic(c, handle)
	return key, err
}

func (t *TPM) createRoot(c *channel, template tpm2.TPMTPublic) (tpm2.NamedHandle, error) {
	owner, err := t.owner(c)
	if err != nil {
		return tpm2.NamedHandle{}, err
	}
	defer done(c, owner)
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(template)}.Execute(c)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("create primary: %w", owned(err))
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}

func createChild(c *channel, parent Key, template tpm2.TPMTPublic) (tpm2.NamedHandle, error) {
	created, err := tpm2.Create{ParentHandle: parent.handle(), InPublic: tpm2.New2B(template)}.Execute(c)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("create: %w", err)
	}
	loaded, err := tpm2.Load{ParentHandle: parent.handle(), InPrivate: created.OutPrivate, InPublic: created.OutPublic}.Execute(c)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("load: %w", err)
	}
	return tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}, nil
}

// certify has the attestation key state that the key lives in this TPM
// (TPM2_Certify, Part 3, section 18.2).
func certify(c *channel, key, ak Key) (Certification, error) {
	rsp, err := tpm2.Certify{
		ObjectHandle: key.handle(),
		SignHandle:   ak.handle(),
		InScheme:     tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(c)
	if err != nil {
		return Certification{}, err
	}
	return Certification{Attest: rsp.CertifyInfo.Bytes(), Signature: tpm2.Marshal(rsp.Signature)}, nil
}

// handle names the key for a command, with its empty authorisation.
func (k Key) handle() tpm2.AuthHandle { return k.with(tpm2.PasswordAuth(nil)) }

// with names the key for a command that a session authorises.
func (k Key) with(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(k.Handle), Name: tpm2.TPM2BName{Buffer: k.Name}, Auth: session}
}

// ReadPublic reads the public part of a persistent P-256 key
// (TPM2_ReadPublic, Part 3, section 12.4). No key there gives ErrNoKey.
func (t *TPM) ReadPublic(ctx context.Context, handle uint32) (Key, error) {
	return run(ctx, t, fmt.Sprintf("read key 0x%08x", handle), func(c *channel) (Key, error) {
		key, _, err := readPublic(c, handle)
		return key, err
	})
}

func readPublic(c *channel, handle uint32) (Key, *tpm2.TPMTPublic, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(handle)}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return Key{}, nil, fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	if err != nil {
		return Key{}, nil, err
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return Key{}, nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	key, err := keyOf(handle, public)
	if err == nil && !bytes.Equal(key.Name, rsp.Name.Buffer) {
		return Key{}, nil, fmt.Errorf("%w: the name is not the one of the public area", ErrResponse)
	}
	return key, public, err
}

// keyOf reads a P-256 key from its public area.
func keyOf(handle uint32, public *tpm2.TPMTPublic) (Key, error) {
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	if public.Type != tpm2.TPMAlgECC {
		return Key{}, fmt.Errorf("%w: it is not an elliptic curve key", ErrOccupied)
	}
	pub, err := tpm2.Pub(*public)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return Key{}, fmt.Errorf("%w: it is not on the curve P-256", ErrOccupied)
	}
	if _, err := ec.ECDH(); err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	return Key{Handle: handle, Public: ec, Name: name.Buffer, Area: tpm2.Marshal(*public)}, nil
}
