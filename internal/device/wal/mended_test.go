package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
)

const (
	first  = "0000000000000001.wal"
	second = "0000000000000002.wal"
	third  = "0000000000000003.wal"
)

// filled is a disk with a log of n records in small segments.
func filled(t *testing.T, n int) (*waltest.Disk, *wal.Log) {
	t.Helper()
	disk := waltest.New(20)
	log := open(t, disk, wal.Options{SegmentBytes: 2 << 10, MaxBytes: 16 << 10})
	fill(t, log, n)
	return disk, log
}

func flip(t *testing.T, d *waltest.Disk, name string, offset int) {
	t.Helper()
	b := d.Content(name)
	b[offset] ^= 4
	d.Put(name, b)
}

// TestWhatWasFoundStaysMended has a row for every defect that the exploration of
// crashes and of bad folders has found.
//
// Verifies: SR-050 SR-051
func TestWhatWasFoundStaysMended(t *testing.T) {
	rows := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"of two removed segments the later one comes back and looks like a gap", func(t *testing.T) {
			disk, log := filled(t, 120)
			disk.Watch(func(waltest.Op) {
				disk.Cuts(waltest.Limits{Exhaustive: 8}, func(_ string, after *waltest.Disk) bool {
					if scan, _ := contents(t, after); len(scan.Damage) > 0 {
						t.Errorf("recycling, cut short, reads as damage: %v", scan.Damage)
					}
					return !t.Failed()
				})
			})
			if _, err := log.Room(120, shed); err != nil {
				t.Fatal(err)
			}
		}},
		{"a full disk takes the last segment that tells epoch and number", func(t *testing.T) {
			disk, log := filled(t, 60)
			disk.Break(syscall.ENOSPC, func(op string) bool { return op == "create" || op == "write" })
			fillPending(t, log, 3)
			for range 40 {
				if _, err := log.Room(60, shed); err != nil {
					t.Fatal(err)
				}
			}
			if scan, _ := contents(t, disk.Fork()); scan.Epoch != 1 || scan.Last != 60 {
				t.Errorf("epoch %d and record %d are left, want 1 and 60", scan.Epoch, scan.Last)
			}
		}},
		{"numbers are given twice behind damage in the last segment", func(t *testing.T) {
			disk := waltest.New(20)
			fill(t, open(t, disk, wal.Options{}), 40)
			flip(t, disk, first, 60)
			log, scan, err := wal.Open(disk, wal.Options{Epoch: 1})
			if err != nil || len(scan.Damage) != 1 || log.Next() != 41 {
				t.Errorf("damage %v, error %v, next is %d, want 41", scan.Damage, err, log.Next())
			}
		}},
		{"damage in the last segment is no longer seen at the second start", func(t *testing.T) {
			disk := waltest.New(20)
			fill(t, open(t, disk, wal.Options{}), 40)
			flip(t, disk, first, 60)
			var told [2]string
			for n := range told {
				log, scan, err := wal.Open(disk, wal.Options{Epoch: 1})
				if err != nil {
					t.Fatal(err)
				}
				told[n] = fmt.Sprint(scan.Damage)
				fill(t, log, 2)
			}
			if told[0] != told[1] || told[0] == "[]" {
				t.Errorf("told %s, then %s", told[0], told[1])
			}
		}},
		{"a leftover that cannot be removed stops the start", func(t *testing.T) {
			disk, _ := filled(t, 5)
			disk.Put(first+".new", []byte("half"))
			disk.Break(syscall.EROFS, func(string) bool { return true })
			log, _, err := wal.Open(disk, wal.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := log.Read(0, 9); err != nil || len(got) != 4 {
				t.Errorf("%d records, error %v; want the four that are known to be durable", len(got), err)
			}
		}},
		{"a leftover that could not be removed stops shedding", func(t *testing.T) {
			disk := waltest.New(6)
			log := open(t, disk, small)
			fill(t, log, 300)
			disk.Put(first+".new", []byte("half"))
			if lost, err := log.Room(0, shed); err != nil || lost == 0 {
				t.Errorf("%d lost their content, error %v", lost, err)
			}
		}},
		{"a segment that somebody removed stops recycling", func(t *testing.T) {
			disk, log := filled(t, 120)
			if err := disk.Remove(first); err != nil {
				t.Fatal(err)
			}
			if _, err := log.Room(120, shed); err != nil || log.Size() > 16<<10 {
				t.Errorf("%d bytes are left, error %v", log.Size(), err)
			}
		}},
		{"shedding rewrites a damaged segment without what is behind the bad place", func(t *testing.T) {
			disk := waltest.New(6)
			fill(t, open(t, disk, small), 300)
			flip(t, disk, second, 100)
			before := disk.Content(second)
			if _, err := open(t, disk, small).Room(0, shed); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(disk.Content(second), before) {
				t.Error("the damaged segment was changed")
			}
		}},
		{"content is lost and not counted when the folder's sync fails", func(t *testing.T) {
			disk := waltest.New(6)
			log := open(t, disk, small)
			fill(t, log, 300)
			disk.Break(nil, func(op string) bool { return op == "syncdir" })
			if lost, err := log.Room(0, shed); !errors.Is(err, waltest.ErrInjected) || lost == 0 {
				t.Errorf("%d lost their content, error %v", lost, err)
			}
		}},
		{"one segment that the disk does not give stops the start", func(t *testing.T) {
			for _, name := range []string{first, second, third} {
				disk, _ := filled(t, 30)
				whole, _ := contents(t, disk)
				disk.BreakReads(syscall.EIO, func(op, of string) bool { return op == "read" && of == name })
				log, scan, err := wal.Open(disk, wal.Options{Epoch: 9})
				if err != nil || !strings.Contains(fmt.Sprint(scan.Damage), "input/output error") {
					t.Fatalf("%s: damage %v, error %v", name, scan.Damage, err)
				}
				if log.Epoch() != 1 || log.Next() <= whole.Last {
					t.Errorf("%s: record %d of epoch %d would be next; %d was given", name, log.Next(), log.Epoch(), whole.Last)
				}
				disk.Mend() // it was the cable
				if again, have := contents(t, disk); len(have) != 30 || len(again.Damage) > 0 {
					t.Errorf("%s: later there are %d records, damage %v", name, len(have), again.Damage)
				}
			}
		}},
		{"a disk that gives nothing reads as an empty log", func(t *testing.T) {
			disk, _ := filled(t, 30)
			disk.BreakReads(syscall.EIO, func(op, _ string) bool { return op == "read" })
			if _, _, err := wal.Open(disk, wal.Options{Epoch: 9}); !errors.Is(err, syscall.EIO) {
				t.Errorf("error %v, want EIO", err)
			}
		}},
		{"a header of which seven bytes were written is taken for another version", func(t *testing.T) {
			disk, _ := filled(t, 30)
			disk.Put("00000000000000f0.wal", append([]byte("WARDWAL"), make([]byte, 21)...))
			if scan, have := contents(t, disk); len(scan.Damage) > 0 || scan.Torn == nil || len(have) != 30 {
				t.Errorf("%d records, damage %v, torn %v; want an unfinished end", len(have), scan.Damage, scan.Torn)
			}
		}},
		{"the highest name makes the next one the lowest", func(t *testing.T) {
			disk, _ := filled(t, 30)
			disk.Put("ffffffffffffffff.wal", disk.Content(first))
			log, scan, err := wal.Open(disk, wal.Options{})
			if err != nil || len(scan.Damage) != 1 || scan.Last != 30 {
				t.Fatalf("damage %v, last %d, error %v", scan.Damage, scan.Last, err)
			}
			fill(t, log, 3)
			if scan, have := contents(t, disk); len(have) != 33 || scan.Last != 33 {
				t.Errorf("%d records up to %d, want 33", len(have), scan.Last)
			}
		}},
		{"a gap in the numbers takes memory for each", func(t *testing.T) {
			disk, _ := filled(t, 30)
			disk.Put("00000000000000ff.wal", segment(1, 1<<62, record(1<<62, 1<<62-1, 1, "far")))
			log, scan, err := wal.Open(disk, wal.Options{})
			if err != nil || len(scan.Damage) != 1 {
				t.Fatalf("damage %v, error %v", scan.Damage, err)
			}
			if _, err := log.Append([]byte("more")); err == nil {
				t.Error("a record got a number that no reader takes")
			}
		}},
		{"a record calls itself durable, or what comes later", func(t *testing.T) {
			disk, _ := filled(t, 3)
			b := disk.Content(first)
			disk.Put(first, append(b, record(4, 1<<60, 1, "liar")...))
			if scan, _ := contents(t, disk); scan.Last != 3 || scan.Durable > 3 {
				t.Errorf("last %d, durable %d", scan.Last, scan.Durable)
			}
		}},
	}
	for _, row := range rows {
		t.Run(row.name, row.run)
	}
}
