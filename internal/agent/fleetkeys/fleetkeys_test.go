package fleetkeys_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/fleetkeys"
	"ward/internal/format/dsse"
	"ward/internal/trust/rotation"
)

var update = flag.Bool("update", false, "rewrite the golden store")

// fixed are keys that are the same in every run.
func fixed(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func ring(t testing.TB, keys ...byte) *dsse.Keyring {
	t.Helper()
	var publics []crypto.PublicKey
	for _, n := range keys {
		publics = append(publics, fixed(n).Public())
	}
	r, err := dsse.NewKeyring(publics...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sign(t testing.TB, use rotation.Use, serial int, from, to byte) []byte {
	t.Helper()
	b, err := rotation.Sign(use, serial, fixed(from), fixed(to).Public(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keys(s *fleetkeys.Store, use rotation.Use) *dsse.Keyring {
	if use == rotation.Challenge {
		return s.Challenges()
	}
	return s.Receipts()
}

// accepts lists which of the keys 1 to 9 are accepted for a use.
func accepts(t testing.TB, s *fleetkeys.Store, use rotation.Use) string {
	t.Helper()
	var out []string
	for n := byte(1); n < 10; n++ {
		envelope, err := dsse.Sign("text", []byte("x"), fixed(n))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := keys(s, use).Open(envelope, "text", 1); err == nil {
			out = append(out, fmt.Sprint(n))
		}
	}
	return strings.Join(out, " ")
}

func open(t testing.TB, path string, anchors ...byte) *fleetkeys.Store {
	t.Helper()
	return fleetkeys.Open(path, ring(t, anchors...), ring(t, 7), slog.New(slog.DiscardHandler))
}

func apply(t testing.TB, s *fleetkeys.Store, envelope []byte) {
	t.Helper()
	if v, err := s.Apply(rotation.Receipt, envelope); err != nil || v == nil {
		t.Fatalf("followed %v, %v", v, err)
	}
}

func want(t testing.TB, s *fleetkeys.Store, receipts string) {
	t.Helper()
	if got := accepts(t, s, rotation.Receipt); got != receipts {
		t.Errorf("receipt keys %q, want %q", got, receipts)
	}
}

// A rotation counts at once and after each restart; what was followed is not
// followed again.
//
// Verifies: SR-068
func TestRotations(t *testing.T) {
	path := filepath.Join(t.TempDir(), fleetkeys.File)
	s := open(t, path, 1, 5)
	want(t, s, "1 5")
	v, err := s.Apply(rotation.Receipt, sign(t, rotation.Receipt, 1, 1, 2))
	if err != nil || v == nil || v.Rotation().Serial != 1 {
		t.Fatalf("%v, %v", v, err)
	}
	want(t, s, "2 5")
	want(t, open(t, path, 1, 5), "2 5")
	apply(t, s, sign(t, rotation.Receipt, 2, 2, 3))
	if v, err := s.Apply(rotation.Challenge, sign(t, rotation.Challenge, 1, 7, 8)); err != nil || v == nil {
		t.Fatal(v, err)
	}
	s = open(t, path, 1, 5)
	want(t, s, "3 5")
	if got := accepts(t, s, rotation.Challenge); got != "8" {
		t.Errorf("challenge keys %q", got)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range [][]byte{sign(t, rotation.Receipt, 1, 1, 2), sign(t, rotation.Receipt, 2, 2, 3)} {
		if v, err := s.Apply(rotation.Receipt, again); err != nil || v != nil {
			t.Errorf("again: %v, %v", v, err)
		}
	}
	for name, bad := range map[string][]byte{
		"a stolen old key":   sign(t, rotation.Receipt, 1, 1, 9),
		"another use":        sign(t, rotation.Challenge, 1, 5, 9),
		"a stranger's":       sign(t, rotation.Receipt, 1, 9, 8),
		"not in its order":   sign(t, rotation.Receipt, 4, 3, 4),
		"not an envelope":    []byte("{}"),
		"nothing":            nil,
		"cut":                sign(t, rotation.Receipt, 3, 3, 4)[:200],
		"longer than it may": bytes.Repeat([]byte(" "), rotation.MaxSize+1),
	} {
		if v, err := s.Apply(rotation.Receipt, bad); err == nil || v != nil {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	want(t, s, "3 5")
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("what was refused changed the store: %v", err)
	}
	if *update {
		if err := os.WriteFile("testdata/key-rotations", before, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile("testdata/key-rotations")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, before) {
		t.Errorf("the store is written as\n%s\nand was\n%s", before, golden)
	}
}

// What a store may hold when a release with other anchors starts, or somebody has
// changed it: what does not follow from the anchors is left out.
//
// Verifies: SR-068
func TestStoreIsNotTrusted(t *testing.T) {
	path := filepath.Join(t.TempDir(), fleetkeys.File)
	s := open(t, path, 1)
	apply(t, s, sign(t, rotation.Receipt, 1, 1, 2))
	apply(t, s, sign(t, rotation.Receipt, 2, 2, 3))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	thief := filepath.Join(t.TempDir(), fleetkeys.File)
	apply(t, open(t, thief, 1), sign(t, rotation.Receipt, 1, 1, 9))
	stolen, err := os.ReadFile(thief)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		store   []byte
		anchors []byte
		want    string
	}{
		{"the release is as old as the store", good, []byte{1}, "3"},
		{"the release holds the middle key", good, []byte{2}, "3"},
		{"the release holds the newest key", good, []byte{3}, "3"},
		{"the release holds old and newest", good, []byte{1, 3}, "3"},
		{"the release holds another key", good, []byte{4}, "4"},
		{"the remedy for a thief who was first", stolen, []byte{2}, "2"},
		{"no remedy: the release still holds the stolen key", stolen, []byte{1, 2}, "2 9"},
		{"cut in the first line", good[:100], []byte{1}, "1"},
		{"cut in the second line", good[:len(good)-100], []byte{1}, "2"},
		{"empty", nil, []byte{1}, "1"},
		{"a changed signature", flip(t, good), []byte{1}, "1"},
		{"stray lines", append([]byte("\n{}\nhello\n"), good...), []byte{1}, "3"},
		{"very many lines", append(bytes.Repeat([]byte("\n"), 1<<20-len(good)), good...), []byte{1}, "3"},
		{"longer than it may be", append(bytes.Repeat([]byte("\n"), 1<<20), good...), []byte{1}, "1"},
		{"in another order", append(onlySecond(t, good), good[:len(good)-len(onlySecond(t, good))]...), []byte{1}, "2"},
		{"only the second", onlySecond(t, good), []byte{1}, "1"},
	} {
		if err := os.WriteFile(path, c.store, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, path, c.anchors...)
		if got := accepts(t, s, rotation.Receipt); got != c.want {
			t.Errorf("%s: keys %q, want %q", c.name, got, c.want)
		}
		if got := accepts(t, s, rotation.Challenge); got != "7" {
			t.Errorf("%s: challenge keys %q", c.name, got)
		}
		// The fleet sends its rotations again; where they lead anywhere, they are followed.
		for n := byte(1); n < 3; n++ {
			_, _ = s.Apply(rotation.Receipt, sign(t, rotation.Receipt, int(n), n, n+1))
		}
		if c.anchors[0] == 1 && len(c.anchors) == 1 {
			want(t, s, "3")
			want(t, open(t, path, 1), "3")
		}
	}
	s = fleetkeys.Open(filepath.Join(t.TempDir(), "none"), nil, nil, slog.New(slog.DiscardHandler))
	if n := s.Receipts().Len(); n != 0 {
		t.Errorf("%d keys without anchors", n)
	}
}

// flip changes the first rotation of a store within its signature.
func flip(t testing.TB, store []byte) []byte {
	t.Helper()
	at := bytes.Index(store, []byte(`"sig":"`)) + len(`"sig":"`) + 10
	changed := bytes.Clone(store)
	changed[at] = map[bool]byte{true: 'B', false: 'A'}[changed[at] == 'A']
	return changed
}

func onlySecond(t testing.TB, store []byte) []byte {
	t.Helper()
	_, second, ok := bytes.Cut(store, []byte("\n"))
	if !ok {
		t.Fatal("one line")
	}
	return second
}
