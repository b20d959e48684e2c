package object

import (
	"bytes"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
	"ward/internal/device/tpm/nvram"
)

// Find reads the key at a persistent handle, which must have been made from the
// template: another one gives nvram.ErrOccupied, none ErrNoKey.
func Find(c *link.Channel, handle uint32, template tpm2.TPMTPublic) (Key, error) {
	key, public, err := ReadPublic(c, handle)
	if err != nil {
		return Key{}, err
	}
	template.Unique = public.Unique
	if !bytes.Equal(tpm2.Marshal(template), key.Area) {
		return Key{}, fmt.Errorf("%w: 0x%08x", nvram.ErrOccupied, handle)
	}
	return key, nil
}

// Move makes a loaded key persistent at a handle, or removes the key that is
// persistent there (TPM2_EvictControl, Part 3, section 28.5).
func Move(c *link.Channel, owner tpm2.AuthHandle, key tpm2.NamedHandle, handle uint32) error {
	_, err := tpm2.EvictControl{Auth: owner, ObjectHandle: key, PersistentHandle: tpm2.TPMIDHPersistent(handle)}.Execute(c)
	return err
}

// CreateChild makes a key beneath a parent and loads it.
func CreateChild(c *link.Channel, parent Key, template tpm2.TPMTPublic) (tpm2.NamedHandle, error) {
	created, err := tpm2.Create{ParentHandle: parent.Plain(), InPublic: tpm2.New2B(template)}.Execute(c)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("create: %w", err)
	}
	loaded, err := tpm2.Load{ParentHandle: parent.Plain(), InPrivate: created.OutPrivate, InPublic: created.OutPublic}.Execute(c)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("load: %w", err)
	}
	return tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}, nil
}
