package alloctest_test

import (
	"testing"

	"ward/internal/alloctest"
)

var kept []byte

func TestBytes(t *testing.T) {
	const much = 4 << 20
	if n := alloctest.Bytes(1<<20, func() { kept = make([]byte, much) }); n < much {
		t.Errorf("%d bytes for an allocation of %d", n, much)
	}
	runs := 0
	n := alloctest.Bytes(1<<20, func() {
		if runs++; runs == 1 {
			kept = make([]byte, much) // as if the fuzzer had
		}
	})
	if n > 1<<20 || runs != 2 {
		t.Errorf("%d bytes after %d runs: one that is above the bound is run again", n, runs)
	}
	runs = 0
	if alloctest.Bytes(1<<20, func() { runs++ }); runs != 1 {
		t.Errorf("%d runs of what keeps the bound", runs)
	}
}

// Small pieces count at once, and nothing else does.
func TestSmallPieces(t *testing.T) {
	const pieces, size, page = 100, 64, 4096
	n := alloctest.Bytes(pieces*size+page, func() {
		for range pieces {
			kept = make([]byte, size)
		}
	})
	if n < pieces*size || n > pieces*size+page {
		t.Errorf("%d bytes in %d pieces: %d counted", pieces*size, pieces, n)
	}
}
