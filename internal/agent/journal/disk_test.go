package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/agent/journal/audit"
	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// A disk that begins to fail while the journal runs: what is recorded waits in
// memory and can be read, the condition is raised once, and when the disk heals
// everything is on it, once.
//
// Verifies: SR-017 SR-057
func TestADiskThatFailsLater(t *testing.T) {
	ops := func(names ...string) func(string) bool {
		return func(op string) bool { return strings.Contains(strings.Join(names, " ")+" ", op+" ") }
	}
	for _, row := range []struct {
		name  string
		fault error
		fail  func(string) bool
	}{
		{"read-only", syscall.EROFS, ops("create", "write", "rename", "remove", "syncdir")},
		{"full", syscall.ENOSPC, ops("create", "write")},
		{"writes that fail", syscall.EIO, ops("write")},
		{"an fsync that fails", syscall.EIO, ops("sync")},
		{"a folder that cannot be synced", syscall.EIO, ops("syncdir")},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := waltest.New(7)
				j := open(t, "", disk, 0)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() { _ = j.Run(ctx) }()
				record(t, j, grave("a"))
				disk.Break(row.fault, row.fail)
				if row.name == "a folder that cannot be synced" {
					// It is synced for a new segment; one that failed is followed by one.
					disk.Break(row.fault, func(op string) bool { return op == "sync" || row.fail(op) })
				}
				for n := range 20 {
					record(t, j, grave(fmt.Sprint("b", n)), low(fmt.Sprint("c", n)))
					time.Sleep(10 * time.Second)
				}
				details, own := happened(t, j)
				if s := j.Status(); s.Error == "" || s.Durable != 2 || own[finding.JournalFailing] != 1 || !strings.HasSuffix(details, "b19 c19") {
					t.Errorf("while it fails: %+v, %v, %q", s, own, details)
				}
				disk.Mend()
				time.Sleep(5 * time.Second)
				details, own = happened(t, j)
				if s := j.Status(); s.Error != "" || s.Durable != s.Sequence || own[finding.JournalFailing] != 2 {
					t.Errorf("healed: %+v, %v", s, own)
				}
				want := "a"
				for n := range 20 {
					want += fmt.Sprintf(" b%d c%d", n, n)
				}
				if details != want {
					t.Errorf("recorded %q, want each once in its order", details)
				}
				if v := verify(t, disk.PowerCut()); len(v.Problems) > 0 || v.Last != j.Status().Sequence {
					t.Errorf("behind a power cut: %+v", v)
				}
			})
		})
	}
}

// mounted is a small file system of its own, which only root can make.
func mounted(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("mount a file system: %v: run as root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func readOnly(t *testing.T, dir string, on bool) {
	t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if on {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("none", dir, "tmpfs", flags, ""); err != nil {
		t.Fatal(err)
	}
}

// ballast fills a file system and returns what empties it again.
func ballast(t *testing.T, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err = f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	f.Close()
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

func tryOpen(dir string) (*journal.Journal, error) {
	return journal.Open(journal.Config{Dir: dir, Source: source, Boot: "b", Monotonic: uptime()})
}

// What cannot be written when the journal is opened is not opened: what would be
// recorded would get the places of records to come. A full disk that holds a
// journal is gone on with, in memory.
//
// Verifies: SR-017 SR-057
func TestADiskThatCannotBeWrittenAtTheStart(t *testing.T) {
	for _, there := range []bool{true, false} {
		t.Run(fmt.Sprintf("read-only, a journal there %v", there), func(t *testing.T) {
			dir := mounted(t, 4<<20)
			want := "a"
			if there {
				j := open(t, dir, nil, 0)
				record(t, j, grave("a"))
				closeJournal(t, j)
			} else {
				want = ""
			}
			readOnly(t, dir, true)
			for range 2 {
				if j, err := tryOpen(dir); !errors.Is(err, syscall.EROFS) {
					t.Fatalf("opened: %v, %v", j, err)
				}
			}
			readOnly(t, dir, false)
			j, err := tryOpen(dir)
			if err != nil {
				t.Fatal(err)
			}
			if details, own := happened(t, j); details != want || own[finding.JournalReset] != 1 || j.Epoch() != 1 {
				t.Errorf("behind it: %q, %v, epoch %d", details, own, j.Epoch())
			}
			closeJournal(t, j)
		})
	}
	t.Run("full, none there", func(t *testing.T) {
		dir := mounted(t, 1<<20)
		empty := ballast(t, dir)
		for range 2 {
			if j, err := tryOpen(dir); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("opened: %v, %v", j, err)
			}
		}
		empty()
		j, err := tryOpen(dir)
		if err != nil || j.Epoch() != 1 {
			t.Fatalf("behind it: %v, %v", j, err)
		}
		closeJournal(t, j)
	})
	t.Run("full, one there", func(t *testing.T) {
		dir := mounted(t, 1<<20)
		j := open(t, dir, nil, 0)
		record(t, j, grave("a"))
		closeJournal(t, j)
		empty := ballast(t, dir)
		j, err := tryOpen(dir)
		if err != nil {
			t.Fatal(err)
		}
		record(t, j, grave("b"), low("c"))
		if s := j.Status(); s.Error == "" || s.Epoch != 1 {
			t.Errorf("status %+v", s)
		}
		empty()
		closeJournal(t, j)
		j = open(t, dir, nil, 0)
		if details, _ := happened(t, j); details != "a b c" || j.Epoch() != 1 {
			t.Errorf("behind it: %q in epoch %d", details, j.Epoch())
		}
		closeJournal(t, j)
	})
}

// A real file system that is full for a while frees what the fleet has confirmed,
// and everything that was recorded is on it in the end.
//
// Verifies: SR-017 SR-057
func TestAFileSystemThatIsFullForAWhile(t *testing.T) {
	dir := mounted(t, 2<<20)
	j := open(t, dir, nil, 0)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- j.Run(ctx) }()
	record(t, j, grave("a"))
	ballast(t, dir)
	for n := range 2000 {
		if err := j.Record(t.Context(), low(fmt.Sprintf("%04d", n))); err != nil && !errors.Is(err, wal.ErrFull) {
			t.Fatal(err)
		}
	}
	guard := time.Now().Add(20 * time.Second)
	for j.Status().Error == "" && time.Now().Before(guard) {
		time.Sleep(10 * time.Millisecond)
	}
	if s := j.Status(); !strings.Contains(s.Error, "no space left") {
		t.Errorf("status %+v", s)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	for s := j.Status(); (s.Error != "" || s.Durable < s.Sequence) && time.Now().Before(guard); s = j.Status() {
		time.Sleep(10 * time.Millisecond)
	}
	lost := j.Status().Lost
	cancel()
	<-ended
	closeJournal(t, j)
	v := verify(t, wal.Dir(dir))
	seen := make(map[string]int)
	if _, err := audit.Verify(wal.Dir(dir), func(r wal.Record) error {
		e, err := event.Parse(r.Payload)
		if err == nil && e.Finding != nil {
			seen[e.Finding.Detail]++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	recorded := 0
	for n := range 2000 {
		if k := seen[fmt.Sprintf("%04d", n)]; k > 1 {
			t.Errorf("event %d is recorded %d times", n, k)
		} else {
			recorded += k
		}
	}
	t.Logf("%d events on the disk, %d found no room in memory", recorded, lost)
	if recorded+lost < 2000 || len(v.Problems) > 0 {
		t.Errorf("%d events on the disk and %d lost, %+v", recorded, lost, v)
	}
}

// A life that could not begin has not used up its number, however often it was
// tried.
//
// Verifies: SR-057
func TestALifeThatDidNotBegin(t *testing.T) {
	dir, disk := t.TempDir(), waltest.New(3)
	disk.Break(syscall.EIO, func(op string) bool { return op == "create" })
	for range 3 {
		open(t, dir, disk, 0)
	}
	disk.Mend()
	j := open(t, dir, disk, 0)
	if _, own := happened(t, j); j.Epoch() != 1 || own[finding.JournalReset] != 1 {
		t.Errorf("epoch %d, %v", j.Epoch(), own)
	}
	closeJournal(t, j)
}
