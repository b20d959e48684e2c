package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"ward/internal/format/pcr"
)

// References keep what one key approves for one purpose from being taken for
// another (policyRef of TPM2_PolicyAuthorize). They are part of the policies of
// keys in the field and never change.
const (
	bootReference  = "ward boot state v1"
	raiseReference = "ward rollback counter v1"
)

// ErrSignature: the approval is not signed by the policy key.
var ErrSignature = errors.New("the signature is not by the policy key")

// Approval is one boot state that the policy key approves, for devices whose
// rollback counter has not passed a value: the policy is "PolicyNV(counter <=
// AtMost), then PolicyPCR(Values)".
type Approval struct {
	Bank      pcr.Algorithm `json:"bank"`
	Values    pcr.Values    `json:"pcrs"`
	AtMost    uint64        `json:"counterAtMost"`
	Signature []byte        `json:"signature,omitempty"` // ASN.1, ECDSA P-256
}

// BootPolicy is the authorisation policy of keys and sealed secrets that work in
// the boot states that the key approves. It does not change with a release.
func BootPolicy(key Key) Digest { return Authorize(key.Name, []byte(bootReference)) }

// Digest is the policy that the approval's signature stands for.
func (a Approval) Digest(key Key) (Digest, error) {
	return Digest{}.NV(RollbackCounter(key).Name(true), number(a.AtMost), UnsignedLessOrEqual).PCR(a.Bank, a.Values)
}

// Reference is the policyRef that is signed with the digest.
func (Approval) Reference() []byte { return []byte(bootReference) }

// Operand is what the counter is compared with, as TPM2_PolicyNV takes it.
func (a Approval) Operand() []byte { return number(a.AtMost) }

// Sign returns the approval with the signature of the policy key. The signer
// may be a file, a token or a TPM.
func (a Approval) Sign(random io.Reader, signer crypto.Signer) (Approval, error) {
	key, err := signerKey(signer)
	if err != nil {
		return Approval{}, fmt.Errorf("sign approval: %w", err)
	}
	digest, err := a.Digest(key)
	if err != nil {
		return Approval{}, fmt.Errorf("sign approval: %w", err)
	}
	if a.Signature, err = sign(random, signer, digest, a.Reference()); err != nil {
		return Approval{}, fmt.Errorf("sign approval: %w", err)
	}
	return a, nil
}

// Verify checks the approval's signature. Errors wrap ErrSignature or say what
// cannot be computed.
func (a Approval) Verify(key Key) error {
	digest, err := a.Digest(key)
	if err != nil {
		return fmt.Errorf("verify approval: %w", err)
	}
	if !verify(key, digest, a.Reference(), a.Signature) {
		return fmt.Errorf("verify approval: %w", ErrSignature)
	}
	return nil
}

// Choose returns the approval that fits the registers; of several that of the
// newest release, which the rollback counter admits the longest. Registers that
// are not given fit nothing.
func Choose(approvals []Approval, bank pcr.Algorithm, values pcr.Values) (Approval, bool) {
	for _, a := range NewestFirst(approvals) {
		fits := a.Bank == bank && len(a.Values) > 0
		for i, v := range a.Values {
			fits = fits && len(v) > 0 && bytes.Equal(v, values[i])
		}
		if fits {
			return a, true
		}
	}
	return Approval{}, false
}

// NewestFirst sorts approvals by the release that they are of, the newest first.
func NewestFirst(approvals []Approval) []Approval {
	sorted := slices.Clone(approvals)
	sort.SliceStable(sorted, func(x, y int) bool { return sorted[x].AtMost > sorted[y].AtMost })
	return sorted
}

// Raise is the policy key's permission to step the rollback counter up to a
// value and no further: "PolicyNV(counter < To), then PolicyCommandCode
// (NV_Increment)".
type Raise struct {
	To        uint64 `json:"to"`
	Signature []byte `json:"signature,omitempty"` // ASN.1, ECDSA P-256
}

// Digest is the policy that the permission's signature stands for.
func (r Raise) Digest(key Key) Digest {
	return Digest{}.NV(RollbackCounter(key).Name(true), number(r.To), UnsignedLess).Command(codeNVIncrement)
}

// Reference is the policyRef that is signed with the digest.
func (Raise) Reference() []byte { return []byte(raiseReference) }

// Operand is what the counter is compared with, as TPM2_PolicyNV takes it.
func (r Raise) Operand() []byte { return number(r.To) }

// Sign returns the permission with the signature of the policy key.
func (r Raise) Sign(random io.Reader, signer crypto.Signer) (Raise, error) {
	key, err := signerKey(signer)
	if err == nil {
		r.Signature, err = sign(random, signer, r.Digest(key), r.Reference())
	}
	if err != nil {
		return Raise{}, fmt.Errorf("sign permission to raise the counter: %w", err)
	}
	return r, nil
}

// Verify checks the permission's signature. Errors wrap ErrSignature.
func (r Raise) Verify(key Key) error {
	if !verify(key, r.Digest(key), r.Reference(), r.Signature) {
		return fmt.Errorf("verify permission to raise the counter: %w", ErrSignature)
	}
	return nil
}

// Message is the digest that the policy key signs: aHash of
// TPM2_PolicyAuthorize (Part 3, section 23.16).
func Message(approved Digest, reference []byte) []byte {
	sum := sha256.Sum256(append(approved[:], reference...))
	return sum[:]
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func signerKey(signer crypto.Signer) (Key, error) {
	public, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return Key{}, fmt.Errorf("%w: want a key on the curve P-256", ErrKey)
	}
	return NewKey(public)
}

func sign(random io.Reader, signer crypto.Signer, approved Digest, reference []byte) ([]byte, error) {
	return signer.Sign(random, Message(approved, reference), crypto.SHA256)
}

func verify(key Key, approved Digest, reference, signature []byte) bool {
	return ecdsa.VerifyASN1(key.Public, Message(approved, reference), signature)
}
