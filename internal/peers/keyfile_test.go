package peers

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	keyfile "github.com/foxboron/go-tpm-keyfiles"
	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm"
	"ward/internal/format/tss2"
)

// Everything that this module asks of Ward about key files stands in this file.

// go-tpm-keyfiles reads what Ward writes, and the other way round; what Ward refuses
// of its files it names.
//
// Verifies: SR-033
func TestKeyFiles(t *testing.T) {
	socket := StartTPM(t)
	chip := openTPM(t, socket)
	if _, err := chip.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}

	blob, err := chip.CreateKey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ours := tss2.File{Kind: tss2.Loadable, EmptyAuth: true, Parent: tpm.HandleSRK, Public: blob.Public, Private: blob.Private}.PEM()
	read, err := keyfile.Decode(ours)
	if err != nil {
		t.Fatalf("go-tpm-keyfiles cannot read Ward's file: %v", err)
	}
	if !read.Keytype.Equal(keyfile.OIDLoadableKey) || !read.EmptyAuth || read.Parent != tpm2.TPMHandle(tpm.HandleSRK) || !bytes.Equal(read.Bytes(), ours) {
		t.Errorf("go-tpm-keyfiles reads %+v and writes %s", read, read.Bytes())
	}
	key, err := blob.Key()
	if err != nil {
		t.Fatal(err)
	}
	if public, err := read.PublicKey(); err != nil || !key.Public.Equal(public) {
		t.Errorf("go-tpm-keyfiles reads the key %v, %v", public, err)
	}

	made := keyfile.NewTPMKey(keyfile.OIDLoadableKey, read.Pubkey, read.Privkey, keyfile.WithParent(tpm2.TPMHandle(tpm.HandleSRK)))
	f, err := tss2.Parse(made.Bytes())
	if err != nil || f.Kind != tss2.Loadable || f.Parent != tpm.HandleSRK || !bytes.Equal(f.PEM(), made.Bytes()) {
		t.Fatalf("Ward reads %+v of go-tpm-keyfiles' file, %v", f, err)
	}
	signer, err := chip.BlobSigner(t.Context(), tpm.Blob{Public: f.Public, Private: f.Private}, nil, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("signed"))
	if signature, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil || !ecdsa.VerifyASN1(key.Public, digest[:], signature) {
		t.Errorf("Ward signs with a key from go-tpm-keyfiles' file: %x, %v", signature, err)
	}

	for _, c := range []struct {
		name   string
		option keyfile.TPMKeyOption
		want   string
	}{
		{"a parent that is derived anew", keyfile.WithParent(tpm2.TPMRHOwner), "want the handle of a persistent object"},
		{"a description", keyfile.WithDescription("pump"), "it holds a description"},
		{"a policy", keyfile.WithPolicy([]*keyfile.TPMPolicy{{CommandCode: 0x17f, CommandPolicy: []byte{1}}}), "it holds a policy"},
		{"a secret", keyfile.WithSecret(tpm2.TPM2BEncryptedSecret{Buffer: []byte{1}}), "it holds a secret"},
		{"another type", keyfile.WithKeytype(keyfile.OIDImportableKey), "yet to be imported"},
	} {
		other, err := keyfile.Decode(ours)
		if err != nil {
			t.Fatal(err)
		}
		other.AddOptions(c.option)
		if _, err := tss2.Parse(other.Bytes()); !errors.Is(err, tss2.ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrFormat with %q", c.name, err, c.want)
		}
	}
}

// A secret that Ward sealed is a file that go-tpm-keyfiles reads and writes again.
func TestSealedFiles(t *testing.T) {
	chip := openTPM(t, StartTPM(t))
	if _, err := chip.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	blob, err := chip.Seal(t.Context(), []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	text := tss2.File{Kind: tss2.Sealed, EmptyAuth: true, Parent: tpm.HandleSRK, Public: blob.Public, Private: blob.Private}.PEM()
	read, err := keyfile.Decode(text)
	if err != nil || !read.Keytype.Equal(keyfile.OIDSealedKey) || !bytes.Equal(read.Bytes(), text) {
		t.Fatalf("%+v, %v", read, err)
	}
	f, err := tss2.Parse(read.Bytes())
	if err != nil || f.Kind != tss2.Sealed {
		t.Fatalf("%+v, %v", f, err)
	}
	if secret, err := chip.Unseal(t.Context(), tpm.Blob{Public: f.Public, Private: f.Private}, nil); err != nil || string(secret) != "secret" {
		t.Errorf("opened %q, %v", secret, err)
	}
}
