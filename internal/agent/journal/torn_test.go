package journal_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The half of a record that a power cut left at the end is dropped and told, once;
// what was durable before it stands.
//
// Verifies: SR-009, SR-061
func TestAnUnfinishedEndIsTold(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil, 0)
	record(t, j, grave("2"), grave("3"))
	before := codes(t, j)
	closeJournal(t, j)
	segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	slices.Sort(segments)
	last, err := os.OpenFile(segments[len(segments)-1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := last.Write(make([]byte, 17)); err != nil {
		t.Fatal(err)
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	want := append(before, "journal.torn-write")
	for range 2 {
		j = open(t, dir, nil, 0)
		if got := codes(t, j); !slices.Equal(got, want) {
			t.Errorf("the journal holds %q, want %q", got, want)
		}
		closeJournal(t, j)
	}
}
