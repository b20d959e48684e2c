package enrolment

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"

	"ward/internal/format/tpmwire"
	"ward/internal/trust/policy"
)

// bornHere are the attributes of a key that was made by its TPM and never leaves
// it (TPMA_OBJECT, Part 2, section 8.3).
const bornHere = tpmwire.FixedTPM | tpmwire.FixedParent | tpmwire.SensitiveDataOrigin

// parseAK reads the public area of an attestation key. Who may use it, and whether
// wrong authorisations lock it, is the device's affair: what it signs is the TPM's
// word in any case.
func parseAK(area []byte) (tpmwire.Public, error) {
	p, err := tpmwire.ParsePublic(area)
	if err != nil {
		return tpmwire.Public{}, err
	}
	const free = tpmwire.UserWithAuth | tpmwire.AdminWithPolicy | tpmwire.NoDA
	if err := checkAttributes(p, bornHere|tpmwire.Restricted|tpmwire.Sign, free); err != nil {
		return tpmwire.Public{}, err
	}
	return p, nil
}

// checkAttributes wants exactly these attributes, but for those that are free, and
// the scheme that Ward's keys have.
func checkAttributes(p tpmwire.Public, want, free tpmwire.Attributes) error {
	if p.Attributes&^free != want {
		return fmt.Errorf("attributes %s: want %s", p.Attributes, want)
	}
	if p.Scheme != tpmwire.AlgECDSA {
		return errors.New("it has no signature scheme, want ECDSA with SHA-256")
	}
	return nil
}

// verify checks the key and the attestation key's statement about it.
func (k Key) verify(ak *ecdsa.PublicKey, policyKey *policy.Key) (*ecdsa.PublicKey, error) {
	p, err := tpmwire.ParsePublic(k.Public)
	if err != nil {
		return nil, err
	}
	if k.Use == Service {
		err = checkService(p, policyKey)
	} else {
		err = checkReporting(p)
	}
	if err != nil {
		return nil, err
	}
	name, err := tpmwire.ParseCertify(k.Attest)
	if err != nil {
		return nil, fmt.Errorf("statement about it: %w", err)
	}
	if !bytes.Equal(name, p.Name) {
		return nil, errors.New("the attestation key's statement is about another key")
	}
	s, err := tpmwire.ParseSignature(k.Signature)
	if err != nil {
		return nil, fmt.Errorf("statement about it: %w", err)
	}
	if !s.Verify(ak, k.Attest) {
		return nil, errors.New("the statement about it is not signed by the attestation key")
	}
	return p.Key, nil
}

// checkReporting: usable in every boot state, so with its empty authorisation and
// nothing else.
func checkReporting(p tpmwire.Public) error {
	if err := checkAttributes(p, bornHere|tpmwire.UserWithAuth|tpmwire.Sign, tpmwire.NoDA); err != nil {
		return err
	}
	if len(p.Policy) > 0 {
		return fmt.Errorf("it has a policy, %.64x, want none", p.Policy)
	}
	return nil
}

// checkService: usable under the boot policy, and in no other way.
func checkService(p tpmwire.Public, key *policy.Key) error {
	if key == nil {
		return errors.New("no policy key is known here whose boot policy it could have")
	}
	if err := checkAttributes(p, bornHere|tpmwire.Sign, tpmwire.NoDA); err != nil {
		return err
	}
	if want := policy.BootPolicy(*key); !bytes.Equal(p.Policy, want[:]) {
		return fmt.Errorf("policy %x, want the boot policy %x of the policy key", p.Policy, want)
	}
	return nil
}
