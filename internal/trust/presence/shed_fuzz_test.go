package presence_test

import (
	"testing"

	"ward/internal/format/chain"
	"ward/internal/trust/presence"
)

// A shed record that can be read is whole, and written and read again is the
// same.
func FuzzParseShed(f *testing.F) {
	good, err := presence.EncodeShed(presence.Shed{Epoch: 1, Sequence: 2, Hash: chain.Hash{3}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"epoch":1,"sequence":0}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := presence.ParseShed(b)
		if err != nil {
			return
		}
		text, err := presence.EncodeShed(s)
		if err != nil {
			t.Fatalf("read %q and cannot write it: %v", b, err)
		}
		if again, err := presence.ParseShed(text); err != nil || again != s {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	})
}
