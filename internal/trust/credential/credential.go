// Package credential protects a secret so that one TPM alone can read it, and
// only while a named object is loaded beside its endorsement key: what
// TPM2_MakeCredential computes, without a TPM (TPM 2.0 Library, Part 1, section
// 24 and annexes B.10.4 and C.6.4; Part 3, section 12.6). The registrar uses it
// to see that an attestation key lives in the TPM whose certificate it has
// checked.
package credential

import (
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	_ "crypto/sha256" // the hashes of names
	_ "crypto/sha512"

	"ward/internal/format/endorsement"
)

const (
	// MaxSecret is the longest secret in bytes: the TPM takes no more than a
	// digest of the key's hash, and SHA-256 is the shortest.
	MaxSecret = 32
	// nameSize is the size of the Name of an object that is named with SHA-256.
	nameSize = 2 + 32
)

// Labels of the derivations (Part 1, section 24.4; annex B.10.4).
const (
	labelIdentity  = "IDENTITY"
	labelStorage   = "STORAGE"
	labelIntegrity = "INTEGRITY"
)

var errInput = errors.New("not a secret and a name that a credential can hold")

// Blob is a protected secret, as TPM2_ActivateCredential takes it.
type Blob struct {
	Credential []byte `json:"credential"` // TPMS_ID_OBJECT: integrity and encrypted identity
	Secret     []byte `json:"secret"`     // what a TPM2B_ENCRYPTED_SECRET holds
}

// Make protects a secret of 1 to 32 bytes for the TPM whose endorsement key has
// this public part (RSA-2048, P-256 or P-384), and for the object with this
// Name (TPM2B_NAME, SHA-256: 34 bytes). random is crypto/rand.Reader.
func Make(random io.Reader, ek crypto.PublicKey, name, secret []byte) (Blob, error) {
	if len(secret) == 0 || len(secret) > MaxSecret || len(name) != nameSize || binary.BigEndian.Uint16(name) != 0x000b {
		return Blob{}, fmt.Errorf("make credential: %w: secret of %d bytes, name of %d", errInput, len(secret), len(name))
	}
	hash, bits, err := endorsement.Protection(ek)
	if err != nil {
		return Blob{}, fmt.Errorf("make credential: %w", err)
	}
	seed, wrapped, err := encapsulate(random, ek, hash)
	if err != nil {
		return Blob{}, fmt.Errorf("make credential: %w", err)
	}
	protected, err := protect(hash, bits, seed, name, secret)
	if err != nil {
		return Blob{}, fmt.Errorf("make credential: %w", err)
	}
	return Blob{Credential: protected, Secret: wrapped}, nil
}

// encapsulate makes a seed that the endorsement key alone can find again.
func encapsulate(random io.Reader, ek crypto.PublicKey, hash crypto.Hash) (seed, wrapped []byte, err error) {
	switch k := ek.(type) {
	case *rsa.PublicKey:
		seed = make([]byte, hash.Size())
		if _, err := io.ReadFull(random, seed); err != nil {
			return nil, nil, err
		}
		// The label's final zero is part of it (annex B.4).
		wrapped, err = rsa.EncryptOAEP(hash.New(), random, k, seed, []byte(labelIdentity+"\x00"))
		return seed, wrapped, err
	case *ecdsa.PublicKey:
		public, err := k.ECDH()
		if err != nil {
			return nil, nil, err
		}
		ephemeral, err := public.Curve().GenerateKey(random)
		if err != nil {
			return nil, nil, err
		}
		return agree(ephemeral, public, hash)
	}
	return nil, nil, endorsement.ErrKey
}

// agree is the one-pass key agreement of annex C.6.1; coordinates have their
// full length.
func agree(ephemeral *ecdh.PrivateKey, public *ecdh.PublicKey, hash crypto.Hash) (seed, wrapped []byte, err error) {
	z, err := ephemeral.ECDH(public)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := ephemeral.PublicKey().Bytes()[1:], public.Bytes()[1:]
	size := len(ours) / 2
	seed = kdfe(hash, z, labelIdentity, ours[:size], theirs[:size])
	return seed, append(sized(ours[:size]), sized(ours[size:])...), nil
}

// protect encrypts the secret and authenticates it with the name (Part 1,
// sections 24.4 and 24.5).
func protect(hash crypto.Hash, bits int, seed, name, secret []byte) ([]byte, error) {
	block, err := aes.NewCipher(kdfa(hash, seed, labelStorage, name, bits))
	if err != nil {
		return nil, err
	}
	identity := sized(secret)
	feedback := make([]byte, aes.BlockSize)
	for at := 0; at < len(identity); at += aes.BlockSize { // CFB from a zero vector
		block.Encrypt(feedback, feedback)
		for i := range min(aes.BlockSize, len(identity)-at) {
			identity[at+i] ^= feedback[i]
			feedback[i] = identity[at+i]
		}
	}
	mac := hmac.New(hash.New, kdfa(hash, seed, labelIntegrity, nil, 8*hash.Size()))
	mac.Write(identity)
	mac.Write(name)
	return append(sized(mac.Sum(nil)), identity...), nil
}

// kdfa derives up to one digest of key bits (Part 1, section 11.4.10.2: NIST SP
// 800-108 in counter mode).
func kdfa(hash crypto.Hash, key []byte, label string, context []byte, bits int) []byte {
	mac := hmac.New(hash.New, key)
	mac.Write(binary.BigEndian.AppendUint32(nil, 1))
	mac.Write([]byte(label + "\x00"))
	mac.Write(context)
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(bits)))
	return mac.Sum(nil)[:bits/8]
}

// kdfe derives one digest from an agreement (Part 1, section 11.4.10.3: NIST SP
// 800-56A).
func kdfe(hash crypto.Hash, z []byte, label string, ours, theirs []byte) []byte {
	h := hash.New()
	h.Write(binary.BigEndian.AppendUint32(nil, 1))
	h.Write(z)
	h.Write([]byte(label + "\x00"))
	h.Write(ours)
	h.Write(theirs)
	return h.Sum(nil)
}

func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}
