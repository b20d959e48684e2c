package efi_test

import (
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"ward/internal/alloctest"
	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
)

// FuzzParse gives the same bytes to every parser: none may panic, and what the
// parsers hand out may not be longer than what they were given, nor all of it
// together take more than 128 bytes of memory for each byte.
//
// Verifies: SR-003
func FuzzParse(f *testing.F) {
	f.Add(secureBoot)
	f.Add(list)
	f.Add(unhex("01000000 0600 5700 0000 01010600 0001"))
	f.Add(unhex("02010c00 d041030a 00000000 01010600 0001 7fff0400"))
	f.Add(unhex("00e0c10700000000 0010000000000000 0000000000000000 0600000000000000 01010600 0001"))
	captured, _ := filepath.Glob(filepath.Join("..", "eventlog", "testdata", "*.bin"))
	for _, file := range captured {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		log, err := eventlog.Parse(b)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range log.Events {
			f.Add(e.Data)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const factor, floor = 128, 64 << 10
		most := uint64(floor + factor*len(b))
		used := alloctest.Bytes(most, func() {
			if v, err := efi.ParseVariable(b); err == nil && len(v.Data)+2*len(utf16.Encode([]rune(v.Name))) > len(b) {
				t.Errorf("variable %+v is longer than %d bytes", v, len(b))
			}
			if v, rest, err := efi.CutVariable(b); err == nil && len(v.Data)+len(rest) > len(b) {
				t.Errorf("variable %+v and %d bytes behind it", v, len(rest))
			}
			if lists, err := efi.ParseSignatureLists(b); err == nil {
				n := 0
				for _, l := range lists {
					for _, s := range l.Signatures {
						n += len(s.Owner) + len(s.Data)
					}
				}
				if n > len(b) {
					t.Errorf("signatures of %d bytes from %d", n, len(b))
				}
			}
			if o, err := efi.ParseLoadOption(b); err == nil && len(o.Path)+len(o.Optional) > len(b) {
				t.Errorf("load option %+v", o)
			}
			if i, err := efi.ParseImage(b); err == nil {
				_ = i.Path.String()
			}
			for _, described := range []bool{false, true} {
				_, _ = efi.ParseBlob(b, described)
				if tables, err := efi.ParseTables(b, described); err == nil && 24*len(tables) > len(b) {
					t.Errorf("%d tables from %d bytes", len(tables), len(b))
				}
			}
			if p, err := efi.ParsePartitionTable(b); err == nil && 128*len(p.Partitions) > len(b) {
				t.Errorf("%d partitions from %d bytes", len(p.Partitions), len(b))
			}
			if text := efi.DevicePath(b).String(); len(text) > 64+8*len(b) {
				t.Errorf("path of %d bytes from %d", len(text), len(b))
			}
			_ = efi.DevicePath(b).File()
			_, _ = efi.ParseSignature(b)
		})
		if used > most {
			t.Errorf("%d bytes of input, %d allocated, at most %d", len(b), used, most)
		}
	})
}
