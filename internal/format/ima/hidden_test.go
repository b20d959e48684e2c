package ima_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
)

// planted is a patient's name that a file was given.
const planted = "/data/JOHN_Q_PATIENT-1950-01-31.sh"

func replayed(t *testing.T, list []byte, a pcr.Algorithm) pcr.Digest {
	t.Helper()
	r, err := ima.NewReplay(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range decodeAll(t, list) {
		if err := r.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return r.Value()
}

// hide hides every path but boot_aggregate.
func hide(t *testing.T, list []byte) []byte {
	t.Helper()
	out, err := ima.Hide(list, 0, func(e ima.Entry) (string, bool) { return "/data/~0123456789ab", !e.IsBootAggregate() })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Whatever the template, form and byte order: a list with hidden paths gives the
// same registers and no longer has the name.
//
// Verifies: SR-110
func TestHiddenPathsGiveTheSameRegister(t *testing.T) {
	orders := map[string]binary.AppendByteOrder{"little endian": binary.LittleEndian, "big endian": binary.BigEndian}
	for name, order := range orders {
		records := []record{measured("ima-ng", "sha256", digest(1, 32), "boot_aggregate")}
		for _, c := range templates(order) {
			records = append(records, c.record)
		}
		violation := measured("ima-ng", "sha1", make([]byte, 20), planted)
		violation.violation = true
		named := measured("ima-sig", "sha256", digest(2, 32), planted, []byte{3, 2})
		records = append(records, violation, named, legacy(digest(3, 20), planted), measured("ima-ngv2", "verity:sha256", digest(4, 32), planted))
		for form, list := range map[string][]byte{"binary": binaryList(order, records...), "ASCII": asciiList(order, records...)} {
			t.Run(form+" "+name, func(t *testing.T) {
				hidden := hide(t, list)
				if bytes.Contains(hidden, []byte("PATIENT")) || !bytes.Contains(list, []byte("PATIENT")) {
					t.Error("the name is in the hidden list, or was not in the one before")
				}
				for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256} {
					if got, want := replayed(t, hidden, a), replayed(t, list, a); !bytes.Equal(got, want) {
						t.Errorf("bank %s: %s, want %s", a, got, want)
					}
				}
				before, after := decodeAll(t, list), decodeAll(t, hidden)
				if len(after) != len(before) {
					t.Fatalf("%d entries, want %d", len(after), len(before))
				}
				for i, e := range after {
					switch {
					case i == 0 && e.Hidden != nil:
						t.Error("boot_aggregate was hidden")
					case i > 0 && before[i].Digest.Algorithm != "" && (e.Template != ima.HiddenTemplate || e.Path != "/data/~0123456789ab" || !bytes.Equal(e.Digest.Digest, before[i].Digest.Digest)):
						t.Errorf("entry %d: %+v, was %+v", i, e, before[i])
					case e.Violation != before[i].Violation || !e.Rehashes():
						t.Errorf("entry %d: violation %v, was %v; rehashes %v", i, e.Violation, before[i].Violation, e.Rehashes())
					}
				}
				if again := hide(t, hidden); !bytes.Equal(again, hidden) {
					t.Error("hiding what is hidden changed it")
				}
			})
		}
	}
}

// The bytes of one hidden entry of each form.
//
// Verifies: SR-110
func TestHiddenEntryGolden(t *testing.T) {
	r := measured("ima-ng", "sha256", digest(0xab, 32), planted)
	sum := hex.EncodeToString(pcr.SHA256.Sum(r.hashed(binary.LittleEndian)))
	hash := hex.EncodeToString(r.hash(binary.LittleEndian))
	ab := strings.Repeat("ab", 32)
	want := "0a000000" + hash + "0b000000" + hex.EncodeToString([]byte("ward-hidden")) +
		"68000000" + // three lengths, 40 bytes, 20 bytes, 32 bytes
		"28000000" + hex.EncodeToString([]byte("sha256:\x00")) + ab +
		"14000000" + hex.EncodeToString([]byte("/data/~0123456789ab\x00")) +
		"20000000" + sum
	if got := hex.EncodeToString(hide(t, binaryList(binary.LittleEndian, r))); got != want {
		t.Errorf("binary\n%s, want\n%s", got, want)
	}
	line := "10 " + hash + " ward-hidden sha256:" + ab + " /data/~0123456789ab " + sum + "\n"
	if got := string(hide(t, asciiList(binary.LittleEndian, r))); got != line {
		t.Errorf("ASCII\n%s, want\n%s", got, line)
	}
}

// What cannot be read stays as it is and is not taken for an end; a hidden entry
// has no hash in other banks, nor is it a boot_aggregate, whatever it is called.
//
// Verifies: SR-110
func TestHiddenBadInput(t *testing.T) {
	list := binaryList(binary.LittleEndian, measured("ima-ng", "sha256", digest(1, 32), planted))
	cut := append(bytes.Clone(list), list[:20]...)
	if got := hide(t, cut); !bytes.HasSuffix(got, list[:20]) {
		t.Error("the cut end is gone")
	}
	for _, junk := range [][]byte{nil, {0xa5}, bytes.Repeat([]byte{0xa5, 3}, 99)} {
		if got := hide(t, junk); !bytes.Equal(got, junk) {
			t.Errorf("%x became %x", junk, got)
		}
	}
	hidden := decodeAll(t, hide(t, list))[0]
	r, err := ima.NewReplay(pcr.SHA384)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Add(hidden); err == nil || hidden.Extension(pcr.SHA384) != nil {
		t.Error("a hidden entry was extended in a bank of which it has no hash")
	}
	named, err := ima.Hide(list, 0, func(ima.Entry) (string, bool) { return "boot_aggregate", true })
	if err != nil || decodeAll(t, named)[0].IsBootAggregate() {
		t.Errorf("a hidden entry passes for boot_aggregate, error %v", err)
	}
	short := bytes.Replace(hide(t, asciiList(binary.LittleEndian, measured("ima-ng", "sha256", digest(1, 32), planted))), []byte("\n"), []byte("ff\n"), 1)
	if _, err := decode(t, bytes.NewReader(short)); err == nil || err == io.EOF {
		t.Errorf("a hash of 33 bytes was read: %v", err)
	}
}
