// Package tss2 reads and writes "TSS2 PRIVATE KEY" files: a key or a sealed
// secret that lives outside of its TPM, encrypted by it, in the ASN.1 form that
// OpenSSL's TPM providers read (draft "ASN.1 Specification for TPM 2.0 Key
// Files", sections 3 and 4).
package tss2

import "errors"

// Kind says what a file holds.
type Kind int

const (
	Loadable Kind = iota + 1 // a key, 2.23.133.10.1.3
	Sealed                   // a sealed secret, 2.23.133.10.1.5
)

// File is the content of one file.
type File struct {
	Kind      Kind
	EmptyAuth bool   // used with its empty authorisation value
	Parent    uint32 // handle of the persistent parent
	Public    []byte // TPMT_PUBLIC
	Private   []byte // what a TPM2B_PRIVATE holds
}

// ErrFormat: not such a file.
var ErrFormat = errors.New("not a TSS2 PRIVATE KEY file")

// Parse reads a file in PEM. Anything else in it is refused.
func Parse(text []byte) (File, error) { return File{}, ErrFormat }

// PEM writes the file.
func (f File) PEM() []byte { return nil }
