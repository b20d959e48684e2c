package register

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"ward/internal/fleet/files"
	"ward/internal/format/dsse"
	"ward/internal/trust/presence"
	"ward/internal/trust/quote"
)

const (
	// keySuffix ends the name of a file with a device's attestation key.
	keySuffix = ".ak.pem"
	// maxKeyFile bounds such a file, in bytes.
	maxKeyFile = 64 << 10
	// lookAgain is how long a key that was read is good for, so that a new file
	// counts without a restart.
	lookAgain = 10 * time.Second
)

// Key is a device's attestation key.
type Key struct {
	ID     string           `json:"id"`   // as dsse.KeyID names it
	DER    []byte           `json:"spki"` // SubjectPublicKeyInfo
	Public *ecdsa.PublicKey `json:"-"`
}

// UnmarshalJSON reads a key of the verifier's state file.
func (k *Key) UnmarshalJSON(b []byte) error {
	type plain Key
	var p plain
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	read, err := parseKey(p.DER)
	if err != nil {
		return err
	}
	if read.ID != p.ID {
		return fmt.Errorf("parse attestation key: it is %s and not %.64q", read.ID, p.ID)
	}
	*k = *read
	return nil
}

func parseKey(b []byte) (*Key, error) {
	public, err := quote.ParseKey(b)
	if err != nil {
		return nil, err
	}
	return newKey(public)
}

func newKey(public *ecdsa.PublicKey) (*Key, error) {
	id, err := dsse.KeyID(public)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode attestation key: %w", err)
	}
	return &Key{ID: id, DER: der, Public: public}, nil
}

type cached struct {
	key  *Key
	err  error
	when time.Time
}

func (r *Register) file(tenant, device string) string {
	return filepath.Join(r.dir, tenant, device+keySuffix)
}

// Lookup returns a device's key, nil when none is registered. A file that cannot
// be read is an error: what it was meant to be must not be guessed.
func (r *Register) Lookup(now time.Time, tenant, device string) (*Key, error) {
	if err := presence.CheckNames(tenant, device); err != nil {
		return nil, fmt.Errorf("look up device: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	file := r.file(tenant, device)
	if c, ok := r.cache[file]; ok && now.Sub(c.when) < lookAgain {
		return c.key, c.err
	}
	c := cached{when: now}
	c.key, c.err = readKey(file)
	if errors.Is(c.err, fs.ErrNotExist) {
		c.err = nil
	}
	r.cache[file] = c
	return c.key, c.err
}

func readKey(file string) (*Key, error) {
	b, err := files.Read(file, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read attestation key: %w", err)
	}
	k, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return k, nil
}

func writeKey(file string, k *Key) error {
	return files.Replace(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.DER}))
}

// KeyID names an attestation key as the register does.
func KeyID(public *ecdsa.PublicKey) (string, error) { return dsse.KeyID(public) }
