// Package enrolled makes the identity of a virtual device that was enrolled at
// manufacture (IEEE 802.1AR), with the lab's own authority in the registrar's
// place.
package enrolled

import (
	"context"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
	"ward/internal/format/tss2"
	"ward/internal/lab/disk"
	"ward/internal/lab/pki"
	"ward/internal/trust/enrolment"
)

// State makes the identity as files of the state partition.
func State(ctx context.Context, t *tpm.TPM, keys *pki.Keys, srk tpm.Key, tenant, id string) (map[string]disk.File, error) {
	dir, err := os.MkdirTemp("", "identity")
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", id, err)
	}
	defer os.RemoveAll(dir)
	store := idstore.Open(dir)
	if err := store.SetDevice(idstore.Device{Tenant: tenant, Serial: id, SRK: srk.Area, Made: time.Now()}); err != nil {
		return nil, err
	}
	blob, err := t.CreateKey(ctx, nil)
	if err != nil {
		return nil, err
	}
	key, err := blob.Key()
	if err != nil {
		return nil, err
	}
	g, err := store.Add(enrolment.Reporting, tss2.File{Kind: tss2.Loadable, EmptyAuth: true, Parent: tpm.HandleSRK, Public: blob.Public, Private: blob.Private})
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
	if err := store.SetChain(g, chain); err != nil {
		return nil, err
	}
	files := make(map[string]disk.File)
	tree := os.DirFS(dir)
	err = fs.WalkDir(tree, idstore.Folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(tree, name)
		files[name] = disk.File{Data: b, Mode: 0o644}
		return err
	})
	return files, err
}
