package inventory_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/inventory"
)

func set(t testing.TB, count int, ran ...int) *inventory.Set {
	t.Helper()
	s, err := inventory.New(sha256.Sum256([]byte("baseline")), count)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ran {
		if !s.Add(i) || s.Add(i) || !s.Has(i) {
			t.Fatalf("component %d of %d is not added once", i, count)
		}
	}
	return s
}

// The bytes of a set; a change of the format changes the version before it
// changes the files.
//
// Verifies: SR-079
func TestGoldenBytes(t *testing.T) {
	for name, s := range map[string]*inventory.Set{
		"none.hex": set(t, 0), "few.hex": set(t, 11, 0, 7, 8, 10), "byte.hex": set(t, 8, 0, 1, 2, 3, 4, 5, 6, 7), "nothing-ran.hex": set(t, 9),
	} {
		file := filepath.Join("testdata", name)
		want, err := os.ReadFile(file)
		if got := hex.EncodeToString(s.Encode()); err != nil || got != strings.TrimSpace(string(want)) {
			t.Errorf("%s (%v) is now\n%s", file, err, got)
		}
		again, err := inventory.Parse(s.Encode())
		if err != nil || again.Baseline() != s.Baseline() || again.Count() != s.Count() || again.Len() != s.Len() || !bytes.Equal(again.Encode(), s.Encode()) {
			t.Errorf("%s is read as %+v, %v", name, again, err)
		}
	}
}

// Verifies: SR-079
func TestDecode(t *testing.T) {
	components := []string{"a@1", "b@1", "c", "d@2", "e@1", "f@1", "g@1", "h@1", "i@1"}
	names, err := inventory.Decode(set(t, 9, 2, 8).Encode(), components)
	if err != nil || !slices.Equal(names, []string{"c", "i@1"}) {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := inventory.Decode(set(t, 9, 2, 8).Encode(), components[:8]); err == nil {
		t.Error("a set of nine components is read with eight")
	}
	whole := set(t, 9, 0)
	if !whole.Join(set(t, 9, 2, 8)) || whole.Len() != 3 || whole.Join(set(t, 8)) {
		t.Errorf("joined: %d components", whole.Len())
	}
}

func TestMalformed(t *testing.T) {
	good := set(t, 9, 2, 8).Encode()
	change := func(i int, b byte) []byte {
		c := bytes.Clone(good)
		c[i] = b
		return c
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "another version": change(0, 2),
		"another count": change(34, 17), "too many": change(33, 0xff), "a bit behind the last": change(len(good)-1, 3),
	} {
		if s, err := inventory.Parse(b); !errors.Is(err, inventory.ErrMalformed) || s != nil {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := inventory.New([32]byte{}, inventory.MaxComponents+1); err == nil {
		t.Error("a set of too many components")
	}
}

// The longest set goes with every answer.
func TestFitsIntoEvidence(t *testing.T) {
	if got := len(set(t, inventory.MaxComponents).Encode()); got != inventory.MaxSize || got > evidence.MaxRunning {
		t.Errorf("%d bytes, want %d and at most %d", got, inventory.MaxSize, evidence.MaxRunning)
	}
}

func TestSplit(t *testing.T) {
	for component, want := range map[string]string{"openssl@3.5.0-r0": "openssl|3.5.0-r0", "openssl": "openssl|", "@scope/name@1": "@scope/name|1", "@scope/name": "@scope/name|", "": "|"} {
		if name, version := inventory.Split(component); name+"|"+version != want {
			t.Errorf("%q is %q, %q", component, name, version)
		}
	}
}

// Verifies: SR-079
func FuzzParse(f *testing.F) {
	f.Add(set(f, 11, 0, 7, 8, 10).Encode())
	f.Add(set(f, 0).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := inventory.Parse(b)
		most := uint64(4096 + 4*len(b))
		if used := alloctest.Bytes(most, func() { _, _ = inventory.Parse(b) }); used > most {
			t.Errorf("%d bytes of input, %d allocated", len(b), used)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(), b) || s.Len() > s.Count() {
			t.Errorf("%x is encoded again as %x", b, s.Encode())
		}
		var components []string
		for i := range s.Count() {
			components = append(components, fmt.Sprint(i))
		}
		names, err := inventory.Decode(b, components)
		if err != nil || len(names) != s.Len() {
			t.Errorf("%d names of %d, %v", len(names), s.Len(), err)
		}
	})
}
