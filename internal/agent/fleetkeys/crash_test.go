package fleetkeys_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ward/internal/agent/fleetkeys"
	"ward/internal/trust/rotation"
)

// A power cut at every step of a rotation, and after every byte of the file that is
// being written: the device starts with the old key or with the new one, and the
// fleet's repetition brings it to the new one.
//
// Verifies: SR-068
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, fleetkeys.File)
	first, second := sign(t, rotation.Receipt, 1, 1, 2), sign(t, rotation.Receipt, 2, 2, 3)
	apply(t, open(t, path, 1), first)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, open(t, path, 1), second)
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cuts := 0
	check := func(name string, stored, temporary []byte, expect string) {
		t.Helper()
		cuts++
		if err := os.WriteFile(path, stored, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path + ".new"); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if temporary != nil {
			if err := os.WriteFile(path+".new", temporary, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, path, 1)
		if got := accepts(t, s, rotation.Receipt); got != expect {
			t.Fatalf("%s: keys %q, want %q", name, got, expect)
		}
		for _, b := range [][]byte{first, second} {
			if _, err := s.Apply(rotation.Receipt, b); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		want(t, s, "3")
	}
	for n := 0; n <= len(after); n += 7 {
		check("while it is written", before, after[:n], "2")
	}
	check("before the rename", before, after, "2")
	check("after the rename", after, nil, "3")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want(t, open(t, path, 1), "1") // the file is lost
	t.Logf("%d power cuts, each with a key that the fleet has", cuts)
}

// What cannot be stored does not count.
//
// Verifies: SR-068
func TestStoredBeforeItCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), fleetkeys.File)
	s := open(t, path, 1)
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Apply(rotation.Receipt, sign(t, rotation.Receipt, 1, 1, 2)); err == nil || v != nil {
		t.Fatalf("followed %v, %v", v, err)
	}
	want(t, s, "1")
	if err := os.Remove(path + ".new"); err != nil {
		t.Fatal(err)
	}
	apply(t, s, sign(t, rotation.Receipt, 1, 1, 2))
	want(t, open(t, path, 1), "2")
}

// Whatever a store holds, no key is accepted that the anchors do not lead to.
func FuzzStore(f *testing.F) {
	path := filepath.Join(f.TempDir(), fleetkeys.File)
	apply(f, open(f, path, 1), sign(f, rotation.Receipt, 1, 1, 2))
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("\n{}\n"))
	receipts, challenges, heir := ring(f, 1), ring(f, 7), ring(f, 2)
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = os.Remove(path) // a file that is written over is flushed by some file systems, which takes long
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := fleetkeys.Open(path, receipts, challenges, slog.New(slog.DiscardHandler))
		if got := s.Receipts().IDs(); !slices.Equal(got, receipts.IDs()) && !slices.Equal(got, heir.IDs()) {
			t.Errorf("receipt keys %q", got)
		}
		if got := s.Challenges().IDs(); !slices.Equal(got, challenges.IDs()) {
			t.Errorf("challenge keys %q", got)
		}
	})
}
