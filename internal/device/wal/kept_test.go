package wal_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
)

// kept are the files that were kept aside.
func kept(t *testing.T, d *waltest.Disk) map[string][]byte {
	t.Helper()
	names, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		if strings.HasSuffix(name, ".damaged") {
			out[name] = d.Content(name)
		}
	}
	return out
}

// TestWhatIsDamagedIsKeptAside recycles everything behind segments that were
// damaged in one way or another, and wants their bytes to be there still.
//
// Verifies: SR-051
func TestWhatIsDamagedIsKeptAside(t *testing.T) {
	o := wal.Options{SegmentBytes: 2 << 10, MaxBytes: 32 << 10}
	rows := []struct {
		name string
		harm func(t *testing.T, d *waltest.Disk) (name string)
	}{
		{"a bad place", func(t *testing.T, d *waltest.Disk) string { flip(t, d, second, 900); return second }},
		{"a bad header", func(t *testing.T, d *waltest.Disk) string { flip(t, d, second, 9); return second }},
		{"cut short", func(t *testing.T, d *waltest.Disk) string {
			b := d.Content(second)
			d.Put(second, b[:len(b)-10])
			return second
		}},
		{"another epoch", func(t *testing.T, d *waltest.Disk) string {
			d.Put("0000000000000000.wal", segment(3, 1, record(1, 0, 1, "x")))
			return "0000000000000000.wal"
		}},
		{"another history", func(t *testing.T, d *waltest.Disk) string {
			d.Put(second, segment(1, 2, record(2, 1, 1, "another")))
			return second
		}},
		{"misplaced", func(t *testing.T, d *waltest.Disk) string {
			d.Put(second, segment(1, 1, record(1, 0, 1, string(payload(1)))))
			d.Put(first, segment(1, 2, record(2, 1, 1, string(payload(2)))))
			return second
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			disk := waltest.New(40)
			fill(t, open(t, disk, o), 60)
			name := row.harm(t, disk)
			want := disk.Content(name)
			log, scan, err := wal.Open(disk, o)
			if err != nil || len(scan.Damage) == 0 {
				t.Fatalf("damage %v, error %v", scan.Damage, err)
			}
			if got := kept(t, disk); len(got) > 0 {
				t.Errorf("it was moved before its turn: %d files", len(got))
			}
			fill(t, log, 200)
			if _, err := log.Room(log.Durable(), shed); err != nil {
				t.Fatal(err)
			}
			got := kept(t, disk)
			if len(got) != 1 || !bytes.Equal(got[name+".damaged"], want) {
				t.Fatalf("%d files are kept, want %s as it was", len(got), name)
			}
			if k := log.Kept(); k.Files != 1 || k.Bytes != 4<<10 || k.Gone != 0 {
				t.Errorf("kept %+v", k)
			}
			// It is no damage any more, is not read, and is not removed.
			for range 3 {
				log, scan, err = wal.Open(disk, o)
				if err != nil || len(scan.Damage) > 0 || scan.Kept.Files != 1 || scan.Kept.Bytes != 4<<10 {
					t.Fatalf("damage %v, kept %+v, error %v", scan.Damage, scan.Kept, err)
				}
				fill(t, log, 200)
				if _, err := log.Room(log.Durable(), shed); err != nil {
					t.Fatal(err)
				}
			}
			if got := kept(t, disk); len(got) != 1 || !bytes.Equal(got[name+".damaged"], want) {
				t.Errorf("%d files are kept in the end", len(got))
			}
		})
	}
}

// TestWhatIsKeptAsideIsBounded: the earliest stay within a quarter of the log's
// bound; of later ones the bytes go with their turn, and they are counted.
//
// Verifies: SR-051
func TestWhatIsKeptAsideIsBounded(t *testing.T) {
	o := wal.Options{SegmentBytes: 2 << 10, MaxBytes: 32 << 10}
	disk := waltest.New(41)
	fill(t, open(t, disk, o), 100)
	names, err := disk.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names[:6] {
		flip(t, disk, name, 700)
	}
	log, scan, err := wal.Open(disk, o)
	if err != nil || len(scan.Damage) != 6 {
		t.Fatalf("damage %v, error %v", scan.Damage, err)
	}
	fill(t, log, 300)
	if _, err := log.Room(log.Durable(), shed); err != nil {
		t.Fatal(err)
	}
	got := kept(t, disk)
	if k := log.Kept(); k != (wal.Kept{Files: 2, Bytes: 8 << 10, Gone: 4}) || len(got) != 2 || got[first+".damaged"] == nil || got[second+".damaged"] == nil {
		t.Errorf("kept %+v, %d files; want the first two and four gone", k, len(got))
	}
	if log.Size() > o.MaxBytes {
		t.Errorf("the log takes %d bytes", log.Size())
	}
}

// TestWhatIsNotOfThisLogCostsItNothing: damage that holds no record of this log
// is neither counted nor removed, however much of it there is, so that strange
// files cannot push records out.
//
// Verifies: SR-051
func TestWhatIsNotOfThisLogCostsItNothing(t *testing.T) {
	o := wal.Options{SegmentBytes: 2 << 10, MaxBytes: 32 << 10}
	for _, number := range []int{0x100, 0} {
		disk := waltest.New(42)
		fill(t, open(t, disk, wal.Options{Epoch: 1, SegmentBytes: 2 << 10}), 40)
		if number == 0 {
			renumber(t, disk)
		}
		for n := range 20 {
			disk.Put(segmentName(number+n), bytes.Repeat([]byte("strange"), 2000))
		}
		log, scan, err := wal.Open(disk, o)
		if err != nil || scan.Last != 40 {
			t.Fatalf("last %d, error %v", scan.Last, err)
		}
		if lost, err := log.Room(0, shed); err != nil || lost > 0 {
			t.Errorf("%d records lost their content, error %v", lost, err)
		}
		if _, _, over := log.Oldest(); over {
			t.Error("records would be dropped")
		}
		fill(t, log, 300)
		if _, err := log.Room(log.Durable(), shed); err != nil {
			t.Fatal(err)
		}
		there := 0
		names, _ := disk.List()
		for _, name := range names {
			if bytes.HasPrefix(disk.Content(name), []byte("strange")) {
				there++
			}
		}
		if k := log.Kept(); there != 20 || k.Gone != 0 || k.Bytes > o.MaxBytes/4 {
			t.Errorf("%d of 20 strange files are there, kept %+v", there, k)
		}
	}
}

func segmentName(n int) string { return fmt.Sprintf("%016x.wal", n) }

// renumber moves a log's segments behind others that are put in front.
func renumber(t *testing.T, d *waltest.Disk) {
	t.Helper()
	names, _ := d.List()
	for n, name := range names {
		if err := d.Rename(name, segmentName(0x80+n)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestASegmentWhoseEndIsWrittenAgainStays: after a start the last record counts
// as not durable until its second copy is synced; until then the first copy is
// the only one that a power cut leaves.
//
// Verifies: SR-050
func TestASegmentWhoseEndIsWrittenAgainStays(t *testing.T) {
	o := wal.Options{SegmentBytes: 2 << 10, MaxBytes: 4 << 10}
	disk := waltest.New(43)
	fill(t, open(t, disk, o), 60)
	log := open(t, disk, o)
	fillPending(t, log, 1) // writes 60 again, and 61, without a sync
	if _, err := log.Room(60, shed); err != nil {
		t.Fatal(err)
	}
	disk.Cuts(waltest.Limits{}, func(_ string, after *waltest.Disk) bool {
		if _, have := contents(t, after); !have[60] {
			t.Error("record 60 was durable before the start and is gone")
		}
		return !t.Failed()
	})
}
