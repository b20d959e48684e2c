package journal_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
)

// firstSegment is where the first records lie.
const firstSegment = "0000000000000001.wal"

// Verifies: SR-009
func TestWhatWasDoneToAJournalIsRecordedOnce(t *testing.T) {
	rows := []struct {
		name string
		harm func(t *testing.T, dir string)
		want string // the finding that is recorded; empty: none
		next uint64 // sequence of the first record afterwards
	}{
		{"nothing", func(*testing.T, string) {}, "", 5},
		{"a byte in the middle", func(t *testing.T, dir string) {
			rewrite(t, dir, func(b []byte) []byte { b[200] ^= 1; return b })
		}, "journal.corrupt", 5},
		{"the end cut off", func(t *testing.T, dir string) {
			rewrite(t, dir, func(b []byte) []byte { return b[:len(b)-20] })
		}, "journal.corrupt", 5},
		{"the state file removed", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "state.json")); err != nil {
				t.Fatal(err)
			}
		}, "", 5},
		{"the state file garbled", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "", 5},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, nil, 0)
			record(t, j, grave("2"), grave("3"), grave("4"))
			closeJournal(t, j)
			row.harm(t, dir)
			j = open(t, dir, nil, 0)
			got := codes(t, j)
			found := slices.Contains(got, "journal.corrupt")
			if found != (row.want != "") {
				t.Errorf("recorded %q, want %q", got, row.want)
			}
			record(t, j, grave("next"))
			records, err := j.Read(t.Context(), row.next-1, 1)
			if err != nil || len(records) != 1 || records[0].Sequence != row.next {
				t.Errorf("behind record %d comes %v, error %v: no number may be used twice", row.next-1, records, err)
			}
			closeJournal(t, j)

			var told [2]int
			for i := range told {
				j = open(t, dir, nil, 0)
				told[i] = strings.Count(strings.Join(codes(t, j), " "), "journal.corrupt")
				closeJournal(t, j)
			}
			if told[0] != told[1] {
				t.Errorf("damage is told %d times after one start and %d after another", told[0], told[1])
			}
		})
	}
}

func rewrite(t *testing.T, dir string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, firstSegment)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// forge writes a journal whose checksums hold and whose second record was
// exchanged for another.
func forge(t *testing.T, fs wal.FS) {
	t.Helper()
	log, _, err := wal.Open(fs, wal.Options{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	var prev chain.Hash
	for n := range uint64(4) {
		stamp := event.Stamp{Source: source, Epoch: 1, Sequence: n + 1, Boot: "b", Prev: prev}
		b, err := event.Encode(low("as it was"), stamp)
		if err != nil {
			t.Fatal(err)
		}
		prev = chain.Next(b)
		if n == 1 {
			b = bytes.Replace(b, []byte("as it was"), []byte("as I like"), 1)
		}
		if _, err := log.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// Verifies: SR-009
func TestAnExchangedRecordBreaksTheChain(t *testing.T) {
	disk := waltest.New(1)
	forge(t, disk)
	v := verify(t, disk)
	if len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "record 3") {
		t.Fatalf("problems %q, want one that names record 3, which follows the exchanged one", v.Problems)
	}
	synctest.Test(t, func(t *testing.T) {
		j := open(t, "", disk, 0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = j.Run(ctx) }()
		time.Sleep(time.Minute)
		if got := codes(t, j); !slices.Contains(got, "journal.corrupt") {
			t.Errorf("a minute after the start %q is recorded, want journal.corrupt", got)
		}
	})
}

// Verifies: SR-009
func TestRecordsOfAnotherDeviceAreFound(t *testing.T) {
	disk := waltest.New(1)
	j := open(t, "", disk, 0)
	record(t, j, grave("2"))
	closeJournal(t, j)
	other, err := journal.Open(journal.Config{
		FS: disk, Source: event.Source{Tenant: "lab", Device: "pump-2"}, Boot: "b", Monotonic: func() time.Duration { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	record(t, other, grave("3"))
	closeJournal(t, other)
	if v := verify(t, disk); len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "pump-2") {
		t.Fatalf("problems %q, want one that names the other device", v.Problems)
	}
}

// Verifies: SR-023
func TestOrderDoesNotDependOnTheWallClock(t *testing.T) {
	j := open(t, t.TempDir(), nil, 0)
	for _, year := range []int{2030, 1970, 2020} {
		e := grave("at some time")
		e.Time = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		record(t, j, e)
	}
	records, err := j.Read(t.Context(), 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	var years []int
	for _, r := range records {
		e, err := event.Parse(r.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		years = append(years, e.Time.Year())
	}
	if !slices.Equal(years, []int{2030, 1970, 2020}) {
		t.Errorf("years in the journal's order: %v", years)
	}
}

// Verifies: SR-009
func TestTheJournalOfAnotherDeviceIsPutAside(t *testing.T) {
	dir := t.TempDir()
	other := event.Source{Tenant: "lab", Device: "pump-2"}
	j, err := journal.Open(journal.Config{Dir: dir, Source: other, Boot: "b", Monotonic: func() time.Duration { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	record(t, j, grave("2"), grave("3"))
	closeJournal(t, j)
	for range 2 { // the second start changes nothing more
		j = open(t, dir, nil, 0)
		if s := j.Status(); s.Epoch != 2 || s.Sequence != 1 {
			t.Errorf("status %+v, want a new epoch with one record", s)
		}
		if got := strings.Join(codes(t, j), " "); got != "journal.begun-anew" {
			t.Errorf("recorded %q", got)
		}
		closeJournal(t, j)
	}
	aside := verify(t, wal.Dir(filepath.Join(dir, "aside-1")))
	if aside.Records != 3 || aside.Source != other.String() || len(aside.Problems) > 0 {
		t.Errorf("put aside is %+v, want all three records", aside)
	}
}
