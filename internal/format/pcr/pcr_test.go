package pcr_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"ward/internal/format/pcr"
)

var computable = []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512, pcr.SM3256}

func TestAlgorithms(t *testing.T) {
	for _, c := range []struct {
		a    pcr.Algorithm
		name string
		size int
	}{
		{0x0004, "sha1", 20}, {0x000b, "sha256", 32}, {0x000c, "sha384", 48}, {0x000d, "sha512", 64}, {0x0012, "sm3-256", 32}, {0x0027, "0x0027", 0},
	} {
		if c.a.String() != c.name || c.a.Size() != c.size {
			t.Errorf("%s: size %d, want %s, %d", c.a, c.a.Size(), c.name, c.size)
		}
		var back pcr.Algorithm
		if err := back.UnmarshalText([]byte(c.name)); err != nil || back != c.a {
			t.Errorf("%s reads back as %s, error %v", c.name, back, err)
		}
		if c.size == 0 {
			continue
		}
		for _, name := range []string{c.name, strings.ToUpper(c.name), strings.ReplaceAll(c.name, "-", "_")} {
			if a, err := pcr.ParseAlgorithm(name); err != nil || a != c.a {
				t.Errorf("%s parses as %s, error %v", name, a, err)
			}
		}
	}
	for _, name := range []string{"", "md5", "0x0027", "sha", "SHA-256"} {
		if a, err := pcr.ParseAlgorithm(name); err == nil {
			t.Errorf("%q parses as %s", name, a)
		}
	}
}

func TestComputable(t *testing.T) {
	for _, a := range computable {
		h, ok := a.Hash()
		if ok != (a != pcr.SM3256) || ok && h.Size() != a.Size() || a.New().Size() != a.Size() || len(a.Sum(nil)) != a.Size() {
			t.Errorf("%s: hash %v", a, h)
		}
		running := a.New()
		running.Write([]byte("abc"))
		if !bytes.Equal(running.Sum(nil), a.Sum([]byte("abc"))) {
			t.Errorf("%s: New and Sum differ", a)
		}
	}
	for _, a := range []pcr.Algorithm{0, 0x27} {
		_, ok := a.Hash()
		if _, err := pcr.NewBank(a); ok || a.New() != nil || a.Sum(nil) != nil || err == nil {
			t.Errorf("%s passes for computable", a)
		}
	}
}

// Golden values: SHA-1 of 40, SHA-256 and SM3 of 64 zero bytes, as sha1sum,
// sha256sum and openssl compute them.
func TestExtend(t *testing.T) {
	for a, want := range map[pcr.Algorithm]string{
		pcr.SHA1:   "b80de5d138758541c5f05265ad144ab9fa86d1db",
		pcr.SHA256: "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b",
		pcr.SM3256: "46b58571be41685c253194d20ec7f82b659cc8c6b753f26d4e9ec85bc91c231e",
	} {
		b, err := pcr.NewBank(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Extend(23, make([]byte, a.Size())); err != nil {
			t.Fatal(err)
		}
		if got := b.Value(23).String(); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
		if !b.Extended(23) || b.Extended(22) || len(b.Values()) != 1 {
			t.Errorf("%s: values %v", a, b.Values())
		}
	}
	b, _ := pcr.NewBank(pcr.SHA256)
	for _, index := range []int{-1, pcr.Count} {
		if err := b.Extend(index, make([]byte, 32)); err == nil || b.Value(index) != nil || b.Extended(index) {
			t.Errorf("PCR %d passes for a register", index)
		}
	}
	for _, size := range []int{0, 20, 31, 33} {
		if err := b.Extend(0, make([]byte, size)); err == nil {
			t.Errorf("a digest of %d bytes was extended", size)
		}
	}
	if len(b.Values()) != 0 {
		t.Errorf("values %v", b.Values())
	}
	v := b.Value(1)
	v[0] = 1
	if !pcr.IsReset(pcr.SHA256, 1, b.Value(1)) {
		t.Error("a value given out changes the bank")
	}
}

func TestExtendDoesNotAllocate(t *testing.T) {
	for _, a := range computable {
		b, _ := pcr.NewBank(a)
		digest := make([]byte, a.Size())
		if n := testing.AllocsPerRun(100, func() { _ = b.Extend(10, digest) }); n != 0 {
			t.Errorf("%s: %.0f allocations", a, n)
		}
	}
}

// Verifies: SR-002
func TestResetValues(t *testing.T) {
	for _, a := range computable {
		b, _ := pcr.NewBank(a)
		for i := range pcr.Count {
			want := byte(0)
			if i >= 17 && i <= 22 {
				want = 0xff
			}
			all := bytes.Repeat([]byte{want}, a.Size())
			if !bytes.Equal(pcr.ResetValue(a, i), all) || !bytes.Equal(b.Value(i), all) || !pcr.IsReset(a, i, all) {
				t.Errorf("%s PCR %d starts at %s", a, i, b.Value(i))
			}
			all[0] ^= 1
			if pcr.IsReset(a, i, all) || pcr.IsReset(a, i, nil) || pcr.IsReset(a, i, all[1:]) {
				t.Errorf("%s PCR %d: another value passes for the reset value", a, i)
			}
		}
	}
	if pcr.ResetValue(0x27, 0) != nil || pcr.ResetValue(pcr.SHA1, 24) != nil || pcr.ResetValue(pcr.SHA1, -1) != nil || pcr.IsReset(0x27, 0, nil) {
		t.Error("unknown algorithms or registers have reset values")
	}
}

func TestStartAtLocality(t *testing.T) {
	for _, l := range []uint8{0, 3, 4} {
		b, _ := pcr.NewBank(pcr.SHA256)
		if err := b.StartAtLocality(l); err != nil {
			t.Fatal(err)
		}
		v := b.Value(0)
		if v[31] != l || !pcr.IsReset(pcr.SHA256, 0, v) || l != 0 && pcr.IsReset(pcr.SHA256, 1, v) {
			t.Errorf("locality %d: PCR 0 is %s", l, v)
		}
		if err := b.Extend(0, make([]byte, 32)); err != nil {
			t.Fatal(err)
		}
		if err := b.StartAtLocality(3); err == nil {
			t.Error("the start was set after an extend")
		}
	}
	for _, l := range []byte{1, 2, 5} {
		if v := append(make([]byte, 31), l); pcr.IsReset(pcr.SHA256, 0, v) {
			t.Errorf("locality %d passes for a start", l)
		}
	}
}

func TestValuesInJSON(t *testing.T) {
	b, err := json.Marshal(pcr.Values{7: {0xab, 0xcd}})
	if err != nil || string(b) != `{"7":"abcd"}` {
		t.Errorf("%s, error %v", b, err)
	}
	var back pcr.Values
	if err := json.Unmarshal([]byte(`{"10":"00FF"}`), &back); err != nil || !bytes.Equal(back[10], []byte{0, 0xff}) {
		t.Errorf("%v, error %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"10":"0"}`), &back); err == nil {
		t.Error("half a byte was read")
	}
	banks := map[pcr.Algorithm]pcr.Values{}
	if err := json.Unmarshal([]byte(`{"sha256":{"0":"00"}}`), &banks); err != nil || banks[pcr.SHA256] == nil {
		t.Errorf("%v, error %v", banks, err)
	}
}
