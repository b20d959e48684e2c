package tpm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

const (
	// nonceSize is that of a session's nonces; the TPM wants at least 16.
	nonceSize = 16
	// aesBits encrypt parameters; every TPM has AES-128 in CFB mode.
	aesBits = 128
	// authSize is the length of an authorisation value that is made here.
	authSize = 32
)

var errAuth = errors.New("an authorisation value may not hold a zero byte, nor more than 32 bytes")

// usable refuses authorisation values that go-tpm 0.9.8 would cut: it strips
// not only the zeros at their end, but everything from the first zero on, and
// then computes another HMAC than the TPM.
func usable(auth []byte) error {
	if len(auth) > authSize || bytes.IndexByte(auth, 0) >= 0 {
		return errAuth
	}
	return nil
}

// NewAuth makes a random authorisation value of 32 bytes without a zero among
// them.
func NewAuth() []byte {
	auth := make([]byte, authSize)
	for i := range auth {
		for auth[i] == 0 {
			_, _ = rand.Read(auth[i : i+1]) // never fails
		}
	}
	return auth
}

// guard names what a session finds wrong with an answer.
type guard struct{ tpm2.Session }

func (g guard) Validate(rc tpm2.TPMRC, cc tpm2.TPMCC, parms []byte, names []tpm2.TPM2BName, i int, auth *tpm2.TPMSAuthResponse) error {
	if err := g.Session.Validate(rc, cc, parms, names, i, auth); err != nil {
		return fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return nil
}

// salt is the key that a session's secret is encrypted to.
type salt struct {
	handle tpm2.TPMHandle
	area   tpm2.TPMTPublic
}

// storageSalt is the storage root key. When it was pinned, no other is taken;
// else the one that the TPM names is: that keeps secrets from who listens, not
// from who could already change the answers to that question.
func (t *TPM) storageSalt(c *channel) (salt, Key, error) {
	t.mu.Lock()
	pin := t.pin
	t.mu.Unlock()
	var key Key
	if pin != nil {
		key = *pin
	} else {
		var err error
		if key, _, err = readPublic(c, HandleSRK); err != nil {
			return salt{}, Key{}, fmt.Errorf("storage root key: %w", err)
		}
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](key.Area)
	if err != nil {
		return salt{}, Key{}, fmt.Errorf("storage root key: %w: %w", ErrResponse, err)
	}
	want := tpm2.ECCSRKTemplate
	want.Unique = area.Unique
	if !bytes.Equal(tpm2.Marshal(want), key.Area) {
		return salt{}, Key{}, fmt.Errorf("storage root key: %w", ErrOccupied)
	}
	return salt{tpm2.TPMHandle(HandleSRK), *area}, key, nil
}

// protected opens an HMAC session that lives until the operation ends: it
// authenticates commands and answers, and with tpm2.AESEncryption hides their
// first parameter.
func protected(c *channel, s salt, options ...tpm2.AuthOption) (tpm2.Session, error) {
	session, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, nonceSize, append(options, tpm2.Salted(s.handle, s.area))...)
	if err != nil {
		return nil, fmt.Errorf("open session: %w", otherSalt(err))
	}
	return guard{session}, nil
}

// policySession opens a policy session in the same way.
func policySession(c *channel, s salt, options ...tpm2.AuthOption) (tpm2.Session, error) {
	session, _, err := tpm2.PolicySession(c, tpm2.TPMAlgSHA256, nonceSize, append(options, tpm2.Salted(s.handle, s.area))...)
	if err != nil {
		return nil, fmt.Errorf("open policy session: %w", otherSalt(err))
	}
	return guard{session}, nil
}

// otherSalt names what a TPM answers whose storage root key is not there, or is
// another: it cannot decrypt the salt.
func otherSalt(err error) error {
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCHandle, tpm2.TPMRCKey, tpm2.TPMRCValue, tpm2.TPMRCECCPoint, tpm2.TPMRCSize, tpm2.TPMRCAttributes} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrOtherTPM, err)
		}
	}
	return err
}

// hierarchy names a hierarchy for a command. An empty authorisation is sent as
// it is; another one never leaves the processor: it enters the HMAC of a
// session, salted where there is a key to salt with.
func (t *TPM) hierarchy(c *channel, h tpm2.TPMHandle, auth []byte, s *salt) (tpm2.AuthHandle, error) {
	if len(auth) == 0 {
		return tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(nil)}, nil
	}
	options := []tpm2.AuthOption{tpm2.Auth(auth)}
	if s == nil {
		if root, _, err := t.storageSalt(c); err == nil {
			s = &root
		}
	}
	if s != nil {
		options = append(options, tpm2.Salted(s.handle, s.area))
	}
	session, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, nonceSize, options...)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("open session: %w", err)
	}
	return tpm2.AuthHandle{Handle: h, Auth: guard{session}}, nil
}

// owner names the owner hierarchy.
func (t *TPM) owner(c *channel) (tpm2.AuthHandle, error) {
	return t.hierarchy(c, tpm2.TPMRHOwner, t.authorizations().Owner, nil)
}

// owned names the refusal of the owner's authorisation.
func owned(err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%w: %w", ErrOwned, err)
	}
	return err
}

// done flushes a session before its operation ends.
func done(c *channel, auth tpm2.AuthHandle) {
	if g, ok := auth.Auth.(guard); ok {
		c.Flush(g.Handle())
	}
}
