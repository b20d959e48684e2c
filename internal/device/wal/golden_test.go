package wal_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment and record build the format by README.md, apart from the package.
func segment(epoch, first uint64, records ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint64([]byte("WARDWAL1"), epoch)
	b = binary.LittleEndian.AppendUint64(b, first)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, slices.Concat(records...)...)
}

func record(sequence, durable uint64, kind uint32, payload string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, sequence)
	b = binary.LittleEndian.AppendUint64(b, durable)
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(b, payload...)
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(b, castagnoli))
	return append(head, b...)
}

// goldens are folders under testdata/v1, made by this program.
var goldens = []struct {
	name string
	make func(t *testing.T, d *waltest.Disk)
	last uint64
	kind wal.Kind // of a record in it
}{
	{"header", func(t *testing.T, d *waltest.Disk) {
		log := open(t, d, wal.Options{})
		fillPending(t, log, 1)
		d.Put(first, d.Content(first)[:28])
	}, 0, 0},
	{"full", func(t *testing.T, d *waltest.Disk) {
		log := open(t, d, wal.Options{})
		fill(t, log, 2)
		fillPending(t, log, 2)
	}, 4, wal.Full},
	{"stub", func(t *testing.T, d *waltest.Disk) {
		log := open(t, d, wal.Options{SegmentBytes: 5 << 10, MaxBytes: 8 << 10})
		fill(t, log, 36)
		if lost, err := log.Room(0, shed); err != nil || lost == 0 {
			t.Fatalf("%d lost their content, error %v", lost, err)
		}
	}, 36, wal.Stub},
	{"segments", func(t *testing.T, d *waltest.Disk) {
		for range 3 { // three lives; each writes the end of the one before again
			log := open(t, d, wal.Options{SegmentBytes: 1 << 10})
			fill(t, log, 3)
			fillPending(t, log, 2)
		}
	}, 15, wal.Full},
}

// TestGoldenSegments compares what is written with testdata/v1, byte by byte,
// and reads that back. WARD_DOCS=write writes it anew.
//
// Verifies: SR-050
func TestGoldenSegments(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			disk := waltest.New(7)
			g.make(t, disk)
			dir := filepath.Join("testdata", "v1", g.name)
			names, err := disk.List()
			if err != nil {
				t.Fatal(err)
			}
			if os.Getenv("WARD_DOCS") == "write" {
				writeGolden(t, dir, disk, names)
			}
			golden, err := wal.Dir(dir).List()
			if err != nil || !slices.Equal(golden, names) {
				t.Fatalf("%s holds %q, error %v; written is %q", dir, golden, err, names)
			}
			for _, name := range names {
				want, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if got := disk.Content(name); !bytes.Equal(got, want) {
					t.Errorf("%s differs at offset %d\n got\n%s\nwant\n%s", name, differ(got, want), hex.Dump(got), hex.Dump(want))
				}
			}
			scan, have := contents(t, wal.Dir(dir))
			if scan.Last != g.last || len(have) != int(g.last) || len(scan.Damage) > 0 {
				t.Errorf("%d records up to %d, damage %v; want %d", len(have), scan.Last, scan.Damage, g.last)
			}
			var kinds []wal.Kind
			if _, err := wal.Inspect(wal.Dir(dir), func(r wal.Record) error { kinds = append(kinds, r.Kind); return nil }); err != nil {
				t.Fatal(err)
			}
			if g.last > 0 && !slices.Contains(kinds, g.kind) {
				t.Errorf("records of kinds %d, want %d among them", kinds, g.kind)
			}
		})
	}
}

func writeGolden(t *testing.T, dir string, disk *waltest.Disk, names []string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), disk.Content(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func differ(a, b []byte) int {
	for n := range min(len(a), len(b)) {
		if a[n] != b[n] {
			return n
		}
	}
	return min(len(a), len(b))
}

// TestTheRulersAreTrue holds the golden files against the rulers of README.md.
func TestTheRulersAreTrue(t *testing.T) {
	want := segment(1, 1, record(1, 0, 1, string(payload(1))), record(2, 1, 1, string(payload(2))),
		record(3, 2, 1, string(payload(3))), record(4, 2, 1, string(payload(4))))
	got, err := os.ReadFile(filepath.Join("testdata", "v1", "full", first))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", hex.Dump(got), hex.Dump(want))
	}
}

// TestAnotherVersionIsLeftAlone: segments of a later program are neither read nor
// counted, neither kept aside nor removed, and the reason names their version.
//
// Verifies: SR-051
func TestAnotherVersionIsLeftAlone(t *testing.T) {
	later := []byte("WARDWAL2" + strings.Repeat("whatever it may be ", 40))
	for _, name := range []string{"0000000000000000.wal", "00000000000000f0.wal"} {
		disk, _ := filled(t, 30)
		disk.Put(name, later)
		log, scan, err := wal.Open(disk, wal.Options{SegmentBytes: 2 << 10, MaxBytes: 16 << 10})
		if err != nil || len(scan.Damage) != 1 || scan.Damage[0].Segment != name || !strings.Contains(scan.Damage[0].Reason, `"WARDWAL2"`) {
			t.Fatalf("damage %v, error %v; want one that names the version", scan.Damage, err)
		}
		if log.Next() <= 30 {
			t.Errorf("record %d would be next", log.Next())
		}
		fill(t, log, 200)
		if _, err := log.Room(log.Durable(), shed); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(disk.Content(name), later) || log.Kept() != (wal.Kept{}) {
			t.Errorf("the other version's segment was touched; kept %+v", log.Kept())
		}
	}
	t.Run("alone", func(t *testing.T) {
		disk := waltest.New(1)
		disk.Put(first, later)
		log, scan, err := wal.Open(disk, wal.Options{Epoch: 5, Known: wal.Place{Epoch: 4, Sequence: 9}})
		if err != nil || len(scan.Damage) != 1 || log.Epoch() != 5 || log.Next() != 1 {
			t.Fatalf("damage %v, error %v, record %d of epoch %d is next", scan.Damage, err, log.Next(), log.Epoch())
		}
		fill(t, log, 2)
		if names, _ := disk.List(); fmt.Sprint(names) != "["+first+" "+second+"]" || !bytes.Equal(disk.Content(first), later) {
			t.Errorf("the folder holds %q", names)
		}
	})
}
