package checkpoint_test

import (
	"bytes"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/trust/checkpoint"
)

// Whatever stands in a report: no panic, bounded memory, the same after encoding and
// parsing, and only what the TPM signed is verified.
func FuzzParse(f *testing.F) {
	ak, reports := captured(f)
	for _, r := range reports {
		b, err := checkpoint.Encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b), r.Attest)
		for _, n := range []int{0, 10, len(b) / 2, len(b) - 1} {
			f.Add([]byte(b[:n]), r.Attest[:min(n, len(r.Attest))])
		}
	}
	f.Fuzz(func(t *testing.T, b, statement []byte) {
		const most = 256 << 10
		if got := alloctest.Bytes(most, func() { _, _ = checkpoint.Parse(b); _, _ = checkpoint.UntrustedValue(statement) }); got > most {
			t.Errorf("%d bytes were allocated for %d", got, len(b)+len(statement))
		}
		r, err := checkpoint.Parse(b)
		if err != nil {
			return
		}
		again, err := checkpoint.Encode(r)
		if err != nil {
			t.Fatalf("parsed, and not encoded: %v", err)
		}
		same, err := checkpoint.Parse(again)
		if err != nil || !bytes.Equal(same.Attest, r.Attest) || same.Value != r.Value || same.Head != r.Head {
			t.Fatalf("%+v, encoded and parsed: %+v, %v", r, same, err)
		}
		if v, err := checkpoint.Verify(r, source, place.Epoch, ak); err == nil && !signed(reports, v) {
			t.Fatalf("verified what no TPM signed: %+v", r)
		}
		r.Attest = statement
		if v, err := checkpoint.Verify(r, source, place.Epoch, ak); err == nil && !signed(reports, v) {
			t.Fatalf("verified what no TPM signed: %+v", r)
		}
	})
}

func signed(reports map[string]checkpoint.Report, v checkpoint.Verified) bool {
	r, ok := reports[string(v.Counter())]
	return ok && r.Value == v.Value() && r.Sequence == v.Place().Sequence && r.Head == v.Place().Head
}
