package anchors

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"path/filepath"

	"ward/internal/trust/policy"
)

// PolicyKey reads the policy key of the device: the only *.pem file of a folder,
// with one public key on the curve P-256. A folder without any gives
// fs.ErrNotExist; two would leave open which one the device's keys are bound to.
func PolicyKey(dir string) (policy.Key, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return policy.Key{}, fmt.Errorf("list policy keys: %w", err)
	}
	if len(names) == 0 {
		return policy.Key{}, fmt.Errorf("list policy keys: no *.pem in %s: %w", dir, fs.ErrNotExist)
	}
	if len(names) > 1 {
		return policy.Key{}, fmt.Errorf("list policy keys: %d files in %s, want one", len(names), dir)
	}
	text, err := Read(names[0], maxKey)
	if err != nil {
		return policy.Key{}, fmt.Errorf("read policy key %s: %w", names[0], err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		return policy.Key{}, fmt.Errorf("read policy key %s: want one PUBLIC KEY in PEM", names[0])
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return policy.Key{}, fmt.Errorf("read policy key %s: %w", names[0], err)
	}
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return policy.Key{}, fmt.Errorf("read policy key %s: want a key on the curve P-256", names[0])
	}
	key, err := policy.NewKey(ec)
	if err != nil {
		return policy.Key{}, fmt.Errorf("read policy key %s: %w", names[0], err)
	}
	return key, nil
}
