// Package keys opens the keys that wardrelease signs with: private keys on disk
// (PEM of PKCS #8, RFC 5958, or SEC 1, RFC 5915) and keys that a TPM holds, named
// by their TSS2 PRIVATE KEY files.
package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"ward/cmd/wardrelease/disk"
	"ward/internal/device/tpm"
	"ward/internal/format/tss2"
)

// defaultTPM is the TPM of the machine that signs, behind the kernel's resource
// manager.
const defaultTPM = "/dev/tpmrm0"

// tpmKey is the PEM type of a key that a TPM holds.
const tpmKey = "TSS2 PRIVATE KEY"

// signTimeout bounds one signature; TPMs on boards sign in 200 to 600 ms.
const signTimeout = 30 * time.Second

// Opener opens the keys of one command. The TPM is opened when the first of its
// keys is.
type Opener struct {
	Device string
	chip   *tpm.TPM
}

// Register adds the flag that names the TPM.
func (o *Opener) Register(f *pflag.FlagSet) {
	f.StringVar(&o.Device, "tpm", defaultTPM, "TPM of keys that are TSS2 PRIVATE KEY files, `DEVICE` file or UNIX socket of a software TPM")
}

// Close closes the TPM.
func (o *Opener) Close() {
	if o.chip != nil {
		_ = o.chip.Close()
	}
}

// Signer opens the key of a file.
func (o *Opener) Signer(ctx context.Context, name string) (crypto.Signer, error) {
	text, err := disk.Read(name, disk.MaxKey)
	if err != nil {
		return nil, err
	}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("%s: no private key in it: make one with wardrelease keygen", name)
		}
		var key any
		switch block.Type {
		case tpmKey:
			signer, err := o.inTPM(ctx, text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			return signer, nil
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "EC PARAMETERS":
			continue
		default:
			return nil, fmt.Errorf("%s: PEM of type %q, want an unencrypted PRIVATE KEY or a %s", name, block.Type, tpmKey)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("%s: a key that cannot sign, want ECDSA P-256 or Ed25519", name)
	}
}

func (o *Opener) inTPM(ctx context.Context, text []byte) (crypto.Signer, error) {
	f, err := tss2.Parse(text)
	if err != nil {
		return nil, err
	}
	switch {
	case f.Kind != tss2.Loadable:
		return nil, errors.New("it holds a sealed secret, want a key")
	case f.Parent != tpm.HandleSRK:
		return nil, fmt.Errorf("its parent is 0x%08x, want the storage root key 0x%08x: make the key with wardrelease keygen --tpm", f.Parent, tpm.HandleSRK)
	case !f.EmptyAuth:
		return nil, errors.New("it has an authorisation value, want a key without one")
	}
	if err := o.open(); err != nil {
		return nil, err
	}
	return o.chip.BlobSigner(ctx, tpm.Blob{Public: f.Public, Private: f.Private}, nil, signTimeout)
}

func (o *Opener) open() error {
	if o.chip != nil {
		return nil
	}
	chip, err := tpm.Open(o.Device)
	if err != nil {
		return fmt.Errorf("open TPM %s: %w: name the one that holds the key with --tpm", o.Device, err)
	}
	o.chip = chip
	return nil
}

// noRoot says how to give a TPM the storage root key that keys lie beneath.
const noRoot = "the TPM has no storage root key at 0x81000001; make it as its owner: tpm2_createprimary -C o -G ecc256:aes128cfb -a 'restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda' -c srk.ctx, then tpm2_evictcontrol -C o -c srk.ctx 0x81000001"

// Make makes a P-256 key in the TPM, and returns the text of its file and its
// public part.
func (o *Opener) Make(ctx context.Context) ([]byte, *ecdsa.PublicKey, error) {
	if err := o.open(); err != nil {
		return nil, nil, err
	}
	blob, err := o.chip.CreateKey(ctx, nil)
	if errors.Is(err, tpm.ErrNoKey) {
		return nil, nil, fmt.Errorf("%w: %s", err, noRoot)
	}
	if err != nil {
		return nil, nil, err
	}
	key, err := blob.Key()
	if err != nil {
		return nil, nil, err
	}
	f := tss2.File{Kind: tss2.Loadable, EmptyAuth: true, Parent: tpm.HandleSRK, Public: blob.Public, Private: blob.Private}
	return f.PEM(), key.Public, nil
}

// MakeOnDisk makes a P-256 key, and returns its PKCS #8 text and its public part.
func MakeOnDisk() ([]byte, *ecdsa.PublicKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), &key.PublicKey, nil
}

// Public is the PEM of a public key.
func Public(key *ecdsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("write public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ReadPublic reads the one public key of a PEM file, as SubjectPublicKeyInfo.
func ReadPublic(name string) ([]byte, error) {
	text, err := disk.Read(name, disk.MaxKey)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s: want one PUBLIC KEY in PEM", name)
	}
	return block.Bytes, nil
}
