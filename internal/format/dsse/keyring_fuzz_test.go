package dsse_test

import (
	"bytes"
	"testing"

	"ward/internal/format/dsse"
)

// A text of keys is understood as a whole: it holds as many blocks as there are
// keys, or keys that stand twice, and a text that follows it adds its own.
func FuzzParseKeyring(f *testing.F) {
	good := publicPEM(f, newECDSA(f).Public())
	f.Add(good)
	f.Add(append(bytes.Clone(good), publicPEM(f, newEd25519(f).Public())...))
	f.Add(good[:len(good)-9])
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := dsse.ParseKeyring(text)
		if err != nil {
			return
		}
		if blocks := bytes.Count(text, []byte("-----BEGIN PUBLIC KEY-----")); k.Len() < 1 || k.Len() > blocks {
			t.Fatalf("%d keys of %d blocks", k.Len(), blocks)
		}
		if again, err := dsse.ParseKeyring(text, text); err != nil || again.Len() != k.Len() {
			t.Fatalf("the same text twice gives %v, %v", again, err)
		}
	})
}
