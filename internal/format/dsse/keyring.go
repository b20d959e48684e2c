package dsse

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// MaxKeys bounds a keyring.
const MaxKeys = 32

// Keyring is a set of distinct public keys. The zero Keyring and the nil one
// hold no key and open nothing.
type Keyring struct {
	keys []trustedKey
}

type trustedKey struct {
	id     string
	public crypto.PublicKey
}

// KeyID names a public key: lower-case hex SHA-256 of its SubjectPublicKeyInfo
// (RFC 5280, section 4.1), the same for any encoding of the same key.
func KeyID(public crypto.PublicKey) (string, error) {
	if err := supported(public); err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("name key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// ParseKeyring reads PEM texts of public keys ("PUBLIC KEY", ECDSA P-256 or
// Ed25519); a text may hold several. A key that stands twice counts once.
// Anything else in a text is an error: a trust anchor that was meant and not
// understood must not go unnoticed. No text at all gives an empty keyring.
func ParseKeyring(pems ...[]byte) (*Keyring, error) {
	k := new(Keyring)
	for i, text := range pems {
		rest := bytes.TrimSpace(text)
		if len(rest) == 0 {
			return nil, fmt.Errorf("parse public key %d: it is empty", i+1)
		}
		for len(rest) > 0 {
			if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
				return nil, fmt.Errorf("parse public key %d: want PEM of type PUBLIC KEY and nothing else", i+1)
			}
			var block *pem.Block
			block, rest = pem.Decode(rest)
			if block == nil {
				return nil, fmt.Errorf("parse public key %d: PEM is cut short", i+1)
			}
			if block.Type != "PUBLIC KEY" {
				return nil, fmt.Errorf("parse public key %d: PEM of type %q, want PUBLIC KEY", i+1, block.Type)
			}
			public, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parse public key %d: %w", i+1, err)
			}
			if err := k.add(public); err != nil {
				return nil, fmt.Errorf("parse public key %d: %w", i+1, err)
			}
			rest = bytes.TrimSpace(rest)
		}
	}
	return k, nil
}

// NewKeyring makes a keyring of public keys; a key that stands twice counts
// once.
func NewKeyring(publics ...crypto.PublicKey) (*Keyring, error) {
	k := new(Keyring)
	for _, p := range publics {
		if err := k.add(p); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *Keyring) add(public crypto.PublicKey) error {
	id, err := KeyID(public)
	if err != nil {
		return err
	}
	for _, t := range k.keys {
		if t.id == id {
			return nil
		}
	}
	if len(k.keys) == MaxKeys {
		return fmt.Errorf("more than %d keys", MaxKeys)
	}
	k.keys = append(k.keys, trustedKey{id, public})
	return nil
}

// Len is the number of distinct keys.
func (k *Keyring) Len() int {
	if k == nil {
		return 0
	}
	return len(k.keys)
}

// Public lists the distinct keys, in the keyring's order.
func (k *Keyring) Public() []crypto.PublicKey {
	var publics []crypto.PublicKey
	for i := range k.Len() {
		publics = append(publics, k.keys[i].public)
	}
	return publics
}

// IDs lists their ids, in the same order.
func (k *Keyring) IDs() []string {
	var ids []string
	for i := range k.Len() {
		ids = append(ids, k.keys[i].id)
	}
	return ids
}

// Has tells whether the keyring holds the key with this id.
func (k *Keyring) Has(id string) bool { return k != nil && k.index(id) >= 0 }

// Replace gives a keyring without the key of this id and with another one, which
// may be nil for none.
func (k *Keyring) Replace(id string, with crypto.PublicKey) (*Keyring, error) {
	next := new(Keyring)
	for i := range k.Len() {
		if k.keys[i].id != id {
			next.keys = append(next.keys, k.keys[i])
		}
	}
	if with == nil {
		return next, nil
	}
	return next, next.add(with)
}

// Open verifies an envelope and returns its payload and the ids of the keys
// that signed it, in the keyring's order. It checks, in this order:
//
//  1. the threshold is at least 1;
//  2. the envelope's form (Parse), else ErrMalformed;
//  3. valid signatures of at least threshold distinct keys, else ErrSignature;
//  4. the payload type, which the signatures cover, else ErrPayloadType.
//
// Key ids only say which key to try first (protocol.md: a hint that must not
// be used for security decisions).
func (k *Keyring) Open(envelope []byte, payloadType string, threshold int) (payload []byte, signers []string, err error) {
	if threshold < 1 {
		return nil, nil, fmt.Errorf("open envelope: threshold %d, want at least 1", threshold)
	}
	e, err := Parse(envelope)
	if err != nil {
		return nil, nil, fmt.Errorf("open envelope: %w", err)
	}
	signers = k.signers(e)
	if len(signers) < threshold {
		return nil, nil, fmt.Errorf("open envelope: %w: %d of %d needed (signatures in the envelope: %d, trusted keys: %d)",
			ErrSignature, len(signers), threshold, len(e.Signatures), k.Len())
	}
	if e.UntrustedPayloadType != payloadType {
		return nil, nil, fmt.Errorf("open envelope: %w: %q, want %q", ErrPayloadType, e.UntrustedPayloadType, payloadType)
	}
	return e.UntrustedPayload, signers, nil
}

// signers lists the distinct keys with a valid signature. A key that has
// signed is not tried again, so one key never counts twice, whatever number of
// its signatures the envelope holds.
func (k *Keyring) signers(e *Envelope) []string {
	if k == nil {
		return nil
	}
	pae := PAE(e.UntrustedPayloadType, e.UntrustedPayload)
	digest := sha256.Sum256(pae)
	signed := make([]bool, len(k.keys))
	for _, s := range e.Signatures {
		if i := k.index(s.KeyID); i >= 0 && !signed[i] && k.keys[i].verify(pae, digest, s.Sig) {
			signed[i] = true
			continue
		}
		for i, t := range k.keys {
			if !signed[i] && t.verify(pae, digest, s.Sig) {
				signed[i] = true
				break
			}
		}
	}
	var ids []string
	for i, t := range k.keys {
		if signed[i] {
			ids = append(ids, t.id)
		}
	}
	return ids
}

func (k *Keyring) index(id string) int {
	for i, t := range k.keys {
		if t.id == id {
			return i
		}
	}
	return -1
}

func (t trustedKey) verify(pae []byte, digest [sha256.Size]byte, sig []byte) bool {
	switch public := t.public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest[:], sig)
	case ed25519.PublicKey:
		return ed25519.Verify(public, pae, sig)
	}
	return false
}

// Sign makes an envelope with one signature per signer. Two signers with the
// same key are an error, since they would count once. Signers may be keys in
// memory, in an HSM or in a TPM.
func Sign(payloadType string, payload []byte, signers ...crypto.Signer) ([]byte, error) {
	if len(signers) == 0 || len(signers) > MaxSignatures {
		return nil, fmt.Errorf("sign envelope: %d keys, want 1 to %d", len(signers), MaxSignatures)
	}
	if payloadType == "" || len(payloadType) > maxName {
		return nil, fmt.Errorf("sign envelope: payload type of %d bytes, want 1 to %d", len(payloadType), maxName)
	}
	e := &Envelope{UntrustedPayloadType: payloadType, UntrustedPayload: payload}
	pae := PAE(payloadType, payload)
	digest := sha256.Sum256(pae)
	ring := new(Keyring)
	for i, s := range signers {
		message, hash := digest[:], crypto.SHA256
		if _, ok := s.Public().(ed25519.PublicKey); ok {
			message, hash = pae, crypto.Hash(0)
		}
		if err := ring.add(s.Public()); err != nil {
			return nil, fmt.Errorf("sign envelope: key %d: %w", i+1, err)
		}
		if ring.Len() != i+1 {
			return nil, fmt.Errorf("sign envelope: key %d: given twice", i+1)
		}
		sig, err := s.Sign(rand.Reader, message, hash)
		if err != nil {
			return nil, fmt.Errorf("sign envelope: key %d: %w", i+1, err)
		}
		e.Signatures = append(e.Signatures, Signature{KeyID: ring.keys[i].id, Sig: sig})
	}
	return e.encode()
}

func supported(public crypto.PublicKey) error {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() {
			return nil
		}
		return fmt.Errorf("ECDSA on %s, want P-256", p.Curve.Params().Name)
	case ed25519.PublicKey:
		if len(p) == ed25519.PublicKeySize {
			return nil
		}
		return errors.New("Ed25519 key of the wrong length")
	}
	return fmt.Errorf("key of type %T, want ECDSA P-256 or Ed25519", public)
}
