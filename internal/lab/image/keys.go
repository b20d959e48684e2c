package image

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"ward/internal/lab/disk"
	"ward/internal/lab/efistore"
)

// Keys are the lab's Secure Boot keys: the platform key, the key exchange key
// and the one signature key, which signs nothing but this lab's kernel images.
// They are random, made once, and admit nothing outside the lab.
type Keys struct {
	Dir string // holds PK, KEK and db, each as .key and .crt in PEM
}

// labOwner marks the lab's entries in the signature lists.
var labOwner = efistore.MustGUID("0a6c1f4e-7f52-4a39-9d0e-5741524c4b45")

var keyNames = []string{"PK", "KEK", "db"}

// LoadKeys returns the keys in dir and makes those that are missing.
func LoadKeys(dir string) (Keys, error) {
	k := Keys{Dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return k, fmt.Errorf("make key directory: %w", err)
	}
	for _, name := range keyNames {
		_, err := os.Stat(k.cert(name))
		if errors.Is(err, fs.ErrNotExist) {
			err = k.make(name)
		}
		if err != nil {
			return k, fmt.Errorf("make Secure Boot key %s: %w", name, err)
		}
	}
	return k, nil
}

func (k Keys) key(name string) string  { return filepath.Join(k.Dir, name+".key") }
func (k Keys) cert(name string) string { return filepath.Join(k.Dir, name+".crt") }

// make writes an RSA-2048 key, the kind that UEFI requires, and a certificate.
func (k Keys) make(name string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Ward lab " + name},
		NotBefore:             disk.Epoch,
		NotAfter:              disk.Epoch.AddDate(20, 0, 0),
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	if err := writeFile(k.key(name), private, 0o600); err != nil {
		return err
	}
	// The certificate last: its presence says that the pair is whole.
	return writeFile(k.cert(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// certDER returns a certificate's bytes.
func (k Keys) certDER(name string) ([]byte, error) {
	text, err := os.ReadFile(k.cert(name))
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("read certificate %s: no PEM certificate; delete the folder to make new keys", k.cert(name))
	}
	return block.Bytes, nil
}

// VariableStore puts the keys into a copy of the firmware's empty store. dbx
// holds one entry that forbids nothing, the digest of no bytes, because some
// firmware treats a missing dbx in its own way.
func (k Keys) VariableStore(template []byte) ([]byte, error) {
	written := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	var vars []efistore.Variable
	for _, v := range []struct {
		name   string
		vendor efistore.GUID
	}{
		{"db", efistore.ImageSecurity},
		{"KEK", efistore.GlobalVariable},
		{"PK", efistore.GlobalVariable},
	} {
		der, err := k.certDER(v.name)
		if err != nil {
			return nil, err
		}
		list, err := efistore.SignatureList(efistore.CertX509, labOwner, der)
		if err != nil {
			return nil, err
		}
		vars = append(vars, efistore.Variable{Name: v.name, Vendor: v.vendor, Time: written, Data: list})
	}
	none := sha256.Sum256(nil)
	list, err := efistore.SignatureList(efistore.CertSHA256, labOwner, none[:])
	if err != nil {
		return nil, err
	}
	vars = append(vars, efistore.Variable{Name: "dbx", Vendor: efistore.ImageSecurity, Time: written, Data: list})
	return efistore.Write(template, vars)
}
