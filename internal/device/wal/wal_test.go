package wal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
)

func payload(n uint64) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "event %d;", n), int(1+n%40))
}

// contents reads a whole log and fails on a record that was never appended.
func contents(t *testing.T, fs wal.FS) (wal.Scan, map[uint64]bool) {
	t.Helper()
	have := map[uint64]bool{}
	scan, err := wal.Inspect(fs, func(r wal.Record) error {
		want := payload(r.Sequence)
		if r.Kind == wal.Stub {
			h := sha256.Sum256(want)
			want = h[:]
		}
		if !bytes.Equal(r.Payload, want) {
			t.Fatalf("record %d holds %q", r.Sequence, r.Payload)
		}
		if have[r.Sequence] {
			t.Fatalf("record %d comes twice", r.Sequence)
		}
		have[r.Sequence] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return scan, have
}

var shed = wal.Shed{
	Hash:   func(b []byte) [32]byte { return sha256.Sum256(b) },
	Worth:  func(b []byte) int { return 1 + len(b)%3 },
	Levels: 3,
}

// TestPowerCutKeepsWhatWasSynced runs random histories in which any operation
// may fail and which end, again and again, with a power cut or a killed
// process: what Sync confirmed is there, whole or as its hash, nothing was
// invented, and none of it looks like damage.
//
// Verifies: SR-009
func TestPowerCutKeepsWhatWasSynced(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		disk := waltest.New(seed)
		var durable, acknowledged uint64
		for life := range 5 {
			log, scan, err := wal.Open(disk, wal.Options{Epoch: 1, SegmentBytes: 6 << 10, MaxBytes: 20 << 10})
			if err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			if len(scan.Damage) > 0 {
				t.Fatalf("seed %d, life %d: a power cut reads as damage: %v", seed, life, scan.Damage)
			}
			disk.Break(nil, func(string) bool { return rnd.IntN(12) == 0 })
			for range rnd.IntN(80) {
				if seq, err := log.Append(payload(log.Next())); err == nil && seq != log.Next()-1 {
					t.Fatalf("append gave %d, next is %d", seq, log.Next())
				}
				switch rnd.IntN(6) {
				case 0:
					if log.Sync() == nil {
						durable = log.Durable()
					}
				case 1:
					if rnd.IntN(3) == 0 {
						acknowledged = max(acknowledged, durable*uint64(rnd.IntN(4))/4)
					}
					_, _ = log.Room(acknowledged, shed) // may fail like all else
				}
			}
			disk.Mend()
			if rnd.IntN(3) > 0 { // else the process was killed and the kernel went on
				disk = disk.PowerCut()
			}
			last, have := contents(t, disk)
			for n := uint64(1); n <= max(durable, last.Last); n++ {
				if !have[n] && n > acknowledged {
					t.Fatalf("seed %d, life %d: record %d is gone; durable %d, newest %d, acknowledged %d", seed, life, n, durable, last.Last, acknowledged)
				}
			}
		}
	}
}

func open(t *testing.T, fs wal.FS, o wal.Options) *wal.Log {
	t.Helper()
	o.Epoch = 1
	log, _, err := wal.Open(fs, o)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func fill(t *testing.T, log *wal.Log, n int) {
	t.Helper()
	for range n {
		if _, err := log.Append(payload(log.Next())); err != nil {
			t.Fatal(err)
		}
		if err := log.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

// Verifies: SR-009
func TestDamageIsToldFromAnUnfinishedEnd(t *testing.T) {
	disk := waltest.New(1)
	log := open(t, disk, wal.Options{})
	fill(t, log, 20)
	name := "0000000000000001.wal"
	size := len(disk.Content(name))
	missed := 0
	for off := range size {
		disk.Corrupt(name, off)
		scan, have := contents(t, disk)
		switch {
		case len(scan.Damage) == 0 && scan.Torn == nil:
			t.Fatalf("a flipped bit at offset %d is not seen", off)
		case len(scan.Damage) == 0 && scan.Torn != nil:
			// Only the last record may look unfinished: no later one says
			// that it was durable.
			if len(have) < 19 && off >= 28 {
				missed++
			}
		}
		disk.Corrupt(name, off)
	}
	if missed > 0 {
		t.Fatalf("at %d offsets before the last record damage looks like an unfinished end", missed)
	}
}

func TestAFullDiskLosesNothingThatFitsIntoMemory(t *testing.T) {
	disk := waltest.New(3)
	log := open(t, disk, wal.Options{MaxPending: 64 << 10})
	fill(t, log, 5)
	disk.Break(nil, func(op string) bool { return op == "write" || op == "create" })
	fillPending(t, log, 50)
	if err := log.Sync(); !errors.Is(err, waltest.ErrInjected) {
		t.Fatalf("sync on a full disk gave %v", err)
	}
	got, err := log.Read(0, 100)
	if err != nil || len(got) != 55 {
		t.Fatalf("read %d records, error %v; want all 55 while the disk is full", len(got), err)
	}
	disk.Mend()
	if err := log.Sync(); err != nil || log.Failing() != nil {
		t.Fatalf("the disk is mended, sync gives %v, failing %v", err, log.Failing())
	}
	if _, have := contents(t, disk.PowerCut()); len(have) != 55 {
		t.Fatalf("%d records after the power cut, want 55", len(have))
	}
}

func TestMemoryIsBounded(t *testing.T) {
	disk := waltest.New(4)
	log := open(t, disk, wal.Options{MaxPending: 4096})
	disk.Break(nil, func(string) bool { return true })
	var err error
	for n := 0; n < 1000 && err == nil; n++ {
		_, err = log.Append(payload(log.Next()))
	}
	if !errors.Is(err, wal.ErrFull) {
		t.Fatalf("a disk that never works gives %v, want ErrFull", err)
	}
}

// small makes several segments of a few events, and a bound of ten blocks.
var small = wal.Options{SegmentBytes: 8 << 10, MaxBytes: 40 << 10}

// Verifies: SR-009 SR-010
func TestRoom(t *testing.T) {
	t.Run("acknowledged segments go first", func(t *testing.T) {
		disk := waltest.New(5)
		log := open(t, disk, small)
		fill(t, log, 300)
		if lost, err := log.Room(300, shed); err != nil || lost != 0 {
			t.Fatalf("%d lost their content, error %v", lost, err)
		}
		if log.Size() > small.MaxBytes {
			t.Fatalf("%d bytes are left", log.Size())
		}
		scan, have := contents(t, disk)
		if len(scan.Damage) > 0 || scan.Last != 300 || len(have) != int(300-scan.First+1) || scan.First == 1 {
			t.Fatalf("scan %+v with %d records", scan, len(have))
		}
	})
	t.Run("unacknowledged ones leave their hash", func(t *testing.T) {
		disk := waltest.New(6)
		log := open(t, disk, small)
		fill(t, log, 300)
		lost, err := log.Room(0, shed)
		if err != nil || lost == 0 || lost == 300 {
			t.Fatalf("%d lost their content, error %v", lost, err)
		}
		scan, have := contents(t, disk.PowerCut())
		if len(scan.Damage) > 0 || len(have) != 300 || log.Size() > small.MaxBytes {
			t.Fatalf("damage %v, %d records, %d bytes; want every record or its hash", scan.Damage, len(have), log.Size())
		}
		got, err := log.Read(0, 400)
		if err != nil || len(got) != 300 {
			t.Fatalf("read %d records, error %v", len(got), err)
		}
	})
	t.Run("what was lately written keeps its content", func(t *testing.T) {
		disk := waltest.New(6)
		log := open(t, disk, small)
		fill(t, log, 300)
		if _, err := log.Room(0, shed); err != nil {
			t.Fatal(err)
		}
		got, err := log.Read(299, 1)
		if err != nil || len(got) != 1 || got[0].Kind != wal.Full {
			t.Fatalf("the newest record reads %v, error %v", got, err)
		}
	})
	t.Run("hashes go when nothing else is left", func(t *testing.T) {
		disk := waltest.New(7)
		log := open(t, disk, wal.Options{SegmentBytes: 4 << 10, MaxBytes: 8 << 10})
		fill(t, log, 300)
		if _, err := log.Room(0, shed); err != nil {
			t.Fatal(err)
		}
		n := 0
		for {
			first, last, over := log.Oldest()
			if !over {
				break
			}
			if first != 1 && n == 0 || last < first {
				t.Fatalf("the oldest segment holds %d to %d", first, last)
			}
			if err := log.DropOldest(); err != nil {
				t.Fatal(err)
			}
			n++
		}
		scan, _ := contents(t, disk)
		if n == 0 || log.Size() > 8<<10 || len(scan.Damage) > 0 || scan.Last != 300 {
			t.Fatalf("%d segments went, %d bytes are left, scan %+v", n, log.Size(), scan)
		}
	})
	t.Run("a full disk takes acknowledged segments under the bound", func(t *testing.T) {
		disk := waltest.New(8)
		log := open(t, disk, wal.Options{SegmentBytes: 2 << 10})
		fill(t, log, 100)
		disk.Break(syscall.ENOSPC, func(op string) bool { return op == "write" || op == "create" })
		fillPending(t, log, 20)
		if err := log.Sync(); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("sync on a full disk gave %v", err)
		}
		before := log.Size()
		if _, err := log.Room(50, shed); err != nil || log.Size() >= before {
			t.Fatalf("%d bytes before, %d after, error %v", before, log.Size(), err)
		}
	})
}

func fillPending(t *testing.T, log *wal.Log, n int) {
	t.Helper()
	for range n {
		if _, err := log.Append(payload(log.Next())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatDoesNotBelongIsDamage(t *testing.T) {
	var other []byte
	{
		disk := waltest.New(9)
		log, _, err := wal.Open(disk, wal.Options{Epoch: 2})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, log, 3)
		other = disk.Content("0000000000000001.wal")
	}
	rows := []struct {
		name string
		harm func(d *waltest.Disk)
		want string
		last uint64
	}{
		{"a segment of another epoch before", func(d *waltest.Disk) { d.Put("0000000000000000.wal", other) }, "a segment of epoch 2 in a journal of epoch 1", 60},
		{"a segment that is no segment", func(d *waltest.Disk) { d.Put("0000000000000000.wal", []byte("hello")) }, "", 60},
		{"the header of a segment with records", func(d *waltest.Disk) { d.Corrupt("0000000000000002.wal", 3) }, "not a segment", 60},
		{"a segment taken out", func(d *waltest.Disk) { _ = d.Remove("0000000000000002.wal") }, "are missing behind it", 60},
		{"two segments swapped", func(d *waltest.Disk) {
			a, b := d.Content("0000000000000002.wal"), d.Content("0000000000000003.wal")
			d.Put("0000000000000002.wal", b)
			d.Put("0000000000000003.wal", a)
		}, "are missing behind it", 60},
		{"the first record of several segments", func(d *waltest.Disk) { d.Corrupt("0000000000000001.wal", 40) }, "does not fit its checksum", 60},
		{"a segment of another history behind", func(d *waltest.Disk) {
			twin := waltest.New(9)
			log := open(t, twin, wal.Options{})
			for range 30 {
				if _, err := log.Append([]byte("another")); err != nil {
					t.Fatal(err)
				}
			}
			d.Put("00000000000000ff.wal", twin.Content("0000000000000001.wal"))
		}, "record 1 is another one", 60},
		{"a segment cut short", func(d *waltest.Disk) {
			b := d.Content("0000000000000002.wal")
			d.Put("0000000000000002.wal", b[:len(b)-10])
		}, "cut short", 60},
		{"a file of another kind", func(d *waltest.Disk) { d.Put("notes.txt", []byte("hello")) }, "", 60},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			disk := waltest.New(10)
			fill(t, open(t, disk, wal.Options{SegmentBytes: 2 << 10}), 60)
			row.harm(disk)
			log, scan, err := wal.Open(disk, wal.Options{Epoch: 7})
			if err != nil {
				t.Fatal(err)
			}
			if row.want == "" && len(scan.Damage) > 0 || row.want != "" && (len(scan.Damage) == 0 || !strings.Contains(fmt.Sprint(scan.Damage), row.want)) {
				t.Errorf("damage %v, want %q", scan.Damage, row.want)
			}
			if scan.Last != row.last || log.Epoch() != 1 {
				t.Errorf("last record %d in epoch %d, want %d in 1", scan.Last, log.Epoch(), row.last)
			}
			fill(t, log, 3)
			if got, err := log.Read(row.last, 5); err != nil || len(got) != 3 {
				t.Errorf("what is appended behind reads %v, error %v", got, err)
			}
		})
	}
}

func TestTheSequenceDoesNotGoBack(t *testing.T) {
	disk := waltest.New(11)
	fill(t, open(t, disk, wal.Options{}), 5)
	log := open(t, disk, wal.Options{Known: wal.Place{Epoch: 1, Sequence: 8}})
	fill(t, log, 1)
	if log.Durable() != 9 {
		t.Fatalf("the record has number %d, want 9", log.Durable())
	}
	scan, have := contents(t, disk)
	if len(have) != 6 || len(scan.Damage) != 1 || !strings.Contains(scan.Damage[0].Reason, "6 to 8 are missing") {
		t.Fatalf("%d records, damage %v; want the gap told", len(have), scan.Damage)
	}
}

func TestALeftoverOfRewritingGoes(t *testing.T) {
	disk := waltest.New(12)
	fill(t, open(t, disk, wal.Options{}), 5)
	disk.Put("0000000000000001.wal.new", []byte("half"))
	fill(t, open(t, disk, wal.Options{}), 5)
	names, err := disk.List()
	if err != nil || len(names) != 2 {
		t.Fatalf("the folder holds %q, error %v", names, err)
	}
}

// Verifies: SR-010
func TestReadGivesWhatIsDurable(t *testing.T) {
	disk := waltest.New(13)
	log := open(t, disk, wal.Options{})
	fill(t, log, 3)
	fillPending(t, log, 2)
	got, err := log.Read(1, 10)
	if err != nil || len(got) != 2 || log.Newest() != 3 {
		t.Fatalf("read %d records, newest %d, error %v; want two that are durable", len(got), log.Newest(), err)
	}
	if got, err = log.Read(0, 2); err != nil || len(got) != 2 || got[1].Sequence != 2 {
		t.Fatalf("read %v, error %v; want two", got, err)
	}
}

// A segment made so that a record seems to begin at every place does not hold up
// the start.
func TestAHostileSegmentIsReadInBoundedTime(t *testing.T) {
	disk := waltest.New(14)
	fill(t, open(t, disk, wal.Options{}), 1)
	b := disk.Content("0000000000000001.wal")[:28]
	header, err := hex.DecodeString("ffff0100" + "00000000" + "0500000000000000" + "0400000000000000" + "01000000")
	if err != nil {
		t.Fatal(err)
	}
	disk.Put("0000000000000001.wal", append(b, bytes.Repeat(header, 4<<20/len(header))...))
	begun := time.Now()
	contents(t, disk)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("reading took %s", took)
	}
}

func FuzzScan(f *testing.F) {
	disk := waltest.New(8)
	log, _, err := wal.Open(disk, wal.Options{Epoch: 1})
	if err != nil {
		f.Fatal(err)
	}
	for range 5 {
		if _, err := log.Append(payload(log.Next())); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(disk.Content("0000000000000001.wal"))
	f.Add([]byte("WARDWAL1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := wal.Memory()
		file, err := fs.Open("0000000000000001.wal", true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		log, _, err := wal.Open(fs, wal.Options{Epoch: 1})
		if err != nil {
			return
		}
		if _, err := log.Append([]byte("more")); err != nil {
			t.Fatal(err)
		}
		if err := log.Sync(); err != nil {
			t.Fatal(err)
		}
		if got, err := log.Read(log.Next()-2, 1); err != nil || len(got) != 1 || string(got[0].Payload) != "more" {
			t.Fatalf("what was appended behind a strange segment reads %v, error %v", got, err)
		}
	})
}
