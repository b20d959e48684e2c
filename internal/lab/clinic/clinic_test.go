package clinic_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"ward/internal/lab/clinic"
	"ward/internal/lab/pki"
)

func TestVerify(t *testing.T) {
	keys, err := pki.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := keys.IssueDevice(key.Public(), "lab", "pump-1")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("hello"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	good := clinic.Answer{Chain: string(chain), Signature: signature}
	const name = "urn:ward:lab:pump-1"
	if leaf, err := good.Verify(keys.Fleet.Cert, name, "hello"); err != nil || leaf.Subject.CommonName != "pump-1" {
		t.Fatalf("%v, %v", leaf, err)
	}
	for what, try := range map[string]func() error{
		"another text":      func() error { _, err := good.Verify(keys.Fleet.Cert, name, "hallo"); return err },
		"another name":      func() error { _, err := good.Verify(keys.Fleet.Cert, name+":service", "hello"); return err },
		"another authority": func() error { _, err := good.Verify(keys.Foreign.Cert, name, "hello"); return err },
		"no certificate": func() error {
			_, err := clinic.Answer{Signature: signature}.Verify(keys.Fleet.Cert, name, "hello")
			return err
		},
		"a refusal": func() error {
			_, err := clinic.Answer{Chain: string(chain), Signature: signature, Refused: "no"}.Verify(keys.Fleet.Cert, name, "hello")
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
