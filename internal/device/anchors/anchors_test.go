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
	"strings"
	"testing"

	"ward/internal/device/anchors"
	"ward/internal/format/dsse"
)

func key(t *testing.T, file string) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return k
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Verifies: SR-006
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	if _, err := anchors.Keys(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a folder without keys gives %v", err)
	}
	a, b := key(t, filepath.Join(dir, "a.pem")), key(t, filepath.Join(dir, "b.pem"))
	write(t, filepath.Join(dir, "note.txt"), []byte("not a key"))
	ring, err := anchors.Keys(dir)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := dsse.Sign("text", []byte("hello"), a, b)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := ring.Open(envelope, "text", 2); err != nil || string(got) != "hello" {
		t.Fatalf("both keys: %q, %v", got, err)
	}
	for name, bad := range map[string][]byte{"not PEM": []byte("hello"), "empty": nil, "endless": bytes.Repeat([]byte("x"), 1<<20)} {
		write(t, filepath.Join(dir, "c.pem"), bad)
		if _, err := anchors.Keys(dir); err == nil || !strings.Contains(err.Error(), "c.pem") {
			t.Errorf("a key that is %s beside good ones: %v; want an error that names it", name, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "c.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "c.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := anchors.Keys(dir); err == nil {
		t.Error("a link to nowhere is passed over")
	}
}
