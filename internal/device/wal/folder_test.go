package wal_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
)

// threeSegments is a folder of three segments, as bad input begins with.
func threeSegments(t *testing.T) (names []string, folder map[string][]byte) {
	t.Helper()
	disk := waltest.New(30)
	log := open(t, disk, wal.Options{SegmentBytes: 1 << 10})
	for len(names) < 4 { // the fourth is left out, so that the third is full
		fill(t, log, 1)
		names, _ = disk.List()
	}
	names, folder = names[:3], map[string][]byte{}
	for _, name := range names {
		folder[name] = disk.Content(name)
	}
	return names, folder
}

func diskOf(folder map[string][]byte) *waltest.Disk {
	disk := waltest.New(31)
	for name, b := range folder {
		disk.Put(name, b)
	}
	return disk
}

// sound goes on with a log that was tampered with and fails where it invents a
// record, loses one that it calls durable without saying so, gives a number
// twice, does not go on, or forgets at the next start. durable is what the log
// called durable before, from from on.
func sound(t *testing.T, disk *waltest.Disk, from, durable uint64, what string) {
	t.Helper()
	before, have := contents(t, disk)
	for n := from; n <= durable; n++ {
		if !have[n] && len(before.Damage) == 0 {
			t.Fatalf("%s: record %d is gone and nothing is said", what, n)
		}
	}
	log, scan, err := wal.Open(disk, wal.Options{Epoch: 1, SegmentBytes: 1 << 10})
	if err != nil || fmt.Sprint(scan.Damage) != fmt.Sprint(before.Damage) {
		t.Fatalf("%s: open finds %v, inspect %v, error %v", what, scan.Damage, before.Damage, err)
	}
	next := log.Next()
	if next <= before.Last || scan.Epoch != 0 && next <= before.Durable {
		t.Fatalf("%s: record %d would be next; the newest is %d, durable %d", what, next, before.Last, before.Durable)
	}
	fill(t, log, 2)
	after, have := contents(t, disk.PowerCut())
	if !have[next] || !have[next+1] || after.Last != next+1 {
		t.Fatalf("%s: records %d and %d were appended, the newest is %d", what, next, next+1, after.Last)
	}
	for _, d := range before.Damage {
		if !strings.Contains(fmt.Sprint(after.Damage), d.Segment) {
			t.Fatalf("%s: %v is forgotten at the next start: %v", what, d, after.Damage)
		}
	}
}

// calledDurable is what a log's own records call durable.
func calledDurable(t *testing.T, folder map[string][]byte) uint64 {
	t.Helper()
	scan, _ := contents(t, diskOf(folder))
	return scan.Durable
}

// Verifies: SR-051
func TestAFlippedBitAnywhere(t *testing.T) { flipBits(t, 1) }

// flipBits flips so many bits of each byte, one at a time.
func flipBits(t *testing.T, bits int) {
	names, folder := threeSegments(t)
	durable, count := calledDurable(t, folder), 0
	for _, name := range names {
		for off := range folder[name] {
			for n := range bits {
				bit := (off + n) % 8
				disk := diskOf(folder)
				b := bytes.Clone(folder[name])
				b[off] ^= 1 << bit
				disk.Put(name, b)
				sound(t, disk, 1, durable, fmt.Sprintf("%s, offset %d, bit %d", name, off, bit))
				count++
			}
		}
	}
	t.Logf("%d flips, %d records, up to %d called durable", count, durable+1, durable)
}

// Verifies: SR-051
func TestASegmentCutAtAnyLength(t *testing.T) {
	names, folder := threeSegments(t)
	for i, name := range names {
		for n := range len(folder[name]) {
			disk := diskOf(folder)
			disk.Put(name, folder[name][:n])
			from, durable := uint64(1), calledDurable(t, folder)
			switch scan, _ := contents(t, disk); {
			case i == 0 && n < 28:
				// As a segment that was begun and never used, behind some that
				// were recycled.
				from = scan.First
			case i == len(names)-1:
				// Nothing behind the place says what was durable: only what the
				// segments that are left say.
				durable = scan.Durable
			}
			sound(t, disk, from, durable, fmt.Sprintf("%s cut at %d", name, n))
		}
	}
}

// Verifies: SR-051
func TestNamesOfSegmentsExchanged(t *testing.T) {
	names, folder := threeSegments(t)
	durable := calledDurable(t, folder)
	for i := range names {
		for k := range i {
			disk := diskOf(folder)
			disk.Put(names[i], folder[names[k]])
			disk.Put(names[k], folder[names[i]])
			sound(t, disk, 1, durable, names[i]+" for "+names[k])
			disk = diskOf(folder)
			disk.Put(names[i], folder[names[k]])
			sound(t, disk, 1, min(durable, calledDurable(t, map[string][]byte{names[i]: folder[names[k]]})), names[k]+" twice")
		}
	}
}

// TestOddThingsWithASegmentsName: what is no plain file is named, not followed,
// not waited for, and in nobody's way.
//
// Verifies: SR-051
func TestOddThingsWithASegmentsName(t *testing.T) {
	rows := []struct {
		name string
		make func(path string) error
		want string // in the damage; empty: none
	}{
		{"a pipe", func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a plain file"},
		{"a link", func(path string) error { return os.Symlink("/etc/passwd", path) }, "not a plain file"},
		{"a link to itself", func(path string) error { return os.Symlink(filepath.Base(path), path) }, "not a plain file"},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, "not a plain file"},
		{"a huge file of zeros", func(path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		}, "not a segment of a Ward journal"},
		{"an empty file", func(path string) error { return os.WriteFile(path, nil, 0o600) }, ""},
	}
	_, folder := threeSegments(t)
	for _, row := range rows {
		for _, name := range []string{"0000000000000000.wal", "00000000000000f0.wal"} {
			t.Run(row.name+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				for name, b := range folder {
					if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				odd := filepath.Join(dir, name)
				if err := row.make(odd); err != nil {
					t.Fatal(err)
				}
				before, err := os.Lstat(odd)
				if err != nil {
					t.Fatal(err)
				}
				log, scan, err := wal.Open(wal.Dir(dir), wal.Options{SegmentBytes: 1 << 10, MaxBytes: 8 << 10})
				if err != nil {
					t.Fatal(err)
				}
				if got := fmt.Sprint(scan.Damage); (row.want == "") != (len(scan.Damage) == 0) || !strings.Contains(got, row.want) {
					t.Errorf("damage %s, want %q", got, row.want)
				}
				next := log.Next()
				fill(t, log, 20)
				if _, err := log.Room(log.Durable(), shed); err != nil {
					t.Error(err)
				}
				if got, err := log.Read(next+17, 9); err != nil || len(got) != 2 {
					t.Errorf("%d records, error %v", len(got), err)
				}
				if after, err := os.Lstat(odd); row.want != "" && (err != nil || after.Size() != before.Size() || after.Mode() != before.Mode()) {
					t.Errorf("it is now %v, error %v", after, err)
				}
			})
		}
	}
}

// as runs f with another user's rights to files.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can act as another user")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.Setfsuid(uid); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setfsuid(0); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

// Verifies: SR-051
func TestAFolderWithoutRights(t *testing.T) {
	const nobody = 65534
	_, folder := threeSegments(t)
	// The test's own temporary folder is closed to others.
	make := func(t *testing.T, mode os.FileMode) string {
		dir, err := os.MkdirTemp("", "walrights")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		for name, b := range folder {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, first+".new"), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	t.Run("nothing may be written", func(t *testing.T) {
		dir := make(t, 0o755)
		as(t, nobody, func() {
			log, scan, err := wal.Open(wal.Dir(dir), wal.Options{Epoch: 9})
			if err != nil || len(scan.Damage) > 0 || log.Epoch() != 1 {
				t.Fatalf("damage %v, error %v", scan.Damage, err)
			}
			next := log.Next()
			fillPending(t, log, 2)
			if err := log.Sync(); err == nil {
				t.Error("a folder that may not be written was written")
			}
			if got, err := log.Read(next-1, 9); err != nil || len(got) != 2 {
				t.Errorf("%d records wait, error %v", len(got), err)
			}
			if _, err := log.Room(next, shed); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("nothing may be read", func(t *testing.T) {
		dir := make(t, 0o700)
		as(t, nobody, func() {
			if _, _, err := wal.Open(wal.Dir(dir), wal.Options{}); err == nil {
				t.Error("a folder that may not be read was opened as an empty log")
			}
		})
	})
	t.Run("one segment may not be read", func(t *testing.T) {
		dir := make(t, 0o755)
		if err := os.Chmod(filepath.Join(dir, second), 0o600); err != nil {
			t.Fatal(err)
		}
		as(t, nobody, func() {
			log, scan, err := wal.Open(wal.Dir(dir), wal.Options{})
			if err != nil || !strings.Contains(fmt.Sprint(scan.Damage), "permission denied") {
				t.Fatalf("damage %v, error %v", scan.Damage, err)
			}
			if whole := calledDurable(t, folder) + 1; scan.Last != whole || log.Next() != whole+1 {
				t.Errorf("last %d, next %d, want %d", scan.Last, log.Next(), whole)
			}
		})
	})
	t.Run("no segment may be read", func(t *testing.T) {
		dir := make(t, 0o755)
		for name := range folder {
			if err := os.Chmod(filepath.Join(dir, name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		as(t, nobody, func() {
			if _, _, err := wal.Open(wal.Dir(dir), wal.Options{}); err == nil {
				t.Error("segments that may not be read were taken for an empty log")
			}
		})
	})
}

// Verifies: SR-051
func TestNumbersNearTheHighest(t *testing.T) {
	const top = 1<<64 - 1
	rows := []struct {
		name    string
		segment []byte
	}{
		{"first", segment(1, top)},
		{"first, with a record", segment(1, top, record(top, top-1, 1, "x"))},
		{"first, which wraps", segment(1, top, record(top, top-1, 1, "x"), record(0, 0, 1, "y"))},
		{"first is zero", segment(1, 0, record(0, 0, 1, "x"))},
		{"epoch", segment(top, 1, record(1, 0, 1, "x"))},
		{"epoch is zero", segment(0, 1, record(1, 0, 1, "x"))},
		{"durable", segment(1, 40, record(40, top, 1, "x"))},
		{"behind a bad place", segment(1, 40, []byte("bad"), record(top, top-1, 1, "x"))},
		{"behind a bad header", append([]byte("bad"), segment(1, 40, record(1<<62-1, 1<<62-2, 1, "x"))...)},
	}
	_, folder := threeSegments(t)
	for _, row := range rows {
		for _, name := range []string{"0000000000000000.wal", "00000000000000f0.wal", "7fffffffffffffff.wal", "ffffffffffffffff.wal"} {
			for _, others := range []map[string][]byte{nil, folder} {
				disk := diskOf(others)
				disk.Put(name, row.segment)
				log, _, err := wal.Open(disk, wal.Options{Epoch: 1, SegmentBytes: 1 << 10})
				if err != nil {
					t.Fatalf("%s in %s: %v", row.name, name, err)
				}
				next := log.Next()
				if _, err := log.Append([]byte("more")); err != nil {
					t.Fatalf("%s in %s: append %d: %v", row.name, name, next, err)
				}
				if err := log.Sync(); err != nil {
					t.Fatalf("%s in %s: %v", row.name, name, err)
				}
				scan, err := wal.Inspect(disk, nil)
				if err != nil || scan.Last != next {
					t.Fatalf("%s in %s: appended %d, the newest is %d, error %v", row.name, name, next, scan.Last, err)
				}
			}
		}
	}
}
