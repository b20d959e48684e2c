package crash

import (
	"encoding/pem"
	"testing"
)

// derOf are the certificates of a PEM text.
func derOf(t testing.TB, text []byte) (all [][]byte) {
	t.Helper()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		all = append(all, block.Bytes)
	}
	if len(all) == 0 {
		t.Fatal("no certificate")
	}
	return all
}
