package enrolment

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"

	"ward/internal/format/dsse"
)

// secretSize is the size of the secret that a credential protects, in bytes.
const secretSize = 32

// answerDomain keeps the key of an answer apart from every other use of a
// credential's secret. Answers lie in files: it never changes within version 1.
const answerDomain = "ward enrolment answer v1"

// Seal encrypts what is issued for the TPM of a proof: AES-256-GCM, a random nonce
// of 12 bytes before it, under a key that HKDF-SHA256 (RFC 5869, without salt)
// derives from a new credential's secret for "ward enrolment answer v1", tenant
// and device, each on a line of its own. What is issued must be for the tenant and
// the serial number of the proof.
func (p *Proof) Seal(random io.Reader, i Issued) (Answer, error) {
	a, err := p.seal(random, i)
	if err != nil {
		return Answer{}, fmt.Errorf("seal enrolment answer: %w", err)
	}
	return a, nil
}

func (p *Proof) seal(random io.Reader, i Issued) (Answer, error) {
	if err := i.check(); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if i.Tenant != p.tenant || i.Device != p.serial {
		return Answer{}, fmt.Errorf("issued for %s/%s, and %s/%s was proved", i.Tenant, i.Device, p.tenant, p.serial)
	}
	plain, err := json.Marshal(i)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Version: Version, Tenant: p.tenant, Device: p.serial}
	var secret []byte
	if a.Credential, secret, err = p.Credential(random); err != nil {
		return Answer{}, err
	}
	aead, err := a.cipher(secret)
	if err != nil {
		return Answer{}, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	if _, err := io.ReadFull(random, nonce); err != nil {
		return Answer{}, fmt.Errorf("make nonce: %w", err)
	}
	a.Sealed = aead.Seal(nonce, nonce, plain, nil)
	return a, nil
}

// Open decrypts an answer with the secret that its TPM gave for the credential. An
// answer that this secret does not open, or that was changed, gives ErrOtherTPM;
// what was opened and is not issued for the tenant and device that the answer
// names gives ErrMessage.
func (a Answer) Open(secret []byte) (Issued, error) {
	i, err := a.open(secret)
	if err != nil {
		return Issued{}, fmt.Errorf("open enrolment answer: %w", err)
	}
	return i, nil
}

func (a Answer) open(secret []byte) (Issued, error) {
	if err := a.check(); err != nil {
		return Issued{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if len(secret) != secretSize {
		return Issued{}, fmt.Errorf("%w: a secret of %d bytes, want %d", ErrOtherTPM, len(secret), secretSize)
	}
	aead, err := a.cipher(secret)
	if err != nil {
		return Issued{}, err
	}
	if len(a.Sealed) < aead.NonceSize() {
		return Issued{}, fmt.Errorf("%w: %d sealed bytes are too few", ErrMessage, len(a.Sealed))
	}
	nonce, sealed := a.Sealed[:aead.NonceSize()], a.Sealed[aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, sealed, nil)
	if err != nil {
		return Issued{}, fmt.Errorf("%w, or it was changed: %w", ErrOtherTPM, err)
	}
	var i Issued
	if err := dsse.DecodeJSON(plain, &i); err != nil {
		return Issued{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if err := i.check(); err != nil {
		return Issued{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if i.Tenant != a.Tenant || i.Device != a.Device {
		return Issued{}, fmt.Errorf("%w: issued for %s/%s in an answer for %s/%s", ErrMessage, i.Tenant, i.Device, a.Tenant, a.Device)
	}
	return i, nil
}

func (a Answer) cipher(secret []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, answerDomain+"\n"+a.Tenant+"\n"+a.Device, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
