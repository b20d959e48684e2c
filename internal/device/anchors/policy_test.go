package anchors_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"ward/internal/device/anchors"
	"ward/internal/trust/policy"
)

// Verifies: SR-041
func TestPolicyKey(t *testing.T) {
	dir := t.TempDir()
	if _, err := anchors.PolicyKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a folder without keys gives %v", err)
	}
	file := filepath.Join(dir, "lab.pem")
	k := key(t, file)
	want, err := policy.NewKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	got, err := anchors.PolicyKey(dir)
	if err != nil || !bytes.Equal(got.Name, want.Name) {
		t.Fatalf("key %x, %v; want %x", got.Name, err, want.Name)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "not PEM": []byte("hello"), "two keys": append(good, good...), "endless": bytes.Repeat([]byte("x"), 1<<20),
		"on another curve": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"a certificate":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"damaged":          pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der[:20]}),
	} {
		write(t, file, bad)
		if k, err := anchors.PolicyKey(dir); err == nil || k.Name != nil {
			t.Errorf("a key that is %s: %x, %v", name, k.Name, err)
		}
	}
	write(t, file, good)
	key(t, filepath.Join(dir, "second.pem"))
	if _, err := anchors.PolicyKey(dir); err == nil {
		t.Error("of two keys one is taken")
	}
}
