package provision

import (
	"bytes"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm"
	"ward/internal/format/tss2"
	"ward/internal/trust/policy"
)

// file is a blob as it is stored.
func file(kind tss2.Kind, b tpm.Blob) tss2.File {
	return tss2.File{Kind: kind, EmptyAuth: true, Parent: tpm.HandleSRK, Public: b.Public, Private: b.Private}
}

func keyFile(b tpm.Blob) tss2.File { return file(tss2.Loadable, b) }

// SecretFile is a sealed secret as it is stored.
func SecretFile(b tpm.Blob) tss2.File { return file(tss2.Sealed, b) }

func blobOf(f tss2.File) tpm.Blob { return tpm.Blob{Public: f.Public, Private: f.Private} }

// PolicyOf is the authorisation policy of a stored object; nil: it is used
// without one.
func PolicyOf(f tss2.File) ([]byte, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](f.Public)
	if err != nil {
		return nil, fmt.Errorf("read public area: %w", err)
	}
	if len(public.AuthPolicy.Buffer) == 0 {
		return nil, nil
	}
	return public.AuthPolicy.Buffer, nil
}

// hasPolicy refuses an object that is bound to another policy.
func hasPolicy(f tss2.File, want *policy.Digest) error {
	got, err := PolicyOf(f)
	if err != nil {
		return err
	}
	if want == nil && got == nil || want != nil && bytes.Equal(got, want[:]) {
		return nil
	}
	return fmt.Errorf("%w: it was made for another policy key", tpm.ErrPolicy)
}
