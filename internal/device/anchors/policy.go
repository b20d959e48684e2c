package anchors

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"path/filepath"

	"ward/internal/trust/policy"
)

// PolicyKey reads the policy key: the one *.pem of a folder (policy, beneath the
// trust anchors), with one P-256 key. No file gives fs.ErrNotExist; more than one
// key is an error, because bound objects name one and which was meant must not be
// guessed.
func PolicyKey(dir string) (policy.Key, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return policy.Key{}, fmt.Errorf("find policy key: %w", err)
	}
	if len(names) == 0 {
		return policy.Key{}, fmt.Errorf("find policy key: no *.pem in %s: %w", dir, fs.ErrNotExist)
	}
	if len(names) > 1 {
		return policy.Key{}, fmt.Errorf("find policy key: %d *.pem in %s: leave the one that the devices were manufactured with", len(names), dir)
	}
	return ReadPolicyKey(names[0])
}

// ReadPolicyKey reads a policy key from a file: one P-256 key in PEM and nothing
// else.
func ReadPolicyKey(file string) (policy.Key, error) {
	text, err := Read(file, maxKey)
	if err != nil {
		return policy.Key{}, fmt.Errorf("read policy key %s: %w", file, err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN ")) || len(bytes.TrimSpace(rest)) > 0 {
		return policy.Key{}, fmt.Errorf("read policy key %s: want one PUBLIC KEY in PEM and nothing else", file)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return policy.Key{}, fmt.Errorf("read policy key %s: %w", file, err)
	}
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return policy.Key{}, fmt.Errorf("read policy key %s: %w: want a key on the curve P-256", file, policy.ErrKey)
	}
	key, err := policy.NewKey(ec)
	if err != nil {
		return policy.Key{}, fmt.Errorf("read policy key %s: %w", file, err)
	}
	return key, nil
}
