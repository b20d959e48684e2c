package journal_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// TestDamageThatCannotBeKeptIsRecorded damages half of a journal's segments and
// lets all of them be recycled: some are kept aside, and an event says that there
// was no room for the others.
//
// Verifies: SR-051
func TestDamageThatCannotBeKeptIsRecorded(t *testing.T) {
	const bound = 2 << 20 // room for two segments that are kept
	disk := waltest.New(1)
	j := open(t, "", disk, bound)
	text := strings.Repeat("x", 4000)
	for j.Status().Bytes < 5*(256<<10) {
		record(t, j, low(text))
	}
	closeJournal(t, j)
	for n := 1; n <= 4; n++ {
		name := fmt.Sprintf("%016x.wal", n)
		b := disk.Content(name)
		b[1000] ^= 1
		disk.Put(name, b)
	}
	synctest.Test(t, func(t *testing.T) {
		j := open(t, "", disk, bound)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = j.Run(ctx) }()
		last := j.Status().Durable
		records, err := j.Read(t.Context(), last-1, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Acknowledge(j.Epoch(), last, records[0].Hash); err != nil {
			t.Fatal(err)
		}
		for j.Status().Bytes <= bound+5*(256<<10) {
			record(t, j, low(text))
		}
		time.Sleep(5 * time.Second)
		if s := j.Status(); s.Kept != 2 {
			t.Errorf("%d damaged segments are kept, want 2", s.Kept)
		}
		if told := incidents(t, j, last); !slices.ContainsFunc(told, func(d string) bool { return strings.Contains(d, "damaged segments were recycled") }) {
			t.Errorf("recorded %q; status %+v", told, j.Status())
		}
	})
}

// incidents are the details of journal.corrupt behind a sequence.
func incidents(t *testing.T, j interface {
	Read(context.Context, uint64, int) ([]event.Record, error)
}, after uint64) []string {
	t.Helper()
	records, err := j.Read(t.Context(), after, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range records {
		if r.Bytes == nil {
			continue // it lost its content
		}
		e, err := event.Parse(r.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if e.Finding != nil && e.Finding.Code == finding.JournalCorrupt {
			out = append(out, e.Finding.Detail)
		}
	}
	return out
}

// TestAnotherVersionOfTheJournalIsNamed: the segments of a later program are
// named by a finding and left as they are, and a new epoch begins.
//
// Verifies: SR-051
func TestAnotherVersionOfTheJournalIsNamed(t *testing.T) {
	disk := waltest.New(1)
	later := []byte("WARDWAL2" + strings.Repeat("whatever it may be ", 40))
	disk.Put(firstSegment, later)
	j := open(t, "", disk, 0)
	if told := incidents(t, j, 0); len(told) != 1 || !strings.Contains(told[0], `"WARDWAL2"`) {
		t.Errorf("recorded %q, want one that names the version", told)
	}
	closeJournal(t, j)
	if got := disk.Content(firstSegment); string(got) != string(later) {
		t.Error("the segment of the other version was changed")
	}
	if scan, err := wal.Inspect(disk, nil); err != nil || scan.Last == 0 || scan.Epoch == 0 {
		t.Errorf("the new journal is %+v, error %v", scan, err)
	}
}
