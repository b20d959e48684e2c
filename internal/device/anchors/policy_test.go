package anchors_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/device/anchors"
	"ward/internal/trust/policy"
)

// Verifies: SR-037
func TestPolicyKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	if _, err := anchors.PolicyKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "policy.pem")
	made := key(t, file)
	write(t, filepath.Join(dir, "README"), []byte("not a key"))
	want, err := policy.NewKey(&made.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := anchors.PolicyKey(dir); err != nil || string(got.Name) != string(want.Name) {
		t.Fatalf("%x, %v, want %x", got.Name, err, want.Name)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"empty": nil, "cut short": good[:len(good)/2], "two keys": slices.Concat(good, good), "text before it": append([]byte("key:\n"), good...),
		"another kind": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "another type": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"too large": append(slices.Clone(good), make([]byte, 17<<10)...),
	} {
		write(t, file, text)
		if _, err := anchors.PolicyKey(dir); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
	}
	write(t, file, good)
	key(t, filepath.Join(dir, "second.pem"))
	if _, err := anchors.PolicyKey(dir); err == nil || !strings.Contains(err.Error(), "2 *.pem") {
		t.Errorf("two files: %v", err)
	}
}
