package fsverity_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/format/fsverity"
)

func digest(b []byte) string {
	var h fsverity.Hash
	h.Write(b)
	sum := h.Sum()
	return hex.EncodeToString(sum[:])
}

// content is bytes that differ from block to block.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>12) ^ byte(i>>20) ^ byte(i)
	}
	return b
}

// The digests of testdata are those that "fsverity digest" of fsverity-utils
// gives for content of that many bytes: around one block, around a full block of
// hashes (128 blocks), and around two levels of them.
//
// Verifies: SR-075
func TestDigestsOfTheTool(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "digests"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) < 10 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		var n int
		size, want, _ := strings.Cut(line, " ")
		for _, c := range size {
			n = n*10 + int(c-'0')
		}
		if got := digest(content(n)); got != want {
			t.Errorf("%d bytes: %s, the tool says %s", n, got, want)
		}
	}
}

// How the bytes come makes no difference.
func FuzzPieces(f *testing.F) {
	f.Add(10000, 4096)
	f.Add(128*4096+1, 4095)
	f.Add(4096, 1)
	f.Fuzz(func(t *testing.T, size, piece int) {
		if size < 0 || size > 1<<20 || piece < 1 || size/piece > 1<<14 {
			return
		}
		b := content(size)
		want := digest(b)
		var h fsverity.Hash
		for r := bytes.NewReader(b); r.Len() > 0; {
			p := make([]byte, min(piece, r.Len()))
			r.Read(p)
			h.Write(p)
		}
		sum := h.Sum()
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%d bytes in pieces of %d: %s, in one %s", size, piece, got, want)
		}
	})
}
