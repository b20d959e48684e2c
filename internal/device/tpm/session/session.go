// Package session keeps what goes between processor and TPM from being read or
// changed on its way: HMAC and policy sessions that are salted to a key in the
// TPM (TPM 2.0 Library Specification, Part 1, sections 17.6, 19 and 21). Whoever
// only carries the bytes learns nothing of what is encrypted and changes nothing
// unnoticed.
package session

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
)

// ErrOtherTPM: this is not the TPM that has the key, or made the blob.
var ErrOtherTPM = errors.New("this is another TPM")

const (
	// nonceSize is that of a session's nonces; the TPM wants at least 16.
	nonceSize = 16
	// aesBits encrypt parameters; every TPM has AES-128 in CFB mode.
	aesBits = 128
	// authSize is the length of an authorisation value that is made here.
	authSize = 32
)

var errAuth = errors.New("an authorisation value may not hold a zero byte, nor more than 32 bytes")

// Usable refuses authorisation values that go-tpm 0.9.8 would cut: it strips
// not only the zeros at their end, but everything from the first zero on, and
// then computes another HMAC than the TPM.
func Usable(auth []byte) error {
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
		return fmt.Errorf("%w: %w", link.ErrTampered, err)
	}
	return nil
}

// Salt is the key that a session's secret is encrypted to.
type Salt struct {
	Handle tpm2.TPMHandle
	Area   tpm2.TPMTPublic
}

// Protected opens an HMAC session that lives until the operation ends: it
// authenticates commands and answers, and with tpm2.AESEncryption hides their
// first parameter.
func Protected(c *link.Channel, s Salt, options ...tpm2.AuthOption) (tpm2.Session, error) {
	session, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, nonceSize, append(options, tpm2.Salted(s.Handle, s.Area))...)
	if err != nil {
		return nil, fmt.Errorf("open session: %w", otherSalt(err))
	}
	return guard{session}, nil
}

// Policy opens a policy session in the same way.
func Policy(c *link.Channel, s Salt, options ...tpm2.AuthOption) (tpm2.Session, error) {
	session, _, err := tpm2.PolicySession(c, tpm2.TPMAlgSHA256, nonceSize, append(options, tpm2.Salted(s.Handle, s.Area))...)
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

// What a session encrypts: the first parameter of the command, or of the answer.
var (
	HideCommand = tpm2.AESEncryption(aesBits, tpm2.EncryptIn)
	HideAnswer  = tpm2.AESEncryption(aesBits, tpm2.EncryptOut)
)

// Authorized names a hierarchy for a command. An empty authorisation is sent as
// it is; another one never leaves the processor: it enters the HMAC of a
// session, salted where there is a key to salt with.
func Authorized(c *link.Channel, h tpm2.TPMHandle, auth []byte, s *Salt) (tpm2.AuthHandle, error) {
	if len(auth) == 0 {
		return tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(nil)}, nil
	}
	options := []tpm2.AuthOption{tpm2.Auth(auth)}
	if s != nil {
		options = append(options, tpm2.Salted(s.Handle, s.Area))
	}
	session, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, nonceSize, options...)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("open session: %w", err)
	}
	return tpm2.AuthHandle{Handle: h, Auth: guard{session}}, nil
}

// Done flushes the session of a hierarchy's authorisation before its operation
// ends.
func Done(c *link.Channel, auth tpm2.AuthHandle) {
	if g, ok := auth.Auth.(guard); ok {
		c.Flush(g.Handle())
	}
}
