// Package volume is what is known of a device's encrypted volumes: the sealed key
// that stands in a volume's own header as a token (LUKS2 On-Disk Format
// Specification 1.1, section 3.5), so that header and key cannot part; which
// headers are refused before any key is asked for; and the report of the early
// boot on which volumes opened, which wardd reads later.
package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/format/luks2"
	"ward/internal/format/tss2"
)

// TokenType is the type of Ward's token. Its member "ward-key" is a TSS2 PRIVATE
// KEY file with the sealed passphrase of the token's key slot, in base64.
const TokenType = "ward-tpm2"

// What a volume's header must say (cryptsetup's names).
const (
	Cipher  = "aes-xts-plain64"
	KeySize = 64 // bytes: two keys of 256 bits
)

// maxToken bounds a token, in bytes; Ward's own takes some 800.
const maxToken = 8 << 10

// ErrRefused: the header is one that Ward did not make: another cipher, a key
// slot without one, or no sealed key.
var ErrRefused = errors.New("not a volume of Ward's")

// Sealed is the sealed passphrase of a volume.
type Sealed struct {
	Public  []byte // TPMT_PUBLIC
	Private []byte // what a TPM2B_PRIVATE holds
	Policy  []byte // authorisation policy of the object; empty: sealed to the TPM alone
}

// wireToken is the token in the header's JSON.
type wireToken struct {
	Type     string   `json:"type"`
	Keyslots []string `json:"keyslots"`
	Key      []byte   `json:"ward-key"`
}

// Token writes the token of key slot 0 for a sealed passphrase.
func Token(f tss2.File) ([]byte, error) {
	if f.Kind != tss2.Sealed {
		return nil, errors.New("write token: the file holds no sealed secret")
	}
	return json.Marshal(wireToken{TokenType, []string{"0"}, f.PEM()})
}

// ParseToken reads a token. Errors wrap ErrRefused.
func ParseToken(text []byte) (Sealed, error) {
	if len(text) > maxToken {
		return Sealed{}, fmt.Errorf("%w: a token of %d bytes, at most %d are read", ErrRefused, len(text), maxToken)
	}
	var w wireToken
	if err := json.Unmarshal(text, &w); err != nil {
		return Sealed{}, fmt.Errorf("%w: parse token: %w", ErrRefused, err)
	}
	if w.Type != TokenType {
		return Sealed{}, fmt.Errorf("%w: a token of type %.32q", ErrRefused, w.Type)
	}
	f, err := tss2.Parse(w.Key)
	if err != nil {
		return Sealed{}, fmt.Errorf("%w: read sealed key: %w", ErrRefused, err)
	}
	if f.Kind != tss2.Sealed {
		return Sealed{}, fmt.Errorf("%w: its token holds no sealed secret", ErrRefused)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](f.Public)
	if err != nil {
		return Sealed{}, fmt.Errorf("%w: read sealed key: %w", ErrRefused, err)
	}
	if public.Type != tpm2.TPMAlgKeyedHash {
		return Sealed{}, fmt.Errorf("%w: its token holds no sealed secret", ErrRefused)
	}
	return Sealed{Public: f.Public, Private: f.Private, Policy: public.AuthPolicy.Buffer}, nil
}

// Key returns the sealed passphrase of a volume. It refuses, in this order:
//
//  1. a header with requirements, such as a change of its key that was begun;
//  2. other segments than one, encrypted with Cipher: a header whose cipher is
//     "null" would have the device write its data in the open;
//  3. no key slot, and one whose copy of the volume key is not encrypted with
//     Cipher or is of another size;
//  4. other tokens of Ward's type than one, of key slot 0.
//
// Errors wrap ErrRefused.
func Key(h luks2.Header) (Sealed, error) {
	a := h.Area
	if len(a.Requirements) > 0 {
		return Sealed{}, fmt.Errorf("%w: it demands %.64q", ErrRefused, a.Requirements[0])
	}
	if len(a.Segments) != 1 || a.Segments[0].Type != "crypt" || a.Segments[0].Encryption != Cipher || a.Segments[0].Integrity {
		return Sealed{}, fmt.Errorf("%w: %d segments, want one with cipher %s", ErrRefused, len(a.Segments), Cipher)
	}
	if len(a.Keyslots) == 0 {
		return Sealed{}, fmt.Errorf("%w: it has no key slot", ErrRefused)
	}
	for _, k := range a.Keyslots {
		if k.Type != "luks2" || k.Encryption != Cipher || k.KeySize != KeySize {
			return Sealed{}, fmt.Errorf("%w: key slot %d of type %.16q with cipher %.32q for %d bytes, want %s for %d", ErrRefused, k.Number, k.Type, k.Encryption, k.KeySize, Cipher, KeySize)
		}
	}
	ours := slices.DeleteFunc(slices.Clone(a.Tokens), func(t luks2.Token) bool { return t.Type != TokenType })
	if len(ours) != 1 || !slices.Equal(ours[0].Keyslots, []int{0}) {
		return Sealed{}, fmt.Errorf("%w: %d tokens of type %s, want one of key slot 0", ErrRefused, len(ours), TokenType)
	}
	return ParseToken(ours[0].JSON)
}
