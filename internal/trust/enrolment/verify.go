package enrolment

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"time"

	"ward/internal/trust/credential"
	"ward/internal/trust/event"
	"ward/internal/trust/policy"
)

// Terms are what a request is judged by.
type Terms struct {
	// Makers are the authorities of TPM makers that are trusted. The self-signed
	// ones are roots; the others only help to find a way to a root, as those that a
	// device sends do.
	Makers    []*x509.Certificate
	PolicyKey *policy.Key // whose boot policy a service key must have; nil: no service key is taken
	Now       time.Time
}

// Proof is a request that was verified. Its zero value proves nothing.
type Proof struct {
	tenant, serial string
	ek             crypto.PublicKey
	ekID           [32]byte
	ak             *ecdsa.PublicKey
	akName         []byte
	keys           map[Use]*ecdsa.PublicKey
}

// Verify judges a request. It checks, in this order:
//
//  1. the message is of version 1, whole and within its bounds, with at least one
//     key and none for a use twice (ErrMessage);
//  2. the tenant (ErrMessage) and the serial number (ErrSerial) are names that can
//     stand in a topic;
//  3. there is a certificate of the endorsement key (ErrEKMissing);
//  4. it is one: it can be read, is no authority's, has nothing critical that is
//     not understood but a directory name, is for endorsement keys, and its key is
//     of a kind that a credential can be made for (ErrEKProfile);
//  5. it leads to a root of Terms.Makers, every certificate on the way being good
//     at Terms.Now (ErrEKUntrusted);
//  6. the attestation key is a P-256 key of ECDSA with SHA-256 that never leaves
//     the TPM that made it and signs only what that TPM says (ErrAK);
//  7. each key is a P-256 key of ECDSA with SHA-256 that never leaves the TPM that
//     made it, used as its use asks for: a reporting key with an empty
//     authorisation and without a policy, a service key under the boot policy of
//     Terms.PolicyKey and in no other way (ErrKey);
//  8. of each key the attestation key states that it lives in its TPM (ErrKey).
//
// What is left to prove is that the attestation key lives in the TPM of that
// certificate: Credential or Seal ask for it.
func (r Request) Verify(t Terms) (*Proof, error) {
	p, err := r.verify(t)
	if err != nil {
		return nil, fmt.Errorf("verify enrolment request: %w", err)
	}
	return p, nil
}

func (r Request) verify(t Terms) (*Proof, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if err := event.CheckName(r.Tenant); err != nil {
		return nil, fmt.Errorf("%w: tenant %.80q: %w", ErrMessage, r.Tenant, err)
	}
	if err := event.CheckName(r.Serial); err != nil {
		return nil, fmt.Errorf("%w: %.80q: %w", ErrSerial, r.Serial, err)
	}
	if len(r.EK.Certificate) == 0 {
		return nil, ErrEKMissing
	}
	ek, err := parseEK(r.EK.Certificate)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEKProfile, err)
	}
	if err := verifyChain(ek, r.EK.Chain, t); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEKUntrusted, err)
	}
	ak, err := parseAK(r.AK)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAK, err)
	}
	p := &Proof{tenant: r.Tenant, serial: r.Serial, ek: ek.PublicKey, ak: ak.Key, akName: ak.Name, keys: make(map[Use]*ecdsa.PublicKey)}
	for _, k := range r.Keys {
		if p.keys[k.Use], err = k.verify(ak.Key, t.PolicyKey); err != nil {
			return nil, fmt.Errorf("%s key: %w: %w", k.Use, ErrKey, err)
		}
	}
	// Encoded anew: one key in two encodings is one endorsement key.
	info, err := x509.MarshalPKIXPublicKey(ek.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEKProfile, err)
	}
	p.ekID = sha256.Sum256(info)
	return p, nil
}

// Tenant and its kin are what was proved.
func (p *Proof) Tenant() string               { return p.tenant }
func (p *Proof) Serial() string               { return p.serial }
func (p *Proof) EK() [32]byte                 { return p.ekID } // SHA-256 of its SubjectPublicKeyInfo
func (p *Proof) AK() *ecdsa.PublicKey         { return p.ak }
func (p *Proof) Key(use Use) *ecdsa.PublicKey { return p.keys[use] } // nil: it has none

// Use says which of the request's keys a public key is; "": none of them.
func (p *Proof) Use(public crypto.PublicKey) Use {
	for use, key := range p.keys {
		if key.Equal(public) {
			return use
		}
	}
	return ""
}

// Credential makes a credential with a new secret of 32 bytes that only the TPM
// of the proof can open, and only while the attestation key of the proof is loaded.
func (p *Proof) Credential(random io.Reader) (credential.Blob, []byte, error) {
	secret := make([]byte, secretSize)
	if _, err := io.ReadFull(random, secret); err != nil {
		return credential.Blob{}, nil, fmt.Errorf("make secret: %w", err)
	}
	blob, err := credential.Make(random, p.ek, p.akName, secret)
	if err != nil {
		return credential.Blob{}, nil, err
	}
	return blob, secret, nil
}
