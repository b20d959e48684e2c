package sm3_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"ward/internal/format/sm3"
)

// The two examples of the standard (appendix A), and the empty message as other
// programs compute it.
var vectors = []struct{ message, digest string }{
	{"abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"},
	{strings.Repeat("abcd", 16), "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"},
	{"", "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b"},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		sum := sm3.Sum([]byte(v.message))
		if got := hex.EncodeToString(sum[:]); got != v.digest {
			t.Errorf("%q: %s, want %s", v.message, got, v.digest)
		}
	}
}

// Every length around the bounds of blocks, written in pieces of every size,
// gives the digest of the whole; a sum does not disturb what is written after.
func TestPieces(t *testing.T) {
	message := make([]byte, 200)
	for i := range message {
		message[i] = byte(7 * i)
	}
	for n := range message {
		want := sm3.Sum(message[:n])
		for _, piece := range []int{1, 3, 55, 56, 63, 64, 65, 128} {
			h := sm3.New()
			for rest := message[:n]; len(rest) > 0; {
				k := min(piece, len(rest))
				if written, err := h.Write(rest[:k]); written != k || err != nil {
					t.Fatalf("wrote %d of %d, error %v", written, k, err)
				}
				h.Sum(nil)
				rest = rest[k:]
			}
			if got := h.Sum([]byte("x")); !bytes.Equal(got, append([]byte("x"), want[:]...)) {
				t.Fatalf("%d bytes in pieces of %d: %x, want %x", n, piece, got, want)
			}
			h.Reset()
			if empty := sm3.Sum(nil); !bytes.Equal(h.Sum(nil), empty[:]) {
				t.Fatal("a reset hash is not new")
			}
		}
	}
	if h := sm3.New(); h.Size() != sm3.Size || h.BlockSize() != sm3.BlockSize {
		t.Errorf("size %d, block size %d", h.Size(), h.BlockSize())
	}
}

func TestSumDoesNotAllocate(t *testing.T) {
	data := make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() { sm3.Sum(data) }); n != 0 {
		t.Errorf("%.0f allocations", n)
	}
}

// Lengths up to three blocks, as OpenSSL hashes them.
func TestOpenSSLAgrees(t *testing.T) {
	tool, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	if err := exec.Command(tool, "dgst", "-sm3", "/dev/null").Run(); err != nil {
		t.Skipf("openssl has no sm3: %v", err)
	}
	random := rand.NewChaCha8([32]byte{3})
	for _, n := range []int{0, 1, 31, 55, 56, 57, 63, 64, 65, 119, 120, 128, 191, 4096} {
		message := make([]byte, n)
		_, _ = random.Read(message)
		cmd := exec.Command(tool, "dgst", "-sm3", "-binary")
		cmd.Stdin = bytes.NewReader(message)
		want, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := sm3.Sum(message); !bytes.Equal(got[:], want) {
			t.Errorf("%d bytes: %x, openssl says %x", n, got, want)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{64, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			data := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				sm3.Sum(data)
			}
		})
	}
}
