// Package factory is the lab's production line: the factory step of package
// provision on a virtual device's TPM. Certificates come later, from the registrar.
package factory

import (
	"context"
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
	"ward/internal/trust/policy"
)

// vaultFile holds the TPM's authorisations, in a device's folder: a production
// line has a vault for it.
const vaultFile = "vault.json"

// Identity does the factory step on a device's TPM and returns the content of the
// state partition and the public part of the attestation key, in PEM. The vault
// file goes into dir.
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
	ak, err := pki.PublicPEM(made.Keys.AK.Public)
	if err != nil {
		return nil, nil, err
	}
	files, err := content(state)
	if err != nil {
		return nil, nil, err
	}
	return files, ak, nil
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
