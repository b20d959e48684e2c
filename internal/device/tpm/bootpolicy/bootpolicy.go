// Package bootpolicy opens sessions that satisfy what a policy key approved: the
// boot state of the device and the value of its rollback counter (TPM 2.0 Library
// Specification, Part 3, section 23: TPM2_PolicyNV, TPM2_PolicyPCR,
// TPM2_PolicyAuthorize). Package trust/policy says what is approved and how it is
// signed; here the TPM is made to agree.
package bootpolicy

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
	"ward/internal/device/tpm/nvram"
	"ward/internal/device/tpm/registers"
	"ward/internal/device/tpm/session"
	"ward/internal/format/pcr"
	"ward/internal/trust/policy"
)

var (
	// ErrBootState: no approval fits the registers of this boot.
	ErrBootState = errors.New("the boot state is none that the manufacturer approved")
	// ErrRollback: the approval is of a release that a newer one has locked out.
	ErrRollback = errors.New("the release is older than the rollback counter admits")
	// ErrPolicy: the object was made under another policy key.
	ErrPolicy = errors.New("the object is bound to another policy")
)

// Boot is what opens an object that is bound to the boot state: the policy key,
// and the boot states that it approves (from the release manifest).
type Boot struct {
	Key       policy.Key
	Approvals []policy.Approval
}

// Session opens a policy session that satisfies the key's boot policy
// (TPM2_PolicyNV, TPM2_PolicyPCR, TPM2_PolicyAuthorize). The TPM compares and
// checks; what is compared here first only serves a better error.
func (b Boot) Session(c *link.Channel, root session.Salt, options ...tpm2.AuthOption) (tpm2.Session, error) {
	approval, err := b.choose(c)
	if err != nil {
		return nil, err
	}
	approved, err := approval.Digest(b.Key)
	if err != nil {
		return nil, err
	}
	selection, composite, err := policy.Composite(approval.Bank, approval.Values)
	if err != nil {
		return nil, err
	}
	registers, err := tpm2.Unmarshal[tpm2.TPMLPCRSelection](selection)
	if err != nil {
		return nil, fmt.Errorf("encode registers: %w", err)
	}
	opened, err := session.Policy(c, root, options...)
	if err != nil {
		return nil, err
	}
	index := policy.RollbackCounter(b.Key)
	name := tpm2.NamedHandle{Handle: tpm2.TPMHandle(index.Handle), Name: tpm2.TPM2BName{Buffer: index.Name(true)}}
	if err := Compare(c, opened, name, approval.Operand(), policy.UnsignedLessOrEqual); err != nil {
		if errors.Is(err, tpm2.TPMRCPolicy) {
			return nil, fmt.Errorf("%w: at most %d: %w", ErrRollback, approval.AtMost, err)
		}
		return nil, err
	}
	_, err = tpm2.PolicyPCR{PolicySession: opened.Handle(), PcrDigest: tpm2.TPM2BDigest{Buffer: composite}, Pcrs: *registers}.Execute(c)
	if errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCPCRChanged) {
		return nil, fmt.Errorf("%w: %w", ErrBootState, err)
	}
	if err != nil {
		return nil, fmt.Errorf("bind to registers: %w", err)
	}
	return opened, Authorize(c, opened, b.Key, approved, approval.Reference(), approval.Signature)
}

// choose finds the approval that fits this boot; of several that of the newest
// release, which the rollback counter admits the longest.
func (b Boot) choose(c *link.Channel) (policy.Approval, error) {
	var differ []int
	for _, approval := range policy.NewestFirst(b.Approvals) {
		if approval.Bank.Size() == 0 || len(approval.Values) == 0 {
			continue
		}
		wanted := slices.Sorted(maps.Keys(approval.Values))
		values, err := registers.Read(c, approval.Bank, wanted)
		if err != nil {
			return policy.Approval{}, err
		}
		if fit, ok := policy.Choose([]policy.Approval{approval}, approval.Bank, values); ok {
			return fit, nil
		}
		if differ == nil {
			differ = differences(approval.Values, values)
		}
	}
	return policy.Approval{}, fmt.Errorf("%w: %d approvals, PCR %v differ from the first", ErrBootState, len(b.Approvals), differ)
}

func differences(want, got pcr.Values) []int {
	var all []int
	for i, v := range want {
		if !bytes.Equal(v, got[i]) {
			all = append(all, i)
		}
	}
	slices.Sort(all)
	return all
}

// Compare demands that a counter compares so with an operand (TPM2_PolicyNV).
// Everybody may read the counter.
func Compare(c *link.Channel, session tpm2.Session, index tpm2.NamedHandle, operand []byte, comparison uint16) error {
	_, err := tpm2.PolicyNV{
		AuthHandle: tpm2.AuthHandle{Handle: index.Handle, Name: index.Name, Auth: tpm2.PasswordAuth(nil)}, NVIndex: index,
		PolicySession: session.Handle(), OperandB: tpm2.TPM2BOperand{Buffer: operand}, Operation: tpm2.TPMEO(comparison),
	}.Execute(c)
	switch {
	case errors.Is(err, tpm2.TPMRCHandle):
		return fmt.Errorf("compare rollback counter: %w: %w", nvram.ErrNoIndex, err)
	case errors.Is(err, tpm2.TPMRCNVUninitialized):
		return fmt.Errorf("compare rollback counter: %w: %w", nvram.ErrNeverWritten, err)
	case err != nil:
		return fmt.Errorf("compare rollback counter: %w", err)
	}
	return nil
}

// Authorize replaces what the session has come to by the policy key's approval
// of it (TPM2_VerifySignature, TPM2_PolicyAuthorize).
func Authorize(c *link.Channel, session tpm2.Session, key policy.Key, approved policy.Digest, reference, signature []byte) error {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](key.Area)
	if err != nil {
		return fmt.Errorf("policy key: %w: %w", policy.ErrKey, err)
	}
	var numbers struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signature, &numbers); err != nil || len(rest) != 0 || numbers.R.Sign() <= 0 || numbers.S.Sign() <= 0 || numbers.R.BitLen() > 256 || numbers.S.BitLen() > 256 {
		return fmt.Errorf("%w: it is malformed", policy.ErrSignature)
	}
	// The owner hierarchy: a ticket of the null hierarchy ends with the boot and
	// PolicyAuthorize does not take it.
	loaded, err := tpm2.LoadExternal{InPublic: tpm2.New2B(*area), Hierarchy: tpm2.TPMRHOwner}.Execute(c)
	if err != nil {
		return fmt.Errorf("load policy key: %w", err)
	}
	defer c.Flush(loaded.ObjectHandle)
	verified, err := tpm2.VerifySignature{
		KeyHandle: loaded.ObjectHandle,
		Digest:    tpm2.TPM2BDigest{Buffer: policy.Message(approved, reference)},
		Signature: tpm2.TPMTSignature{
			SigAlg: tpm2.TPMAlgECDSA,
			Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
				Hash:       tpm2.TPMAlgSHA256,
				SignatureR: tpm2.TPM2BECCParameter{Buffer: numbers.R.FillBytes(make([]byte, 32))},
				SignatureS: tpm2.TPM2BECCParameter{Buffer: numbers.S.FillBytes(make([]byte, 32))},
			}),
		},
	}.Execute(c)
	if errors.Is(err, tpm2.TPMRCSignature) {
		return fmt.Errorf("%w: %w", policy.ErrSignature, err)
	}
	if err != nil {
		return fmt.Errorf("verify approval: %w", err)
	}
	_, err = tpm2.PolicyAuthorize{
		PolicySession: session.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: approved[:]},
		PolicyRef: tpm2.TPM2BDigest{Buffer: reference}, KeySign: tpm2.TPM2BName{Buffer: key.Name}, CheckTicket: verified.Validation,
	}.Execute(c)
	if errors.Is(err, tpm2.TPMRCValue) {
		return fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if err != nil {
		return fmt.Errorf("apply approval: %w", err)
	}
	return nil
}
