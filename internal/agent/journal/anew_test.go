package journal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/device/wal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// anew opens the journal in dir anew.
func anew(t *testing.T, dir string, c journal.Config) *journal.Journal {
	t.Helper()
	c.Dir, c.Source, c.Boot, c.Monotonic = dir, source, "b", uptime()
	j, err := journal.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// happened lists the details of the findings in the journal that are not its own,
// and the number of each of its own codes.
func happened(t *testing.T, j *journal.Journal) (details string, own map[finding.Code]int) {
	t.Helper()
	own = make(map[finding.Code]int)
	var out []string
	for after := uint64(0); ; {
		records, err := j.Read(t.Context(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return strings.Join(out, " "), own
		}
		for _, r := range records {
			after = r.Sequence
			e, err := event.Parse(r.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case e.Finding == nil:
			case e.Finding.Code.Area() == "journal":
				own[e.Finding.Code]++
			default:
				out = append(out, e.Finding.Detail)
			}
		}
	}
}

// Verifies: SR-056
func TestAJournalIsBegunAnew(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil, 0)
	record(t, j, grave("a"), grave("b"))
	closeJournal(t, j)
	j = open(t, dir, nil, 0)
	when := time.Date(1999, 1, 2, 3, 4, 5, 0, time.UTC)
	c := grave("c")
	c.Time = when
	record(t, j, c, event.Event{Type: "ward.journal.checkpoint", Severity: finding.Info, Report: json.RawMessage(`{}`)}, low("d"))
	since := j.Since()
	closeJournal(t, j)

	j = anew(t, dir, journal.Config{Anew: "the fleet knows more", AtLeast: 9, Since: since})
	details, own := happened(t, j)
	if s := j.Status(); s.Epoch != 9 || s.Durable != s.Sequence || details != "c d" || own[finding.JournalReset] != 1 || s.Sequence != 3 {
		t.Errorf("epoch %d, durable %d of %d, %q, %v: want epoch 9 with what was of this run, once, and no checkpoint", s.Epoch, s.Durable, s.Sequence, details, own)
	}
	records, err := j.Read(t.Context(), 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	first, err := event.Parse(records[0].Bytes)
	if err != nil || !strings.Contains(first.Finding.Detail, "the fleet knows more") || !strings.Contains(first.Finding.Detail, "aside-1") {
		t.Errorf("the first record says %+v, %v", first.Finding, err)
	}
	if second, err := event.Parse(records[1].Bytes); err != nil || !second.Time.Equal(when) {
		t.Errorf("what is recorded again is of %s, want %s", second.Time, when)
	}
	since = j.Since()
	closeJournal(t, j)

	// And once more, with an epoch that is asked for and was there.
	j = anew(t, dir, journal.Config{Anew: "again", AtLeast: 2, Since: since})
	if details, _ := happened(t, j); details != "c d" || j.Epoch() != 10 {
		t.Errorf("epoch %d with %q, want 10 with what was of this run", j.Epoch(), details)
	}
	closeJournal(t, j)
	for range 2 { // that epoch 9 was begun is of this run too
		j = open(t, dir, nil, 0)
		if details, own := happened(t, j); details != "c d" || own[finding.JournalReset] != 2 || j.Epoch() != 10 {
			t.Errorf("behind a restart: epoch %d with %q, %v", j.Epoch(), details, own)
		}
		closeJournal(t, j)
	}
	for name, want := range map[string]int{"aside-1": 6, "aside-9": 3} {
		if v := verify(t, wal.Dir(filepath.Join(dir, name))); v.Records != want || len(v.Problems) > 0 {
			t.Errorf("%s: %+v, want %d records", name, v, want)
		}
	}
}

// However far beginning anew came before the power went, the next start ends it:
// the epoch has grown, nothing that was put aside is lost, and what was of the run
// is there once.
//
// Verifies: SR-056
func TestBeginningAnewIsInterrupted(t *testing.T) {
	const segments = 3
	old := func(t *testing.T) string {
		dir := t.TempDir()
		for range segments {
			j := open(t, dir, nil, 0)
			record(t, j, grave("old"))
			closeJournal(t, j)
		}
		j := open(t, dir, nil, 0)
		record(t, j, grave("c"), grave("d"), grave("e"))
		closeJournal(t, j)
		return dir
	}
	// How it looks when it is done.
	done := old(t)
	closeJournal(t, anew(t, done, journal.Config{Anew: "replaced", AtLeast: 7, Since: 4}))
	var whole []wal.Record
	if _, err := wal.Inspect(wal.Dir(done), func(r wal.Record) error {
		whole = append(whole, wal.Record{Sequence: r.Sequence, Kind: r.Kind, Payload: slices.Clone(r.Payload)})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(whole) != 4 {
		t.Fatalf("%d records of the new epoch, want 4", len(whole))
	}
	state := []byte(`{"epoch":7,"again":{"folder":"aside-1","after":4,"why":"replaced; the journal of epoch 1 was put aside into aside-1"}}`)
	for step := range segments + 2 + len(whole) + 1 {
		moved, written := min(step, segments+1), max(0, step-segments-1)
		t.Run(fmt.Sprintf("%d moved, %d written", moved, written), func(t *testing.T) {
			dir := old(t)
			if err := os.WriteFile(filepath.Join(dir, "state.json"), state, 0o600); err != nil {
				t.Fatal(err)
			}
			aside := filepath.Join(dir, "aside-1")
			if err := os.Mkdir(aside, 0o700); err != nil {
				t.Fatal(err)
			}
			for n := range moved {
				name := fmt.Sprintf("%016x.wal", n+1)
				if err := os.Rename(filepath.Join(dir, name), filepath.Join(aside, name)); err != nil {
					t.Fatal(err)
				}
			}
			if written > 0 {
				log, _, err := wal.Open(wal.Dir(dir), wal.Options{Epoch: 7})
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range whole[:min(written, len(whole))] {
					if _, err := log.Append(r.Payload); err != nil {
						t.Fatal(err)
					}
				}
				if err := log.Close(); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				j := open(t, dir, nil, 0)
				details, own := happened(t, j)
				if details != "c d e" || own[finding.JournalReset] != 1 || own[finding.JournalCorrupt] > 0 || j.Epoch() < 7 || j.Epoch() > 8 {
					t.Errorf("epoch %d with %q, %v; want 7 or 8 with what was of the run, once", j.Epoch(), details, own)
				}
				closeJournal(t, j)
			}
			if v := verify(t, wal.Dir(aside)); v.Records != 7 || len(v.Problems) > 0 {
				t.Errorf("put aside is %+v, want all seven records", v)
			}
			if v := verify(t, wal.Dir(dir)); len(v.Problems) > 0 {
				t.Errorf("the new journal: %q", v.Problems)
			}
		})
	}
}

// Verifies: SR-056
func TestSegmentsOfAnEarlierEpochArePutAside(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	j := open(t, dir, nil, 0)
	record(t, j, grave("a"))
	closeJournal(t, j)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	j = anew(t, dir, journal.Config{Anew: "replaced"})
	record(t, j, grave("b"))
	closeJournal(t, j)
	// The segments are exchanged for those of before; the state file is not.
	if err := os.Remove(filepath.Join(dir, firstSegment)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(copied, firstSegment), filepath.Join(dir, firstSegment)); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, nil, 0)
	details, own := happened(t, j)
	if j.Epoch() != 3 || details != "" || own[finding.JournalReset] != 1 {
		t.Errorf("epoch %d with %q, %v; want an empty epoch 3", j.Epoch(), details, own)
	}
	closeJournal(t, j)
	if v := verify(t, wal.Dir(filepath.Join(dir, "aside-1-2"))); v.Records != 2 || len(v.Problems) > 0 {
		t.Errorf("put aside is %+v", v)
	}
}

// What is put aside stays, the earliest first, within as much as the journal's own
// bound; what no longer fits is told.
//
// Verifies: SR-056
func TestWhatIsPutAsideIsBounded(t *testing.T) {
	dir := t.TempDir()
	const bound = 1 << 20
	fill := func(j *journal.Journal) {
		for range 500 {
			record(t, j, low(strings.Repeat("z", 900)))
		}
	}
	j := open(t, dir, nil, bound)
	fill(j)
	for n := range 4 {
		closeJournal(t, j)
		j = anew(t, dir, journal.Config{Anew: "replaced", MaxBytes: bound, Since: 1 << 40})
		_, own := happened(t, j)
		full := n > 0 // some 600 KiB each
		if (own[finding.JournalAsideFull] == 1) != full {
			t.Errorf("the %dth time: %v", n+1, own)
		}
		var kept int64
		if err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && strings.Contains(path, "aside-") && !info.IsDir() {
				kept += info.Size()
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if kept > bound {
			t.Errorf("the %dth time %d bytes are kept, bound %d", n+1, kept, bound)
		}
		if v := verify(t, wal.Dir(filepath.Join(dir, "aside-1"))); v.Records != 501 || len(v.Problems) > 0 {
			t.Errorf("the %dth time the first one is %+v", n+1, v)
		}
		fill(j)
	}
	closeJournal(t, j)
}

// Whoever still holds a journal that was closed can write nothing into the folder
// of the one behind it.
//
// Verifies: SR-056
func TestAClosedJournalWritesNothing(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil, 0)
	record(t, j, grave("a"))
	closeJournal(t, j)
	next := anew(t, dir, journal.Config{Anew: "replaced"})
	defer closeJournal(t, next)
	before := listing(t, dir)
	if err := j.Record(t.Context(), grave("late")); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("recording gives %v", err)
	}
	if _, err := j.Read(t.Context(), 0, 1); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("reading gives %v", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("closing again gives %v", err)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the folder was changed:\n%s\n%s", before, after)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(e.Name(), " ", info.Size(), " ", info.ModTime()))
	}
	return strings.Join(out, "\n")
}

// A record in memory has an epoch that no disk has, and is recorded on the disk
// when there is one: what the fleet has not confirmed, in its order.
//
// Verifies: SR-057
func TestARecordInMemoryIsRecordedOnTheDisk(t *testing.T) {
	const epoch = event.FirstVolatile + 77
	memory := wal.Memory()
	j, err := journal.Open(journal.Config{FS: memory, Source: source, Boot: "b", Monotonic: uptime(), AtLeast: epoch})
	if err != nil {
		t.Fatal(err)
	}
	record(t, j, grave("a"), grave("b"), low("c"), grave("d"))
	all, err := j.Read(t.Context(), 0, 10)
	if err != nil || len(all) != 4 || j.Epoch() != epoch {
		t.Fatalf("%d records of epoch %d, %v", len(all), j.Epoch(), err)
	}
	if err := j.Acknowledge(epoch, 2, all[1].Hash); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	disk := open(t, t.TempDir(), nil, 0)
	defer closeJournal(t, disk)
	if err := disk.Again(memory, j.Since()); err != nil {
		t.Fatal(err)
	}
	if details, _ := happened(t, disk); details != "c d" || disk.Status().Durable != 3 {
		t.Errorf("on the disk is %q, %+v", details, disk.Status())
	}
}

// An epoch that is none of a disk is not begun, whoever asks, and not believed.
//
// Verifies: SR-020 SR-056
func TestAnEpochThatIsNoneOfADisk(t *testing.T) {
	dir := t.TempDir()
	closeJournal(t, open(t, dir, nil, 0))
	j := anew(t, dir, journal.Config{Anew: "replaced", AtLeast: event.FirstVolatile + 1})
	if j.Epoch() != 2 {
		t.Errorf("epoch %d, want 2", j.Epoch())
	}
	closeJournal(t, j)
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"epoch":4294967297}`), 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, nil, 0)
	if j.Epoch() != 2 {
		t.Errorf("behind a state file that lies: epoch %d, want 2", j.Epoch())
	}
	closeJournal(t, j)
}
