// Package policy computes the authorisation policies of Ward's keys, sealed
// secrets and counters without a TPM, and signs and verifies what a policy key
// approves (TPM 2.0 Library, Part 1, section 19.7, and Part 3, section 23:
// TPM2_PolicyPCR, TPM2_PolicyNV, TPM2_PolicyAuthorize and their kin). A build
// host signs with it what the device's TPM later checks; both come to the same
// digest or nothing opens.
package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"ward/internal/format/pcr"
)

// Command codes that enter a policy (Part 2, section 6.5.2).
const (
	codeNVIncrement     uint32 = 0x00000134
	codePolicyNV        uint32 = 0x00000149
	codePolicySecret    uint32 = 0x00000151
	codePolicyAuthorize uint32 = 0x0000016a
	codePolicyCommand   uint32 = 0x0000016c
	codePolicyOr        uint32 = 0x00000171
	codePolicyPCR       uint32 = 0x0000017f
)

// Comparisons of TPM2_PolicyNV (TPM_EO, Part 2, section 6.8).
const (
	UnsignedLess        uint16 = 0x0005
	UnsignedLessOrEqual uint16 = 0x0009
)

// selectBytes is the size of a register selection: 24 registers (PC Client
// Platform TPM Profile, section 4.6).
const selectBytes = pcr.Count / 8

var errNoRegisters = errors.New("no register")

// Digest is a policy digest with SHA-256. The zero value is the empty policy,
// with which every session begins.
type Digest [sha256.Size]byte

// extend is PolicyUpdate of Part 3, section 23.2, without its second step.
func (d Digest) extend(code uint32, arguments ...[]byte) Digest {
	h := sha256.New()
	h.Write(d[:])
	h.Write(binary.BigEndian.AppendUint32(nil, code))
	for _, a := range arguments {
		h.Write(a)
	}
	return Digest(h.Sum(nil))
}

// update is PolicyUpdate with a reference, hashed apart even when it is empty.
func (d Digest) update(code uint32, name, reference []byte) Digest {
	first := d.extend(code, name)
	return sha256.Sum256(append(first[:], reference...))
}

// PCR demands that registers of one bank hold these values (TPM2_PolicyPCR).
// No register, one above 23 or a value of another length than the bank's is an
// error.
func (d Digest) PCR(bank pcr.Algorithm, values pcr.Values) (Digest, error) {
	selection, composite, err := Composite(bank, values)
	if err != nil {
		return Digest{}, err
	}
	return d.extend(codePolicyPCR, selection, composite), nil
}

// Composite returns the TPML_PCR_SELECTION of the registers and the SHA-256 of
// their values in the order of their numbers, as TPM2_PolicyPCR takes them.
func Composite(bank pcr.Algorithm, values pcr.Values) (selection, composite []byte, err error) {
	if len(values) == 0 {
		return nil, nil, fmt.Errorf("compute PCR policy: %w", errNoRegisters)
	}
	var bits [selectBytes]byte
	h := sha256.New()
	for _, i := range registers(values) {
		if i < 0 || i >= pcr.Count || len(values[i]) != bank.Size() || bank.Size() == 0 {
			return nil, nil, fmt.Errorf("compute PCR policy: PCR %d with %d bytes of the %s bank", i, len(values[i]), bank)
		}
		bits[i/8] |= 1 << (i % 8)
		h.Write(values[i])
	}
	selection = binary.BigEndian.AppendUint32(nil, 1)
	selection = binary.BigEndian.AppendUint16(selection, uint16(bank))
	selection = append(append(selection, selectBytes), bits[:]...)
	return selection, h.Sum(nil), nil
}

func registers(values pcr.Values) []int {
	all := make([]int, 0, len(values))
	for i := range values {
		all = append(all, i)
	}
	slices.Sort(all)
	return all
}

// NV demands that an NV index compares so with an operand from its first byte
// on (TPM2_PolicyNV). The index is the first operand.
func (d Digest) NV(name, operand []byte, comparison uint16) Digest {
	h := sha256.New()
	h.Write(operand)
	h.Write(binary.BigEndian.AppendUint16(nil, 0)) // offset
	h.Write(binary.BigEndian.AppendUint16(nil, comparison))
	return d.extend(codePolicyNV, h.Sum(nil), name)
}

// Command demands that the session authorises this command alone
// (TPM2_PolicyCommandCode).
func (d Digest) Command(code uint32) Digest {
	return d.extend(codePolicyCommand, binary.BigEndian.AppendUint32(nil, code))
}

// Secret demands the authorisation value of another entity (TPM2_PolicySecret).
func (d Digest) Secret(name, reference []byte) Digest {
	return d.update(codePolicySecret, name, reference)
}

// Or takes any of the branches (TPM2_PolicyOR); what came before is forgotten,
// as it is one of them.
func Or(branches ...Digest) Digest {
	var all []byte
	for _, b := range branches {
		all = append(all, b[:]...)
	}
	return Digest{}.extend(codePolicyOr, all)
}

// Authorize takes every policy that the key of this name signs with this
// reference (TPM2_PolicyAuthorize); what came before is what was signed.
func Authorize(keyName, reference []byte) Digest {
	return Digest{}.update(codePolicyAuthorize, keyName, reference)
}
