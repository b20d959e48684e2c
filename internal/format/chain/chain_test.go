package chain_test

import (
	"errors"
	"testing"

	"ward/internal/format/chain"
)

// TestGolden: printf 'ward record v1\nabc' | sha256sum
func TestGolden(t *testing.T) {
	const want = "c66d840fb53b1ceaf2f154682f9b4f8cb210d1313e9dccfb102825412d5670dd"
	if got := chain.Next([]byte("abc")).String(); got != want {
		t.Fatalf("hash of a record: %s, want %s", got, want)
	}
}

type record struct {
	link  chain.Link
	bytes string
}

func history(n int) []record {
	var out []record
	var prev chain.Hash
	for i := range n {
		b := string(rune('a' + i))
		out = append(out, record{chain.Link{Epoch: 1, Sequence: uint64(i + 1), Prev: prev}, b})
		prev = chain.Next([]byte(b))
	}
	return out
}

func follow(rs []record) error {
	var v chain.Verifier
	for _, r := range rs {
		if err := v.Add(r.link, []byte(r.bytes)); err != nil {
			return err
		}
	}
	return nil
}

// Verifies: SR-009
func TestVerifier(t *testing.T) {
	if err := follow(history(6)); err != nil {
		t.Fatalf("an honest chain: %v", err)
	}
	if err := follow(history(6)[3:]); err != nil {
		t.Fatalf("an honest chain whose begin was recycled: %v", err)
	}
	next := record{chain.Link{Epoch: 2, Sequence: 1}, "z"}
	if err := follow(append(history(3), next)); err != nil {
		t.Fatalf("a new epoch: %v", err)
	}
	for name, c := range map[string]struct {
		change func([]record) []record
		want   error
	}{
		"one removed":            {func(r []record) []record { return append(r[:2:2], r[3:]...) }, chain.ErrGap},
		"one changed":            {func(r []record) []record { r[2].bytes = "x"; return r }, chain.ErrFork},
		"two exchanged":          {func(r []record) []record { r[2], r[3] = r[3], r[2]; return r }, chain.ErrGap},
		"one twice":              {func(r []record) []record { return append(r[:3:3], r[2:]...) }, chain.ErrFork},
		"the first with a past":  {func(r []record) []record { r[0].link.Prev[0] = 1; return r }, chain.ErrFork},
		"sequence 0":             {func(r []record) []record { r[0].link.Sequence = 0; return r }, chain.ErrFork},
		"an epoch in the middle": {func(r []record) []record { r[3].link.Epoch = 2; return r }, chain.ErrGap},
		"an earlier epoch":       {func(r []record) []record { return append(r, record{chain.Link{Epoch: 0, Sequence: 1}, "q"}) }, chain.ErrGap},
	} {
		if err := follow(c.change(history(6))); !errors.Is(err, c.want) {
			t.Errorf("%s gives %v, want %v", name, err, c.want)
		}
	}
}

// Verifies: SR-009
func TestARecordOfWhichOnlyTheHashIsLeft(t *testing.T) {
	h := history(4)
	hash := chain.Next([]byte(h[2].bytes))
	var v chain.Verifier
	for _, r := range h[:2] {
		if err := v.Add(r.link, []byte(r.bytes)); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.AddHash(1, 4, hash); !errors.Is(err, chain.ErrGap) {
		t.Errorf("a hash out of its place gives %v", err)
	}
	if err := v.AddHash(1, 3, hash); err != nil {
		t.Fatal(err)
	}
	if err := v.Add(h[3].link, []byte(h[3].bytes)); err != nil {
		t.Errorf("the record behind it: %v", err)
	}
	w := chain.Resume(1, 2, chain.Hash{})
	if err := w.AddHash(1, 3, chain.Hash{1}); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(h[3].link, []byte(h[3].bytes)); !errors.Is(err, chain.ErrFork) {
		t.Errorf("the record behind another hash gives %v", err)
	}
}

func TestResume(t *testing.T) {
	h := history(4)
	v := chain.Resume(1, 2, chain.Next([]byte(h[1].bytes)))
	if err := v.Add(h[2].link, []byte(h[2].bytes)); err != nil {
		t.Fatal(err)
	}
	if err := chain.Resume(1, 2, chain.Hash{1}).Add(h[2].link, []byte(h[2].bytes)); !errors.Is(err, chain.ErrFork) {
		t.Fatalf("another history gives %v", err)
	}
}
