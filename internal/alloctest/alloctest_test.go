package alloctest_test

import (
	"testing"

	"ward/internal/alloctest"
)

var kept []byte

// Small pieces count at once, and nothing else does.
func TestBytes(t *testing.T) {
	const pieces, size = 100, 64
	before := alloctest.Bytes()
	for range pieces {
		kept = make([]byte, size)
	}
	if used := alloctest.Bytes() - before; used < pieces*size || used > pieces*size+4096 {
		t.Errorf("%d bytes in %d pieces: %d counted", pieces*size, pieces, used)
	}
	if used := alloctest.Bytes(); alloctest.Bytes()-used > 4096 {
		t.Error("asking costs more than a page")
	}
}
