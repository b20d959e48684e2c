// Package dsse signs and opens Dead Simple Signing Envelopes, version 1
// (secure-systems-lab/dsse, protocol.md and envelope.md, v1.0.0): JSON around
// base64, signed over the pre-authentication encoding of payload type and
// payload, so that a payload signed for one purpose never passes for another.
// A keyring with a threshold is the only way to a payload that may be acted
// upon; what is read without keys is called untrusted. Signatures are ECDSA
// P-256 (ASN.1, over SHA-256) or Ed25519. Whether a key may sign, and for what,
// is the caller's to decide by the keyring that it gives.
package dsse

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of what is read.
const (
	// MaxSize bounds an envelope: a release manifest takes some tens of
	// kilobytes, a receipt less than one.
	MaxSize = 1 << 20
	// MaxSignatures bounds the work that an unsigned envelope can cause: each
	// signature may be tried with each key.
	MaxSignatures = 16
	// maxSignatureSize is well above an ASN.1 ECDSA P-256 signature (72 bytes)
	// and an Ed25519 one (64 bytes).
	maxSignatureSize = 256
	// maxName bounds payload type and key id, which are echoed in errors.
	maxName = 256
)

// Errors that Open and Parse wrap.
var (
	// ErrMalformed: the bytes are no envelope: cut short, not JSON, or breaking
	// a rule of the format.
	ErrMalformed = errors.New("not a signed envelope")
	// ErrSignature: fewer distinct keys than the threshold have signed.
	ErrSignature = errors.New("not enough valid signatures")
	// ErrPayloadType: the signatures hold, for a payload of another type.
	ErrPayloadType = errors.New("signed for another payload type")
)

// Signature is one signature of an envelope. KeyID is a hint and proves
// nothing.
type Signature struct {
	KeyID string
	Sig   []byte
}

// Envelope is an envelope as it was read: nothing in it is verified.
type Envelope struct {
	UntrustedPayloadType string
	UntrustedPayload     []byte
	Signatures           []Signature
}

// PAE is the pre-authentication encoding: the bytes that are signed
// (protocol.md, "Signature Definition").
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len("DSSEv1")+len(payloadType)+len(payload)+24)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// wireEnvelope is the JSON envelope (envelope.md).
type wireEnvelope struct {
	Payload     string          `json:"payload"`
	PayloadType string          `json:"payloadType"`
	Signatures  []wireSignature `json:"signatures"`
}

type wireSignature struct {
	KeyID string `json:"keyid,omitempty"`
	Sig   string `json:"sig"`
}

// Parse reads an envelope without verifying anything. Its errors wrap
// ErrMalformed. It checks, in this order:
//
//  1. the size;
//  2. strict JSON (DecodeJSON): no key twice, none unknown, nothing behind it;
//  3. a payload type, and its length;
//  4. base64 of the payload, standard or URL-safe, padded, without line breaks;
//  5. the number of signatures, and each one's length and base64.
//
// An envelope without signatures is read: it is an unsigned one.
func Parse(envelope []byte) (*Envelope, error) {
	if len(envelope) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrMalformed)
	}
	if len(envelope) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrMalformed, len(envelope), MaxSize)
	}
	var w wireEnvelope
	if err := DecodeJSON(envelope, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if w.PayloadType == "" || len(w.PayloadType) > maxName {
		return nil, fmt.Errorf("%w: payloadType has %d bytes, want 1 to %d", ErrMalformed, len(w.PayloadType), maxName)
	}
	payload, err := decodeBase64(w.Payload)
	if err != nil {
		return nil, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	if len(w.Signatures) > MaxSignatures {
		return nil, fmt.Errorf("%w: %d signatures, at most %d are read", ErrMalformed, len(w.Signatures), MaxSignatures)
	}
	e := &Envelope{UntrustedPayloadType: w.PayloadType, UntrustedPayload: payload}
	for i, s := range w.Signatures {
		sig, err := decodeBase64(s.Sig)
		if err != nil {
			return nil, fmt.Errorf("%w: signatures[%d].sig: %w", ErrMalformed, i, err)
		}
		if len(sig) == 0 || len(sig) > maxSignatureSize || len(s.KeyID) > maxName {
			return nil, fmt.Errorf("%w: signatures[%d]: %d bytes of signature, %d of key id, want 1 to %d and at most %d",
				ErrMalformed, i, len(sig), len(s.KeyID), maxSignatureSize, maxName)
		}
		e.Signatures = append(e.Signatures, Signature{KeyID: s.KeyID, Sig: sig})
	}
	return e, nil
}

// encode writes the envelope as one line of JSON.
func (e *Envelope) encode() ([]byte, error) {
	w := wireEnvelope{
		Payload:     base64.StdEncoding.EncodeToString(e.UntrustedPayload),
		PayloadType: e.UntrustedPayloadType,
		Signatures:  make([]wireSignature, 0, len(e.Signatures)),
	}
	for _, s := range e.Signatures {
		w.Signatures = append(w.Signatures, wireSignature{KeyID: s.KeyID, Sig: base64.StdEncoding.EncodeToString(s.Sig)})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(w); err != nil {
		return nil, fmt.Errorf("encode envelope: %w", err)
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("encode envelope: %d bytes, at most %d are read again", b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}

// decodeBase64 reads standard or URL-safe base64 with padding; the standard
// library would skip line breaks and, unless strict, ignore stray bits.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line break in base64")
	}
	enc := base64.StdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.URLEncoding
	}
	b, err := enc.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decode base64: %w", err)
	}
	return b, nil
}
