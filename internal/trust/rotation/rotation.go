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
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	// idLength is that of a key's id, in hexadecimal digits.
	idLength = 64
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

// Equal tells whether two rotations say the same; when they were issued does not
// matter.
func (r Rotation) Equal(o Rotation) bool {
	return r.Use == o.Use && r.Serial == o.Serial && r.From == o.From && bytes.Equal(r.To, o.To)
}

// Verified is a rotation that its old key signed. Only Verify makes one; the zero
// value rotates nothing. Whether it follows is for a Chain to say.
type Verified struct {
	rotation Rotation
	heir     key
}

// key is a public key with its name. Serial is that of the rotation that led to
// it, 0 for one that was anchored: its place in its line is not known.
type key struct {
	id     string
	public crypto.PublicKey
	serial int
}

// Rotation is a copy of what was signed.
func (v Verified) Rotation() Rotation {
	r := v.rotation
	r.To = bytes.Clone(r.To)
	return r
}

// To is the id of the new key.
func (v Verified) To() string { return v.heir.id }

// Sign makes the envelope of a rotation from a key to a new one.
func Sign(use Use, serial int, old crypto.Signer, to crypto.PublicKey, issued time.Time) ([]byte, error) {
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
	if _, err := r.check(); err != nil {
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
//  1. the size;
//  2. a valid signature of one key of the keyring, and the payload type (dsse);
//  3. the document: strict JSON; a use that is known; a serial number from 1 on;
//     the id of the old key; a new key, in its one encoding, that is another one;
//  4. the old key is the one that signed, else dsse.ErrSignature.
func Verify(envelope []byte, keys *dsse.Keyring) (Verified, error) {
	if err := checkSize(envelope); err != nil {
		return Verified{}, fmt.Errorf("verify rotation: %w", err)
	}
	payload, signers, err := keys.Open(envelope, PayloadType, 1)
	if err != nil {
		return Verified{}, fmt.Errorf("verify rotation: %w", err)
	}
	v, err := parse(payload)
	if err != nil {
		return Verified{}, fmt.Errorf("verify rotation: %w", err)
	}
	if !slices.Contains(signers, v.rotation.From) {
		return Verified{}, fmt.Errorf("verify rotation: %w: the old key %.12s has not signed", dsse.ErrSignature, v.rotation.From)
	}
	return v, nil
}

// IsRotation tells whether an envelope says that it holds a rotation, and proves
// nothing.
func IsRotation(envelope []byte) bool {
	if checkSize(envelope) != nil {
		return false
	}
	e, err := dsse.Parse(envelope)
	return err == nil && e.UntrustedPayloadType == PayloadType
}

// untrusted reads an envelope without any key.
func untrusted(envelope []byte) (Verified, error) {
	if err := checkSize(envelope); err != nil {
		return Verified{}, err
	}
	e, err := dsse.Parse(envelope)
	if err != nil {
		return Verified{}, err
	}
	if e.UntrustedPayloadType != PayloadType {
		return Verified{}, fmt.Errorf("%w: %q, want %q", dsse.ErrPayloadType, e.UntrustedPayloadType, PayloadType)
	}
	return parse(e.UntrustedPayload)
}

func checkSize(envelope []byte) error {
	if len(envelope) > MaxSize {
		return fmt.Errorf("%w: %d bytes, want at most %d", dsse.ErrMalformed, len(envelope), MaxSize)
	}
	return nil
}

func parse(payload []byte) (Verified, error) {
	var r Rotation
	if err := dsse.DecodeJSON(payload, &r); err != nil {
		return Verified{}, err
	}
	heir, err := r.check()
	if err != nil {
		return Verified{}, err
	}
	return Verified{rotation: r, heir: heir}, nil
}

// check gives the new key.
func (r Rotation) check() (key, error) {
	switch {
	case r.Use != Receipt && r.Use != Challenge:
		return key{}, fmt.Errorf("use %.40q, want %s or %s", r.Use, Receipt, Challenge)
	case r.Serial < 1 || r.Serial > maxSerial:
		return key{}, fmt.Errorf("serial %d, want 1 to %d", r.Serial, maxSerial)
	case !isID(r.From):
		return key{}, fmt.Errorf("old key %.80q, want %d hexadecimal digits in lower case", r.From, idLength)
	case len(r.To) > maxKey:
		return key{}, fmt.Errorf("new key of %d bytes, want at most %d", len(r.To), maxKey)
	case r.Issued.IsZero():
		return key{}, errors.New("no time of issue")
	}
	public, err := x509.ParsePKIXPublicKey(r.To)
	if err != nil {
		return key{}, fmt.Errorf("new key: %w", err)
	}
	id, err := dsse.KeyID(public)
	if err != nil {
		return key{}, fmt.Errorf("new key: %w", err)
	}
	if der, err := x509.MarshalPKIXPublicKey(public); err != nil || !bytes.Equal(der, r.To) {
		return key{}, errors.New("new key: not in its one encoding")
	}
	if id == r.From {
		return key{}, errors.New("the new key is the old one")
	}
	return key{id: id, public: public, serial: r.Serial}, nil
}

func isID(s string) bool {
	return len(s) == idLength && !slices.ContainsFunc([]byte(s), func(c byte) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') })
}
