package quote

import (
	"encoding/json"
	"os"
	"testing"

	"ward/internal/format/pcr"
)

func FuzzParseAttest(f *testing.F) {
	b, err := os.ReadFile("testdata/swtpm.json")
	if err != nil {
		f.Fatal(err)
	}
	var c struct{ Attest, Signature pcr.Digest }
	if err := json.Unmarshal(b, &c); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(c.Attest), []byte(c.Signature))
	for n := range c.Attest {
		f.Add([]byte(c.Attest[:n]), []byte(c.Signature[:min(n, len(c.Signature))]))
	}
	f.Fuzz(func(t *testing.T, attest, signature []byte) {
		a, err := parseAttest(attest)
		if err == nil && (len(a.extra) > maxExtra || len(a.digest) > maxDigest || len(a.registers) > pcr.Count) {
			t.Fatalf("out of bounds: %+v", a)
		}
		if _, err := Verify(Quote{attest, signature}, nil, [32]byte{}, pcr.SHA256, nil); err == nil {
			t.Fatal("a quote without a key was verified")
		}
	})
}
