// Package quote verifies what a TPM says of its registers (TPM2_Quote, TPM 2.0
// Library, Part 3, section 18.4; TPMS_ATTEST, Part 2, section 10.12.12). It is
// the only maker of Verified, the registers that an attestation key vouches for.
package quote

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/format/tpmwire"
)

// What can be wrong with a quote.
var (
	ErrMalformed = errors.New("not a TPM quote")
	ErrSignature = errors.New("the quote is not signed by this attestation key")
	ErrNonce     = errors.New("the quote answers another question")
	ErrSelection = errors.New("the quote is about other registers")
	ErrRegisters = errors.New("the registers are not those that were quoted")
)

// Quote is a quote as the TPM gives it.
type Quote struct {
	Attest    []byte // TPMS_ATTEST, the bytes that are signed
	Signature []byte // TPMT_SIGNATURE
}

// Clock is the TPM's clock information (Part 2, section 10.11.6). For a key that
// is not of the endorsement hierarchy, as Ward's, the TPM adds to both counts and
// to its firmware version a number that only depends on the key (Part 1, section
// 36.7): compare them with those of the same key, for equality.
type Clock struct {
	Milliseconds uint64 `json:"milliseconds"` // of operation since the TPM was cleared
	ResetCount   uint32 `json:"resetCount"`   // cold starts; another one is another boot
	RestartCount uint32 `json:"restartCount"` // resumes since the last cold start
	Safe         bool   `json:"safe"`         // the clock was never set back
}

// Verified is a quote that was verified. Its zero value vouches for nothing.
type Verified struct {
	bank     pcr.Algorithm
	values   pcr.Values
	clock    Clock
	firmware uint64
}

// Bank is the bank of the registers.
func (v Verified) Bank() pcr.Algorithm { return v.bank }

// Values are the registers that were quoted; none for the zero value.
func (v Verified) Values() pcr.Values { return maps.Clone(v.values) }

// Clock is the TPM's clock at the moment of the quote.
func (v Verified) Clock() Clock { return v.clock }

// Firmware is the TPM's firmware version, in its maker's form.
func (v Verified) Firmware() uint64 { return v.firmware }

// domain keeps a quote's qualifying data apart from every other signature of
// the attestation key.
const domain = "ward quote v2\n"

// Qualifying is the qualifying data of a quote: it ties the quote to one
// question, to the state of the device's record and to what the device says about
// itself beside its registers (evidence.Claims), so that nobody between device and
// reader can change it:
// SHA-256("ward quote v2\n" ‖ nonce length in 4 bytes ‖ nonce ‖ chain head ‖ claims).
func Qualifying(nonce []byte, head chain.Hash, claims [32]byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(domain))
	n := len(nonce)
	h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	h.Write(nonce)
	h.Write(head[:])
	h.Write(claims[:])
	return [32]byte(h.Sum(nil))
}

// Verify checks a quote. It checks, in this order:
//
//  1. the signature is ECDSA on P-256 with SHA-256, by the attestation key,
//     over exactly these bytes;
//  2. the bytes are one attestation that a TPM made itself, of the type quote,
//     with nothing behind it;
//  3. its qualifying data is what was asked;
//  4. it selects one bank, the given one, and exactly the given registers;
//  5. its digest is the hash over the values, in the order of their numbers.
func Verify(q Quote, ak *ecdsa.PublicKey, qualifying [32]byte, bank pcr.Algorithm, values pcr.Values) (Verified, error) {
	if err := checkSignature(q, ak); err != nil {
		return Verified{}, fmt.Errorf("verify quote: %w", err)
	}
	a, err := parseAttest(q.Attest)
	if err != nil {
		return Verified{}, fmt.Errorf("verify quote: %w", err)
	}
	if !bytes.Equal(a.extra, qualifying[:]) {
		return Verified{}, fmt.Errorf("verify quote: %w", ErrNonce)
	}
	if err := checkValues(a, bank, values); err != nil {
		return Verified{}, fmt.Errorf("verify quote: %w", err)
	}
	return Verified{bank: bank, values: maps.Clone(values), clock: a.clock, firmware: a.firmware}, nil
}

// Untrusted reads what a quote claims to be about, before anything is verified:
// its bank and registers, by which the values beside it are chosen.
func Untrusted(q Quote) (bank pcr.Algorithm, registers []int, err error) {
	a, err := parseAttest(q.Attest)
	if err != nil {
		return 0, nil, fmt.Errorf("parse quote: %w", err)
	}
	return a.bank, a.registers, nil
}

func checkSignature(q Quote, ak *ecdsa.PublicKey) error {
	if ak == nil || ak.Curve != elliptic.P256() {
		return fmt.Errorf("%w: the key is not on the curve P-256", ErrSignature)
	}
	s, err := tpmwire.ParseSignature(q.Signature)
	if errors.Is(err, tpmwire.ErrAlgorithm) {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !s.Verify(ak, q.Attest) {
		return ErrSignature
	}
	return nil
}

func checkValues(a attest, bank pcr.Algorithm, values pcr.Values) error {
	if a.bank != bank {
		return fmt.Errorf("%w: of bank %s, want %s", ErrSelection, a.bank, bank)
	}
	numbers := slices.Sorted(maps.Keys(values))
	if len(numbers) == 0 || !slices.Equal(a.registers, numbers) {
		return fmt.Errorf("%w: PCR %v, want %v", ErrSelection, a.registers, numbers)
	}
	h := sha256.New()
	for _, n := range numbers {
		if len(values[n]) != bank.Size() {
			return fmt.Errorf("%w: PCR %d has %d bytes, %s has %d", ErrRegisters, n, len(values[n]), bank, bank.Size())
		}
		h.Write(values[n])
	}
	if !bytes.Equal(h.Sum(nil), a.digest) {
		return ErrRegisters
	}
	return nil
}
