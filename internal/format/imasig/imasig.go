// Package imasig verifies the signatures that entries of the kernel's IMA list
// carry against keys that are given: the signature attribute security.ima of the
// templates ima-sig and ima-sigv2 (signature_v2_hdr of integrity.h; versions 2 and
// 3, digsig_asymmetric.c and ima_appraise.c of the Linux kernel), the signature
// appended to modules, kernels and their like of ima-modsig (a CMS SignedData, RFC
// 5652, as ima_modsig.c and the kernel's sign-file have it), and the portable EVM
// signature of evm-sig (evm_crypto.c). A signature says that a key's holder vouched
// for the digest in the entry; whether the entry itself was measured is for its
// replay to say.
package imasig

import (
	"fmt"

	"ward/internal/format/ima"
)

// State says what is known of a signature.
type State uint8

// The states. Only Good vouches for anything.
const (
	None        State = iota // there is no signature
	Good                     // it is by the key that the result names
	Bad                      // it names a known key and is not by it
	UnknownKey               // it names a key that is not among those given
	Unsupported              // it is of a form that cannot be verified here
)

var stateNames = [...]string{"none", "good", "bad", "unknown-key", "unsupported"}

func (s State) String() string { return stateNames[min(int(s), len(stateNames)-1)] }

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Result is what is known of one signature.
type Result struct {
	State     State  `json:"state"`
	Key       string `json:"key,omitempty"`       // the name of the key that it is by, or should be
	KeyID     string `json:"keyId,omitempty"`     // as the signature names its key, in hexadecimal; untrusted
	Algorithm string `json:"algorithm,omitempty"` // of the digest that is signed, "sha256"
	Reason    string `json:"reason,omitempty"`    // why it is bad or unsupported, one line
}

// String is the result in a few words.
func (r Result) String() string {
	switch r.State {
	case Good:
		return "good, by " + r.Key
	case Bad:
		return fmt.Sprintf("BAD for key %s: %s", r.Key, r.Reason)
	case UnknownKey:
		return "by the unknown key " + r.KeyID
	case Unsupported:
		return "unsupported: " + r.Reason
	}
	return "none"
}

// Results are what is known of an entry's signatures.
type Results struct {
	File     Result `json:"file"`     // of the attribute security.ima
	Appended Result `json:"appended"` // of the signature at the file's end
	EVM      Result `json:"evm"`      // of the attribute security.evm
}

// All returns the three results with their names for people.
func (r Results) All() []struct {
	Name   string
	Result Result
} {
	return []struct {
		Name   string
		Result Result
	}{{"signature", r.File}, {"appended signature", r.Appended}, {"EVM signature", r.EVM}}
}

// Verify verifies the signatures of an entry against keys. It checks
//
//  1. the form of a signature: unknown types, versions and hash algorithms are
//     Unsupported, as is a digest of another algorithm than was signed;
//  2. that a key of the signature's name is given, else UnknownKey;
//  3. the signature with each key of that name, over the digest in the entry: Good
//     or Bad.
func Verify(e ima.Entry, keys Keys) Results {
	return Results{
		File:     verifyFile(e, keys),
		Appended: verifyAppended(e, keys),
		EVM:      verifyEVM(e, keys),
	}
}

func unsupported(format string, args ...any) Result {
	return Result{State: Unsupported, Reason: fmt.Sprintf(format, args...)}
}
