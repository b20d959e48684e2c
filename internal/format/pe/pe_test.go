package pe_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"ward/internal/format/pe"
	"ward/internal/format/pe/petest"
)

// build makes an image with two sections.
func build() []byte {
	return petest.Build(petest.Section{Name: ".cmdline", Data: "quiet"}, petest.Section{Name: ".second", Data: "content"})
}

func digest(t *testing.T, b []byte) []byte {
	t.Helper()
	i, err := pe.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if err := i.Authenticode(h); err != nil {
		t.Fatal(err)
	}
	return h.Sum(nil)
}

func TestAuthenticode(t *testing.T) {
	b := build()
	h := sha256.New()
	for _, part := range [][]byte{b[:petest.ChecksumAt], b[petest.ChecksumAt+4 : petest.DirectoryAt], b[petest.DirectoryAt+8:]} {
		h.Write(part)
	}
	want := h.Sum(nil)
	if got := digest(t, b); !bytes.Equal(got, want) {
		t.Fatalf("digest %x, want %x", got, want)
	}
	signed := append(bytes.Clone(b), bytes.Repeat([]byte("signature"), 8)...)
	binary.LittleEndian.PutUint32(signed[petest.DirectoryAt:], uint32(len(b)))
	binary.LittleEndian.PutUint32(signed[petest.DirectoryAt+4:], uint32(len(signed)-len(b)))
	if got := digest(t, signed); !bytes.Equal(got, want) {
		t.Errorf("a signature changes the digest")
	}
	if got := digest(t, append(bytes.Clone(b), 1)); bytes.Equal(got, want) {
		t.Errorf("a byte behind the sections does not change the digest")
	}
	for off := range b {
		covered := (off < petest.ChecksumAt || off >= petest.ChecksumAt+4) && (off < petest.DirectoryAt || off >= petest.DirectoryAt+8)
		bad := bytes.Clone(b)
		bad[off] ^= 0x01
		i, err := pe.Parse(bad)
		if err != nil {
			continue
		}
		h := sha256.New()
		if i.Authenticode(h) != nil {
			continue
		}
		if changed := !bytes.Equal(h.Sum(nil), want); changed != covered {
			t.Fatalf("offset %#x: changed %v, covered %v", off, changed, covered)
		}
	}
}

func TestSection(t *testing.T) {
	i, err := pe.Parse(build())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := i.Section(".cmdline"); err != nil || string(got) != "quiet" {
		t.Errorf("section .cmdline: %q, %v; want what is in memory", got, err)
	}
	if got, err := i.Section(".none"); err != nil || got != nil {
		t.Errorf("a section that is not there: %q, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	good := build()
	for n := range good[:petest.HeaderEnd] {
		if i, err := pe.Parse(good[:n]); err == nil {
			t.Errorf("the first %d bytes are an image: %v", n, i)
		}
	}
	overlap := build()
	binary.LittleEndian.PutUint32(overlap[petest.TableAt+20:], petest.HeaderEnd+0x100)
	i, err := pe.Parse(overlap)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Authenticode(sha256.New()); err == nil {
		t.Error("overlapping sections are hashed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(build())
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := pe.Parse(b)
		if err != nil {
			return
		}
		_ = i.Authenticode(sha256.New())
		if s, err := i.Section(".cmdline"); err == nil && len(s) > len(b) {
			t.Fatalf("a section of %d bytes in %d", len(s), len(b))
		}
	})
}
