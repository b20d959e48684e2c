package receipt

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ward/internal/format/dsse"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
)

// ChallengeType names a challenge in its envelope. The document is closed, as a
// receipt is.
const ChallengeType = "application/vnd.ward.challenge.v1+json"

const (
	// NonceSize is the length of a nonce, in bytes: nobody guesses it, and no two
	// are ever equal by chance.
	NonceSize = 32
	// MaxLifetime bounds how long a challenge may be answered: one that is good
	// for longer is no question about now.
	MaxLifetime = 24 * time.Hour
	// maxBoot bounds a boot id, in bytes; the kernel's has 36.
	maxBoot = 64
)

// Challenge is the fleet's question for evidence (RFC 9334, section 10: the nonce
// that makes it fresh), and what the fleet holds already of that boot, so that
// the device need not send it again. Whether it has expired is the fleet's to
// judge when the answer comes: a device's clock may be wrong.
type Challenge struct {
	Tenant   string         `json:"tenant"`
	Device   string         `json:"device"`
	Nonce    pcr.Digest     `json:"nonce"`
	Issued   time.Time      `json:"issued"`  // the fleet's clock, UTC
	Expires  time.Time      `json:"expires"` // an answer counts until then
	Boot     string         `json:"boot,omitempty"`
	EventLog pcr.Digest     `json:"eventLog,omitempty"` // SHA-256 of that boot's event log
	List     ima.Checkpoint `json:"list,omitzero"`      // how far that boot's IMA list was verified
}

// VerifiedChallenge is a challenge of the fleet for this device; only
// VerifyChallenge makes one. The zero value asks nothing.
type VerifiedChallenge struct {
	challenge Challenge
	signers   []string
}

// Challenge is a copy of what was signed.
func (v VerifiedChallenge) Challenge() Challenge {
	c := v.challenge
	c.Nonce, c.EventLog, c.List.PCR = bytes.Clone(c.Nonce), bytes.Clone(c.EventLog), bytes.Clone(c.List.PCR)
	return c
}

// Signers are the ids of the keys that signed it.
func (v VerifiedChallenge) Signers() []string { return v.signers }

// SignChallenge makes the envelope of a challenge.
func SignChallenge(c Challenge, signer crypto.Signer) ([]byte, error) {
	c.Issued, c.Expires = c.Issued.UTC(), c.Expires.UTC()
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("sign challenge: %w", err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("sign challenge: %w", err)
	}
	envelope, err := dsse.Sign(ChallengeType, payload, signer)
	if err != nil {
		return nil, fmt.Errorf("sign challenge: %w", err)
	}
	return envelope, nil
}

// VerifyChallenge opens an envelope. It checks, in this order:
//
//  1. the size;
//  2. a valid signature of one key of the keyring, and the payload type (dsse);
//  3. the document: strict JSON; a nonce of 32 bytes that are not all zero; it
//     expires after it was issued, and within a day; nothing is held of a boot
//     that is not named;
//  4. tenant and device, else ErrForeign.
//
// Whether the nonce was answered before is for whoever answers to know.
func VerifyChallenge(envelope []byte, keys *dsse.Keyring, tenant, device string) (VerifiedChallenge, error) {
	if len(envelope) > MaxSize {
		return VerifiedChallenge{}, fmt.Errorf("verify challenge: %w: %d bytes, want at most %d", dsse.ErrMalformed, len(envelope), MaxSize)
	}
	payload, signers, err := keys.Open(envelope, ChallengeType, 1)
	if err != nil {
		return VerifiedChallenge{}, fmt.Errorf("verify challenge: %w", err)
	}
	var c Challenge
	if err := dsse.DecodeJSON(payload, &c); err != nil {
		return VerifiedChallenge{}, fmt.Errorf("verify challenge: %w", err)
	}
	if err := c.check(); err != nil {
		return VerifiedChallenge{}, fmt.Errorf("verify challenge: %w", err)
	}
	if c.Tenant != tenant || c.Device != device {
		return VerifiedChallenge{}, fmt.Errorf("verify challenge: %w: %s of %s", ErrForeign, c.Device, c.Tenant)
	}
	return VerifiedChallenge{challenge: c, signers: signers}, nil
}

func (c Challenge) check() error {
	switch {
	case c.Tenant == "" || c.Device == "":
		return errors.New("no tenant or no device")
	case len(c.Nonce) != NonceSize:
		return fmt.Errorf("nonce of %d bytes, want %d", len(c.Nonce), NonceSize)
	case bytes.Equal(c.Nonce, make([]byte, NonceSize)):
		return errors.New("a nonce of zeros is nobody's choice")
	case c.Issued.IsZero() || !c.Expires.After(c.Issued):
		return fmt.Errorf("it expires at %s, and was issued at %s", c.Expires.Format(time.RFC3339), c.Issued.Format(time.RFC3339))
	case c.Expires.Sub(c.Issued) > MaxLifetime:
		return fmt.Errorf("it may be answered for %s, want at most %s", c.Expires.Sub(c.Issued), MaxLifetime)
	case len(c.Boot) > maxBoot:
		return fmt.Errorf("boot id of %d bytes, want at most %d", len(c.Boot), maxBoot)
	case c.Boot == "" && (len(c.EventLog) > 0 || c.List.Entries != 0 || len(c.List.PCR) > 0):
		return errors.New("something is held of a boot that is not named")
	case len(c.EventLog) != 0 && len(c.EventLog) != pcr.SHA256.Size():
		return fmt.Errorf("event log's digest of %d bytes, want %d", len(c.EventLog), pcr.SHA256.Size())
	case c.List.Entries < 0 || (c.List.Entries == 0) != (len(c.List.PCR) == 0) || len(c.List.PCR) > pcr.SHA512.Size():
		return fmt.Errorf("list verified up to entry %d with a PCR 10 of %d bytes", c.List.Entries, len(c.List.PCR))
	}
	return nil
}
