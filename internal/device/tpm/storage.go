package tpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/object"
	"ward/internal/device/tpm/session"
)

// storageSalt is the storage root key. When it was pinned, no other is taken;
// else the one that the TPM names is: that keeps secrets from who listens, not
// from who could already change the answers to that question.
func (t *TPM) storageSalt(c *channel) (session.Salt, Key, error) {
	var key Key
	if pin := t.pinned(); pin != nil {
		key = *pin
		key.Handle = HandleSRK // one that was read from a file has none
	} else {
		var err error
		if key, _, err = object.ReadPublic(c, HandleSRK); err != nil {
			return session.Salt{}, Key{}, fmt.Errorf("storage root key: %w", err)
		}
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](key.Area)
	if err != nil {
		return session.Salt{}, Key{}, fmt.Errorf("storage root key: %w: %w", ErrResponse, err)
	}
	want := tpm2.ECCSRKTemplate
	want.Unique = area.Unique
	if !bytes.Equal(tpm2.Marshal(want), key.Area) {
		return session.Salt{}, Key{}, fmt.Errorf("storage root key: %w", ErrOccupied)
	}
	return session.Salt{Handle: tpm2.TPMHandle(HandleSRK), Area: *area}, key, nil
}

// owner names the owner hierarchy, with the authorisation that was given.
func (t *TPM) owner(c *channel) (tpm2.AuthHandle, error) {
	return t.hierarchy(c, tpm2.TPMRHOwner, t.authorizations().Owner)
}

// hierarchy names a hierarchy; the session of its authorisation is salted to the
// storage root key if there is one.
func (t *TPM) hierarchy(c *channel, h tpm2.TPMHandle, auth []byte) (tpm2.AuthHandle, error) {
	if len(auth) > 0 {
		if root, _, err := t.storageSalt(c); err == nil {
			return session.Authorized(c, h, auth, &root)
		}
	}
	return session.Authorized(c, h, auth, nil)
}

// owned names the refusal of the owner's authorisation.
func owned(err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%w: %w", ErrOwned, err)
	}
	return err
}
