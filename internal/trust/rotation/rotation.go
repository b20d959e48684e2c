// Package rotation gives the fleet's receipt and challenge keys their successors:
// a closed JSON document that the old key signs, in a DSSE envelope
// (docs/schema/key-rotation.v1.schema.json; blueprint, section 8: trust anchors
// change with a release, or by a signed rotation that the old key signs). A device
// begins with the keys that its read-only root holds and follows rotations in
// their order; a key that was given up is accepted no more, and signs no second
// successor. What was verified is a type of its own that only Verify makes.
package rotation

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ward/internal/format/dsse"
)

// PayloadType names a rotation in its envelope. The document is closed: another
// key of it needs another type.
const PayloadType = "application/vnd.ward.key-rotation.v1+json"

const (
	// MaxSize bounds an envelope, in bytes; a rotation takes some 800.
	MaxSize = 8 << 10
	// MaxRotations is how many rotations a device follows for one use: a key that
	// changes every year is in no device that long without a release.
	MaxRotations = 32
	// maxKey bounds an encoded public key, in bytes; a P-256 one has 91.
	maxKey = 256
	// maxSerial bounds a serial number, so that every reader of JSON can hold it.
	maxSerial = 1 << 31
)

// Use is what a key signs.
type Use string

// Uses. A key that signs both is rotated for each.
const (
	Receipt   Use = "receipt"
	Challenge Use = "challenge"
)

// Rotation says that one key takes the place of another. Serial counts along the
// line of a key: 1 for the first successor, and one more for each after it.
type Rotation struct {
	Use    Use       `json:"use"`
	Serial int       `json:"serial"`
	From   string    `json:"from"`   // id of the old key (dsse.KeyID), which signs
	To     []byte    `json:"to"`     // the new key: SubjectPublicKeyInfo, DER (RFC 5280, section 4.1)
	Issued time.Time `json:"issued"` // the fleet's clock, UTC; decides nothing
}

// Verified is a rotation that its old key signed. Only Verify makes one. Whether it
// follows is for a Chain to say.
type Verified struct{ claim *claim }

// claim is a rotation that was read, and the new key in it.
type claim struct {
	Rotation
	to     string // id of the new key
	public crypto.PublicKey
}

// Rotation is a copy of what was signed.
func (v Verified) Rotation() Rotation {
	r := v.claim.Rotation
	r.To = bytes.Clone(r.To)
	return r
}

// To is the id of the new key.
func (v Verified) To() string { return v.claim.to }

// Report is what a device says of a rotation that it followed
// (docs/schema/event.v1.schema.json, keyRotated).
func (v Verified) Report() []byte {
	c := v.claim // of a known use, with ids in hexadecimal, which need no quoting
	return fmt.Appendf(nil, `{"use":"%s","serial":%d,"from":"%s","to":"%s"}`, c.Use, c.Serial, c.From, c.to)
}

// Sign makes the envelope of a rotation from a key to a new one.
func Sign(use Use, serial int, old crypto.Signer, to crypto.PublicKey, issued time.Time) ([]byte, error) {
	if serial < 1 || serial > maxSerial {
		return nil, fmt.Errorf("sign rotation: serial %d, want 1 to %d", serial, maxSerial)
	}
	from, err := dsse.KeyID(old.Public())
	if err != nil {
		return nil, fmt.Errorf("sign rotation: old key: %w", err)
	}
	if _, err := dsse.KeyID(to); err != nil {
		return nil, fmt.Errorf("sign rotation: new key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(to)
	if err != nil {
		return nil, fmt.Errorf("sign rotation: new key: %w", err)
	}
	r := Rotation{Use: use, Serial: serial, From: from, To: der, Issued: issued.UTC()}
	if err := (&claim{Rotation: r}).check(); err != nil {
		return nil, fmt.Errorf("sign rotation: %w", err)
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("sign rotation: %w", err)
	}
	envelope, err := dsse.Sign(PayloadType, payload, old)
	if err != nil {
		return nil, fmt.Errorf("sign rotation: %w", err)
	}
	return envelope, nil
}

// Verify opens an envelope. It checks, in this order:
//
//  1. the size, the envelope's form and the payload type;
//  2. the document: strict JSON; a use that is known; a serial number from 1 on;
//     the id of the old key; a new key that is another one;
//  3. a valid signature of the old key, which is in the keyring, else
//     dsse.ErrSignature.
func Verify(envelope []byte, keys *dsse.Keyring) (*Verified, error) {
	c, err := untrusted(envelope)
	if err != nil {
		return nil, err
	}
	_, signers, err := keys.Open(envelope, PayloadType, 1)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(signers, c.From) {
		return nil, dsse.ErrSignature
	}
	return &Verified{c}, nil
}

// IsRotation tells whether an envelope says that it holds a rotation, and proves
// nothing.
func IsRotation(envelope []byte) bool {
	_, ok := document(envelope)
	return ok == nil
}

// document is the payload of an envelope that says that it holds a rotation.
func document(envelope []byte) ([]byte, error) {
	if len(envelope) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", dsse.ErrMalformed, len(envelope), MaxSize)
	}
	e, err := dsse.Parse(envelope)
	if err != nil {
		return nil, err
	}
	if e.UntrustedPayloadType != PayloadType {
		return nil, dsse.ErrPayloadType
	}
	return e.UntrustedPayload, nil
}

// untrusted reads an envelope without any key: what it gives is not verified yet.
func untrusted(envelope []byte) (*claim, error) {
	payload, err := document(envelope)
	if err != nil {
		return nil, err
	}
	c := new(claim)
	if err = dsse.DecodeJSON(payload, &c.Rotation); err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

var (
	errForm = errors.New("use, serial, old key or time of issue is not as the schema has it")
	errSame = errors.New("the new key is the old one")
)

// check checks the document and takes the new key from it.
func (c *claim) check() error {
	if c.Use != Receipt && c.Use != Challenge || c.Serial < 1 || c.Serial > maxSerial || c.Issued.IsZero() || !isID(c.From) || len(c.To) > maxKey {
		return errForm
	}
	var err error
	if c.public, err = x509.ParsePKIXPublicKey(c.To); err != nil {
		return err
	}
	if c.to, err = dsse.KeyID(c.public); err != nil {
		return err
	}
	if c.to == c.From {
		return errSame
	}
	return nil
}

// isID tells whether a text is SHA-256 in lower-case hexadecimal.
func isID(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}
