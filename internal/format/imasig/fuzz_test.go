package imasig_test

import (
	"path/filepath"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/format/ima"
	"ward/internal/format/imasig"
	"ward/internal/format/pcr"
)

// allocationFactor and allocationFloor bound what verifying may allocate: a copy or
// two of the signature, and the arithmetic of one verification with each of the
// keys.
const allocationFactor, allocationFloor = 64, 1 << 20

func seeds(f *testing.F, pattern string) {
	f.Helper()
	names, err := filepath.Glob("testdata/" + pattern)
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range names {
		f.Add(read(f, filepath.Base(name)))
	}
}

// No bytes verify over a file that nobody signed.
//
// Verifies: SR-004
func FuzzVerify(f *testing.F) {
	seeds(f, "*.sig")
	seeds(f, "*.p7")
	all := keys(f, "rsa.pem", "p256.pem", "p384.pem", "rsa-bare.pem")
	sha256 := payload(f, pcr.SHA256)
	other := pcr.SHA256.Sum([]byte("another file"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range []ima.Entry{signed(t, "sha256", other, b), modsig(t, "sha256", other, b), evm(t, b, 1)} {
			r := imasig.Verify(e, all)
			most := uint64(allocationFloor + allocationFactor*len(b))
			if used := alloctest.Bytes(most, func() { imasig.Verify(e, all) }); used > most {
				t.Errorf("%d bytes of input, %d allocated, at most %d", len(b), used, most)
			}
			for _, one := range r.All() {
				if one.Result.State == imasig.Good {
					t.Errorf("%s over another file: %+v", one.Name, one.Result)
				}
			}
		}
		imasig.Verify(signed(t, "sha256", sha256, b), all)
		imasig.Verify(verity(t, "ima-sigv2", b), all)
	})
}

func FuzzParseKeys(f *testing.F) {
	seeds(f, "*.pem")
	seeds(f, "*.der")
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := imasig.ParseKeys(b)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if k.Name == "" {
				t.Error("a key without a name")
			}
		}
	})
}
