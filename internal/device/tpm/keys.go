package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/object"
	"ward/internal/device/tpm/session"
)

// ProvisionKeys makes what is missing of the device's persistent keys, at
// manufacture: the storage root key (TCG's P-256 template) and the attestation
// key. The others lie beneath the first (CreateKey) and are certified by the
// second (CertifyKey). Keys that are there are kept, so it can be repeated;
// another object at one of the handles gives ErrOccupied and is not touched, an
// owner whose authorisation was not given ErrOwned.
func (t *TPM) ProvisionKeys(ctx context.Context) (Keys, error) {
	return run(ctx, t, "provision keys", func(c *channel) (Keys, error) {
		var k Keys
		var err error
		if k.SRK, err = t.provision(c, HandleSRK, tpm2.ECCSRKTemplate, t.createRoot); err != nil {
			return k, fmt.Errorf("storage root key: %w", err)
		}
		if k.AK, err = t.provision(c, HandleAK, object.SigningTemplate(true), beneath(k.SRK)); err != nil {
			return k, fmt.Errorf("attestation key: %w", err)
		}
		return k, nil
	})
}

// EvictKeys removes the persistent keys of manufacture with the owner's
// authorisation, at decommissioning. None there, and another object at one of the
// handles, is left as it is.
func (t *TPM) EvictKeys(ctx context.Context) error {
	_, err := run(ctx, t, "evict keys", func(c *channel) (struct{}, error) {
		return struct{}{}, errors.Join(t.evict(c, HandleAK, object.SigningTemplate(true)), t.evict(c, HandleSRK, tpm2.ECCSRKTemplate))
	})
	return err
}

func (t *TPM) evict(c *channel, handle uint32, template tpm2.TPMTPublic) error {
	key, err := object.Find(c, handle, template)
	if errors.Is(err, ErrNoKey) || errors.Is(err, ErrOccupied) {
		return nil
	}
	if err != nil {
		return err
	}
	owner, err := t.owner(c)
	if err != nil {
		return err
	}
	defer session.Done(c, owner)
	return owned(object.Move(c, owner, tpm2.NamedHandle{Handle: tpm2.TPMHandle(handle), Name: tpm2.TPM2BName{Buffer: key.Name}}, handle))
}

// beneath makes keys beneath a parent.
func beneath(parent Key) func(*channel, tpm2.TPMTPublic) (tpm2.NamedHandle, error) {
	return func(c *channel, template tpm2.TPMTPublic) (tpm2.NamedHandle, error) {
		return object.CreateChild(c, parent, template)
	}
}

// provision returns the key at a persistent handle, and makes it when there is
// none.
func (t *TPM) provision(c *channel, handle uint32, template tpm2.TPMTPublic, create func(*channel, tpm2.TPMTPublic) (tpm2.NamedHandle, error)) (Key, error) {
	key, err := object.Find(c, handle, template)
	if !errors.Is(err, ErrNoKey) {
		return key, err
	}
	made, err := create(c, template)
	if err != nil {
		return Key{}, err
	}
	defer c.Flush(made.Handle)
	owner, err := t.owner(c)
	if err != nil {
		return Key{}, err
	}
	defer session.Done(c, owner)
	if err := object.Move(c, owner, made, handle); err != nil {
		return Key{}, fmt.Errorf("make persistent: %w", owned(err))
	}
	key, _, err = object.ReadPublic(c, handle)
	return key, err
}

func (t *TPM) createRoot(c *channel, template tpm2.TPMTPublic) (tpm2.NamedHandle, error) {
	owner, err := t.owner(c)
	if err != nil {
		return tpm2.NamedHandle{}, err
	}
	defer session.Done(c, owner)
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(template)}.Execute(c)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("create primary: %w", owned(err))
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}

// ReadPublic reads the public part of a persistent P-256 key
// (TPM2_ReadPublic, Part 3, section 12.4). No key there gives ErrNoKey.
func (t *TPM) ReadPublic(ctx context.Context, handle uint32) (Key, error) {
	return run(ctx, t, fmt.Sprintf("read key 0x%08x", handle), func(c *channel) (Key, error) {
		key, _, err := object.ReadPublic(c, handle)
		return key, err
	})
}
