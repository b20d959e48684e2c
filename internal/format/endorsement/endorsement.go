// Package endorsement knows the endorsement keys that a TPM's maker certifies:
// the templates they are made from, the NV indexes where certificates, nonces
// and templates lie, and the algorithms that protect a credential for each (TCG
// EK Credential Profile for TPM Family 2.0, sections 2.2.1 and B).
package endorsement

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Profile is one kind of endorsement key.
type Profile struct {
	Name        string
	Certificate uint32 // NV index
	Nonce       uint32 // NV index of what the maker mixed into the template; 0: none
	Template    uint32 // NV index of the maker's own template; 0: none
	// UserAuth: the key is used with its empty authorisation value; else with
	// TPM2_PolicySecret(TPM_RH_ENDORSEMENT).
	UserAuth bool

	template func() tpm2.TPMTPublic
}

// Public is the template that the key is made from.
func (p Profile) Public() tpm2.TPMTPublic { return p.template() }

// Profiles are the keys that are looked for, best first: P-256, P-384,
// RSA-2048, those of the low range (L) before those of the high range (H).
var Profiles = []Profile{
	{Name: "P-256 (L-2)", Certificate: 0x01c0000a, Nonce: 0x01c0000b, Template: 0x01c0000c, template: lowP256},
	{Name: "P-256 (H-2)", Certificate: 0x01c00014, UserAuth: true, template: highP256},
	{Name: "P-384 (H-3)", Certificate: 0x01c00016, UserAuth: true, template: highP384},
	{Name: "RSA-2048 (L-1)", Certificate: 0x01c00002, Nonce: 0x01c00003, Template: 0x01c00004, template: lowRSA},
	{Name: "RSA-2048 (H-1)", Certificate: 0x01c00012, UserAuth: true, template: highRSA},
}

// FirstChain and LastChain are the NV indexes of the certificates between the
// EK's and the maker's root (section 2.2.1.5.2).
const (
	FirstChain uint32 = 0x01c00100
	LastChain  uint32 = 0x01c001ff
)

// Policies (section B.6): A is TPM2_PolicySecret(TPM_RH_ENDORSEMENT); B is
// TPM2_PolicyOR of A and of C, which an NV index of the maker's may extend.
const (
	policyA256 = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
	policyB256 = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"
	policyB384 = "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)

// ErrKey: the key is of no kind that the profile names.
var ErrKey = errors.New("not an endorsement key of a known kind")

// Protection is what protects a credential for an endorsement key: the hash of
// its names, and the size of its AES key in bits. It follows from the key
// alone, so that whoever has the certificate needs nothing else of the device.
func Protection(public crypto.PublicKey) (crypto.Hash, int, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() == 2048 {
			return crypto.SHA256, 128, nil
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return crypto.SHA256, 128, nil
		case elliptic.P384():
			return crypto.SHA384, 256, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: %T, want RSA-2048, P-256 or P-384", ErrKey, public)
}

// attributes of a storage key that the endorsement hierarchy's authorisation
// opens; the high range adds the key's own, empty one.
func attributes(user bool) tpm2.TPMAObject {
	return tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, AdminWithPolicy: true,
		UserWithAuth: user, Restricted: true, Decrypt: true,
	}
}

func aes(bits tpm2.TPMKeyBits) tpm2.TPMTSymDefObject {
	return tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, bits),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
}

func policy(text string) tpm2.TPM2BDigest {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic("policy constant: " + err.Error())
	}
	return tpm2.TPM2BDigest{Buffer: b}
}

func elliptical(name tpm2.TPMAlgID, authorization string, bits tpm2.TPMKeyBits, curve tpm2.TPMECCCurve, user bool, unique int) tpm2.TPMTPublic {
	coordinate := func() tpm2.TPM2BECCParameter { return tpm2.TPM2BECCParameter{Buffer: make([]byte, unique)} }
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: name, ObjectAttributes: attributes(user), AuthPolicy: policy(authorization),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: aes(bits), CurveID: curve}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: coordinate(), Y: coordinate()}),
	}
}

func rivest(authorization string, user bool, unique int) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes(user), AuthPolicy: policy(authorization),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Symmetric: aes(128), KeyBits: 2048}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: make([]byte, unique)}),
	}
}

func lowRSA() tpm2.TPMTPublic  { return rivest(policyA256, false, 256) }
func highRSA() tpm2.TPMTPublic { return rivest(policyB256, true, 0) }

func lowP256() tpm2.TPMTPublic {
	return elliptical(tpm2.TPMAlgSHA256, policyA256, 128, tpm2.TPMECCNistP256, false, 32)
}

func highP256() tpm2.TPMTPublic {
	return elliptical(tpm2.TPMAlgSHA256, policyB256, 128, tpm2.TPMECCNistP256, true, 0)
}

func highP384() tpm2.TPMTPublic {
	return elliptical(tpm2.TPMAlgSHA384, policyB384, 256, tpm2.TPMECCNistP384, true, 0)
}

// WithNonce is a template of the low range with the maker's nonce in it
// (section 2.2.1.3): it takes the place of the modulus, or of x, padded with
// zeros behind.
func WithNonce(template tpm2.TPMTPublic, nonce []byte) (tpm2.TPMTPublic, error) {
	switch template.Type {
	case tpm2.TPMAlgRSA:
		if len(nonce) > 256 {
			return template, fmt.Errorf("apply EK nonce: %d bytes, at most 256 fit", len(nonce))
		}
		unique := append(append([]byte{}, nonce...), make([]byte, 256-len(nonce))...)
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: unique})
	case tpm2.TPMAlgECC:
		if len(nonce) > 32 {
			return template, fmt.Errorf("apply EK nonce: %d bytes, at most 32 fit", len(nonce))
		}
		x := append(append([]byte{}, nonce...), make([]byte, 32-len(nonce))...)
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)},
		})
	}
	return template, nil
}
