// Package factory is the lab's production line: the factory step of package
// provision on a virtual device's TPM, with the lab's authority in the place of a
// registrar.
package factory

import (
	"context"
	"encoding/pem"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
	"ward/internal/lab/disk"
	"ward/internal/lab/golden"
	"ward/internal/lab/pki"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
)

// vaultFile holds the TPM's authorisations, in a device's folder: a production
// line has a vault for it.
const vaultFile = "vault.json"

// Identity does the factory step on a device's TPM, certifies the reporting key,
// and returns the content of the state partition and the public part of the
// attestation key, in PEM. The vault file goes into dir.
func Identity(ctx context.Context, chip *tpm.TPM, keys *pki.Keys, tenant, id, dir string) (map[string]disk.File, []byte, error) {
	state, err := os.MkdirTemp(dir, "state-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(state)
	key, err := policy.NewKey(&keys.Policy.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	store := idstore.Open(state)
	made, err := provision.Run(ctx, chip, store, provision.Options{
		Tenant: tenant, Serial: id, PolicyKey: &key, Base: golden.Base, Now: time.Now(),
		Keep: func(v provision.Vault) error {
			b, err := v.Encode()
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, vaultFile), b, 0o600)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	cert, err := certify(store, made.Uses[enrolment.Reporting], keys, tenant, id)
	if err != nil {
		return nil, nil, err
	}
	ak, err := pki.PublicPEM(made.Keys.AK.Public)
	if err != nil {
		return nil, nil, err
	}
	files, err := content(state)
	if err != nil {
		return nil, nil, err
	}
	files["identity/reporting.crt"] = disk.File{Data: cert, Mode: 0o644} // where wardd reads it
	return files, ak, nil
}

// certify has the lab's authority certify a key, and returns the chain in PEM.
func certify(store *idstore.Store, g idstore.Generation, keys *pki.Keys, tenant, id string) ([]byte, error) {
	key, err := tpm.Blob{Public: g.Key.Public}.Key()
	if err != nil {
		return nil, err
	}
	text, err := keys.IssueDevice(key.Public, tenant, id)
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		chain = append(chain, block.Bytes)
	}
	return text, store.SetChain(g, chain)
}

// content reads the files of a folder.
func content(dir string) (map[string]disk.File, error) {
	files := make(map[string]disk.File)
	tree := os.DirFS(dir)
	err := fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		b, err := fs.ReadFile(tree, name)
		files[path.Clean(name)] = disk.File{Data: b, Mode: info.Mode().Perm()}
		return err
	})
	return files, err
}
