package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"ward/internal/trust/evidence"
)

func id(n byte) [16]byte { return [16]byte{0: n, 15: 0xff} }

func document(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

func split(t testing.TB, id [16]byte, document []byte) [][]byte {
	t.Helper()
	parts, err := evidence.Split(id, document)
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// The bytes of a small part, taken apart by hand (RFC 8949, appendix B): a map of
// seven pairs, keys 1 to 7.
func TestPartGolden(t *testing.T) {
	sum := sha256.Sum256([]byte("evidence"))
	want := "a7" + "0101" + "0250" + "010000000000000000000000000000ff" + "0300" + "0401" + "0508" +
		"065820" + hex.EncodeToString(sum[:]) + "0748" + hex.EncodeToString([]byte("evidence"))
	parts := split(t, id(1), []byte("evidence"))
	if len(parts) != 1 || hex.EncodeToString(parts[0]) != want {
		t.Errorf("written as %x, want %s", parts, want)
	}
}

// Parts come in any order and twice, and give the document once.
//
// Verifies: SR-020
func TestPartsRoundTrip(t *testing.T) {
	for _, n := range []int{1, 100, evidence.PartSize - 1, evidence.PartSize, evidence.PartSize + 1, 5*evidence.PartSize + 7, evidence.MaxDocument} {
		want := document(n)
		parts := split(t, id(2), want)
		for _, p := range parts {
			if len(p) > 100<<10 {
				t.Errorf("a part of %d bytes", len(p))
			}
		}
		order := append(rand.Perm(len(parts)), rand.Perm(len(parts))...)
		var a evidence.Assembler
		var got [][]byte
		for _, i := range order {
			d, err := a.Add(parts[i])
			if err != nil {
				t.Fatal(err)
			}
			if d != nil {
				got = append(got, d)
			}
		}
		if len(got) != 1 || !bytes.Equal(got[0], want) || a.Held() != 0 {
			t.Errorf("document of %d bytes in %d parts: came out %d times, %d bytes held", n, len(parts), len(got), a.Held())
		}
	}
	for _, n := range []int{0, evidence.MaxDocument + 1} {
		if _, err := evidence.Split(id(1), make([]byte, n)); err == nil {
			t.Errorf("a document of %d bytes was split", n)
		}
	}
}

// The document that was begun last wins, and late parts of the one before do not
// take its place.
func TestTheLastBegunWins(t *testing.T) {
	one, two := split(t, id(1), document(2*evidence.PartSize)), split(t, id(2), document(2*evidence.PartSize+1))
	var a evidence.Assembler
	for _, m := range [][]byte{one[0], two[0], one[1], one[0], two[1], one[1]} {
		if d, err := a.Add(m); d != nil || err != nil {
			t.Fatalf("%d bytes, %v", len(d), err)
		}
	}
	if d, err := a.Add(two[2]); err != nil || len(d) != 2*evidence.PartSize+1 {
		t.Errorf("%d bytes, %v", len(d), err)
	}
	a.Reset()
	if d, err := a.Add(two[0]); d != nil || err != nil || a.Held() != 0 {
		t.Errorf("a part of a document that is done: %d bytes held, %v", a.Held(), err)
	}
}

// part encodes what Split would not.
func part(t testing.TB, change func(p *evidence.Part)) []byte {
	t.Helper()
	p := evidence.Part{Version: 1, ID: id(1), Count: 1, Size: 8, SHA256: sha256.Sum256([]byte("evidence")), Bytes: []byte("evidence")}
	change(&p)
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := mode.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Verifies: SR-020
func TestPartRefused(t *testing.T) {
	good := part(t, func(*evidence.Part) {})
	if _, err := evidence.ParsePart(good); err != nil {
		t.Fatal(err)
	}
	swap := func(old, new string) []byte {
		h := hex.EncodeToString(good)
		if !strings.Contains(h, old) {
			t.Fatalf("no %s in %s", old, h)
		}
		b, err := hex.DecodeString(strings.Replace(h, old, new, 1))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                      nil,
		"not CBOR":                   []byte("hello"),
		"cut":                        good[:len(good)-1],
		"a byte behind it":           append(bytes.Clone(good), 0),
		"another type":               {0x80},
		"too large":                  make([]byte, 128<<10),
		"another version":            part(t, func(p *evidence.Part) { p.Version = 2 }),
		"an empty document":          part(t, func(p *evidence.Part) { p.Size, p.Bytes = 0, nil }),
		"a document of 4 GiB":        part(t, func(p *evidence.Part) { p.Size, p.Count = 4<<30, 4<<30/evidence.PartSize }),
		"a number behind the last":   part(t, func(p *evidence.Part) { p.Index = 1 }),
		"more parts than belong":     part(t, func(p *evidence.Part) { p.Count = 2 }),
		"no part":                    part(t, func(p *evidence.Part) { p.Count = 0 }),
		"fewer bytes than belong":    part(t, func(p *evidence.Part) { p.Bytes = p.Bytes[:7] }),
		"more bytes than belong":     part(t, func(p *evidence.Part) { p.Bytes = append(p.Bytes, 0) }),
		"a short id":                 swap("0250010000000000000000000000000000ff", "024f0100000000000000000000000000ff"),
		"a number in two bytes":      swap("0300", "031800"),
		"keys in another order":      swap("03000401", "04010300"),
		"an indefinite byte string":  swap("0748", "075f48"),
		"an unknown key":             swap("a70101", "a80101080a"),
		"a key twice":                swap("a70101", "a801010101"),
		"a byte string of 4 GiB":     swap("0748", "075affffffff"),
		"an array of 2^60 elements":  {0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0},
		"a map of 2^60 pairs":        {0xbb, 0x10, 0, 0, 0, 0, 0, 0, 0},
		"a negative number of parts": swap("0401", "0420"),
	} {
		if p, err := evidence.ParsePart(b); !errors.Is(err, evidence.ErrPart) {
			t.Errorf("%s: %v, read %+v", name, err, p)
		}
	}
}

// Verifies: SR-020
func TestAssemblerOfHostileParts(t *testing.T) {
	parts := split(t, id(1), document(3*evidence.PartSize))
	other := split(t, id(1), document(3*evidence.PartSize+1))

	var a evidence.Assembler
	if _, err := a.Add(parts[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Add([]byte("noise")); !errors.Is(err, evidence.ErrPart) || a.Held() == 0 {
		t.Errorf("noise: %v, %d bytes held", err, a.Held())
	}
	if _, err := a.Add(other[1]); !errors.Is(err, evidence.ErrPart) || a.Held() != 0 {
		t.Errorf("a part of another document under the same id: %v, %d bytes held", err, a.Held())
	}

	lie := part(t, func(p *evidence.Part) { p.ID, p.SHA256 = id(9), [32]byte{} })
	if d, err := a.Add(lie); !errors.Is(err, evidence.ErrDigest) || d != nil {
		t.Errorf("another digest: %v", err)
	}

	// Documents that never end: each begun, none finished.
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	long := split(t, id(1), document(evidence.MaxDocument))
	for n := range 1000 {
		p, err := evidence.ParsePart(long[n%len(long)])
		if err != nil {
			t.Fatal(err)
		}
		b := part(t, func(q *evidence.Part) { *q = p; q.ID = [16]byte{byte(n), byte(n >> 8), 7} })
		if d, err := a.Add(b); err != nil || d != nil {
			t.Fatal(err)
		}
		if a.Held() > evidence.PartSize {
			t.Fatalf("%d bytes held of documents of which one part came", a.Held())
		}
	}
	long = nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes are held after a thousand documents that never end", grown)
	}
}

func FuzzAssemble(f *testing.F) {
	parts, err := evidence.Split(id(1), document(evidence.PartSize+10))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(parts[1])
	small, err := evidence.Split(id(2), []byte("small"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		var a evidence.Assembler
		d, err := a.Add(b)
		if err != nil && d != nil {
			t.Error("a document and an error")
		}
		p, parseErr := evidence.ParsePart(b)
		if parseErr != nil {
			return
		}
		if again, err := cbor.Marshal(p); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x was read, and is written as %x", b, again)
		}
		if p.Count == 1 && err == nil && sha256.Sum256(d) != p.SHA256 {
			t.Error("a document of another digest")
		}
		if a.Held() > evidence.PartSize {
			t.Errorf("%d bytes held of one part", a.Held())
		}
	})
}
