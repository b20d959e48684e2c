package luks2_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ward/internal/format/luks2"
)

// golden is the header that cryptsetup 2.6.1 wrote: two key slots, one token.
func golden(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("testdata/cryptsetup-2.6.1.luks2.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const copySize = 16 << 10 // of each copy of the golden header

// seal gives the copy at an offset a correct checksum.
func seal(b []byte, offset int) []byte {
	size := int(binary.BigEndian.Uint64(b[offset+8:]))
	clear(b[offset+448 : offset+512])
	sum := sha256.Sum256(b[offset : offset+size])
	copy(b[offset+448:], sum[:])
	return b
}

// Verifies: SR-041
func TestGoldenHeader(t *testing.T) {
	h, err := luks2.Parse(bytes.NewReader(golden(t)))
	if err != nil {
		t.Fatal(err)
	}
	if h.UUID != "0a6c1f4e-7f52-4a39-9d0e-5741524c4414" || h.Label != "ward-state" || h.Sequence != 5 || h.Second {
		t.Errorf("header %+v", h)
	}
	want := luks2.Area{
		Keyslots: []luks2.Keyslot{
			{Number: 0, Type: "luks2", KeySize: 64, Encryption: "aes-xts-plain64", KDF: "pbkdf2"},
			{Number: 1, Type: "luks2", KeySize: 64, Encryption: "aes-xts-plain64", KDF: "argon2id"},
		},
		Tokens:   []luks2.Token{{Type: "ward-tpm2", Keyslots: []int{0}, JSON: []byte(`{"type":"ward-tpm2","keyslots":["0"],"ward-key":"AAAA"}`)}},
		Segments: []luks2.Segment{{Type: "crypt", Offset: 4 << 20, Encryption: "aes-xts-plain64", SectorSize: 512}},
	}
	if !reflect.DeepEqual(h.Area, want) {
		t.Errorf("area %+v, want %+v", h.Area, want)
	}
}

// Either copy is enough; of two good ones the newer counts.
//
// Verifies: SR-041
func TestCopies(t *testing.T) {
	older := func(b []byte, offset int) []byte {
		binary.BigEndian.PutUint64(b[offset+16:], 4)
		return seal(b, offset)
	}
	for _, tc := range []struct {
		name     string
		change   func(b []byte) []byte
		second   bool
		sequence uint64
		err      error
	}{
		{"both good", func(b []byte) []byte { return b }, false, 5, nil},
		{"first damaged", func(b []byte) []byte { b[5000] ^= 1; return b }, true, 5, nil},
		{"first overwritten", func(b []byte) []byte { clear(b[:copySize]); return b }, true, 5, nil},
		{"second damaged", func(b []byte) []byte { b[copySize+5000] ^= 1; return b }, false, 5, nil},
		{"first older", func(b []byte) []byte { return older(b, 0) }, true, 5, nil},
		{"second older", func(b []byte) []byte { return older(b, copySize) }, false, 5, nil},
		{"second cut off", func(b []byte) []byte { return b[:copySize+100] }, false, 5, nil},
		{"both damaged", func(b []byte) []byte { b[5000] ^= 1; b[copySize+5000] ^= 1; return b }, false, 0, luks2.ErrHeader},
		{"checksum of the first alone", func(b []byte) []byte { b[450] ^= 1; clear(b[copySize:]); return b }, false, 0, luks2.ErrHeader},
		{"second one damaged, first overwritten", func(b []byte) []byte { clear(b[:copySize]); b[copySize+5000] ^= 1; return b }, false, 0, luks2.ErrHeader},
		{"an ext4 file system", func(b []byte) []byte { clear(b); b[0x438], b[0x439] = 0x53, 0xef; return b }, false, 0, luks2.ErrNotLUKS},
		{"nothing", func([]byte) []byte { return nil }, false, 0, luks2.ErrNotLUKS},
		{"LUKS1", func(b []byte) []byte { b[7] = 1; return b }, false, 0, luks2.ErrVersion},
		{"too large", func(b []byte) []byte { b[8] = 1; clear(b[copySize:]); return b }, false, 0, luks2.ErrHeader},
		{"no power of two", func(b []byte) []byte { b[14] = 0x41; clear(b[copySize:]); return b }, false, 0, luks2.ErrHeader},
		{"at another place", func(b []byte) []byte { b[263] = 1; clear(b[copySize:]); return seal(b, 0) }, false, 0, luks2.ErrHeader},
		{"unknown checksum", func(b []byte) []byte { copy(b[72:], "crc32\x00"); clear(b[copySize:]); return b }, false, 0, luks2.ErrHeader},
		{"text behind the JSON", func(b []byte) []byte { b[copySize-1] = 'x'; clear(b[copySize:]); return seal(b, 0) }, false, 0, luks2.ErrHeader},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, err := luks2.Parse(bytes.NewReader(tc.change(golden(t))))
			if !errors.Is(err, tc.err) || h.Second != tc.second || h.Sequence != tc.sequence {
				t.Errorf("copy %v, sequence %d, error %v", h.Second, h.Sequence, err)
			}
			if err == nil && len(h.Area.Tokens) != 1 {
				t.Errorf("%d tokens", len(h.Area.Tokens))
			}
		})
	}
}

func TestReaderFails(t *testing.T) {
	if _, err := luks2.Parse(failing{}); err == nil || errors.Is(err, luks2.ErrNotLUKS) || !strings.Contains(err.Error(), "medium error") {
		t.Errorf("error %v", err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("medium error") }

func TestArea(t *testing.T) {
	for _, tc := range []struct{ name, area, want string }{
		{"empty", "", "parse JSON"},
		{"no object", "[]", "parse JSON"},
		{"a key slot without a number", `{"keyslots":{"first":{}}}`, "want a number"},
		{"a number with a zero before it", `{"segments":{"00":{}}}`, "want a number"},
		{"a token that is none", `{"tokens":{"0":7}}`, "parse token"},
		{"a token of a key slot that cannot be", `{"tokens":{"0":{"keyslots":["32"]}}}`, "key slot 32"},
		{"an offset that is no number", `{"segments":{"0":{"offset":"x"}}}`, "parse JSON"},
		{"requirements of another form", `{"config":{"requirements":["online-reencrypt"]}}`, "requirements"},
		{"too many", `{"tokens":{"0":{}` + many(33) + `}}`, "more than 32"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := luks2.ParseArea([]byte(tc.area))
			if !errors.Is(err, luks2.ErrHeader) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	a, err := luks2.ParseArea([]byte(`{"config":{"requirements":{"mandatory":["online-reencrypt"]}},"segments":{"0":{"type":"crypt","offset":"1","integrity":{}}}}`))
	if err != nil || !reflect.DeepEqual(a.Requirements, []string{"online-reencrypt"}) || !a.Segments[0].Integrity {
		t.Errorf("area %+v, %v", a, err)
	}
}

func many(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		b.WriteString(`,"` + string(rune('0'+i/10)) + string(rune('0'+i%10)) + `":{}`)
	}
	return b.String()
}

// What cryptsetup writes today is read, with metadata areas of other sizes.
func TestAgainstCryptsetup(t *testing.T) {
	cryptsetup := lookCryptsetup(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("passphrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, metadata := range []string{"16k", "64k"} {
		file := filepath.Join(t.TempDir(), "volume")
		if err := os.WriteFile(file, make([]byte, 6<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(cryptsetup, "luksFormat", "-q", "--disable-locks", "--type", "luks2", "--luks2-metadata-size", metadata,
			"--offset", "8192", "--label", "a label", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", file, key).CombinedOutput()
		if err != nil {
			t.Fatalf("cryptsetup: %v: %s", err, out)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		h, err := luks2.Parse(f)
		if err != nil || h.Label != "a label" || len(h.Area.Keyslots) != 1 || len(h.Area.Segments) != 1 || h.Area.Segments[0].Offset != 4<<20 {
			t.Errorf("metadata of %s: %+v, %v", metadata, h, err)
		}
	}
}

func lookCryptsetup(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/usr/sbin/cryptsetup", "/sbin/cryptsetup"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Skip("cryptsetup is not installed: run 'make deps'")
	return ""
}

// Whatever is done to a header, reading it ends with a header or an error.
func FuzzParse(f *testing.F) {
	b := golden(f)
	f.Add(b, uint16(0), byte(0), false)
	f.Add(b, uint16(5000), byte(1), true)
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte, sum bool) {
		b = bytes.Clone(b)
		if int(at) < len(b) {
			b[at] ^= flip
		}
		if sum && len(b) >= copySize && binary.BigEndian.Uint64(b[8:]) == copySize {
			seal(b, 0)
		}
		h, err := luks2.Parse(bytes.NewReader(b))
		if err != nil && (!reflect.DeepEqual(h, luks2.Header{}) || !errors.Is(err, luks2.ErrHeader) && !errors.Is(err, luks2.ErrVersion) && !errors.Is(err, luks2.ErrNotLUKS)) {
			t.Errorf("header %+v and error %v", h, err)
		}
	})
}

func FuzzParseArea(f *testing.F) {
	f.Add(golden(f)[4096:copySize])
	f.Add([]byte(`{"tokens":{"3":{"type":"x","keyslots":["1"]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := luks2.ParseArea(b)
		if err != nil && !errors.Is(err, luks2.ErrHeader) {
			t.Errorf("error %v", err)
		}
		if len(a.Keyslots)+len(a.Tokens)+len(a.Segments) > 96 {
			t.Errorf("%d key slots, %d tokens, %d segments", len(a.Keyslots), len(a.Tokens), len(a.Segments))
		}
	})
}
