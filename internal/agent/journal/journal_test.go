package journal_test

import (
	"context"
	"errors"
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
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

var source = event.Source{Tenant: "lab", Device: "pump-1"}

// open opens a journal; where fs is nil, dir holds the segments too.
func open(t *testing.T, dir string, fs wal.FS, maxBytes int64) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Config{
		Dir: dir, FS: fs, Source: source, Boot: "b", MaxBytes: maxBytes,
		Monotonic: uptime(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// uptime is the clock of a kernel that started five seconds ago.
func uptime() func() time.Duration {
	begun := time.Now()
	return func() time.Duration { return 5*time.Second + time.Since(begun) }
}

func raised(code finding.Code, detail string) event.Event {
	f := finding.New(code, detail)
	return event.Event{Type: event.FindingRaised, Subject: "test", Severity: f.Severity, Finding: &f}
}

// low is an event that may wait for its sync, grave one that may not.
func low(detail string) event.Event   { return raised(finding.LinkDown, detail) }
func grave(detail string) event.Event { return raised(finding.BootPCRDiffers, detail) }

func record(t *testing.T, j *journal.Journal, events ...event.Event) {
	t.Helper()
	for _, e := range events {
		if err := j.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func closeJournal(t *testing.T, j *journal.Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// codes lists what is in the journal: finding codes, or types where there is no
// finding; it fails on a chain that does not hold.
func codes(t *testing.T, j *journal.Journal) []string {
	t.Helper()
	records, err := j.Read(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range records {
		e, err := event.Parse(r.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if e.Sequence != r.Sequence || e.Epoch != r.Epoch || e.Source != source || chain.Next(r.Bytes) != r.Hash {
			t.Fatalf("record %d of epoch %d holds event %s", r.Sequence, r.Epoch, e.ID)
		}
		if e.Finding == nil {
			out = append(out, e.Type)
			continue
		}
		out = append(out, string(e.Finding.Code))
	}
	return out
}

func verify(t *testing.T, fs wal.FS) audit.Verification {
	t.Helper()
	v, err := audit.Verify(fs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Verifies: SR-009
func TestEpochAndChainGoOnOverRestarts(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil, 0)
	record(t, j, low("one"), grave("two"))
	closeJournal(t, j)
	j = open(t, dir, nil, 0)
	record(t, j, grave("three"))
	want := "journal.begun-anew link.down boot.pcr-differs boot.pcr-differs"
	if got := strings.Join(codes(t, j), " "); got != want {
		t.Errorf("recorded %q, want %q", got, want)
	}
	if s := j.Status(); s.Epoch != 1 || s.Sequence != 4 || s.Durable != 4 {
		t.Errorf("status %+v", s)
	}
	closeJournal(t, j)
	v := verify(t, wal.Dir(dir))
	if len(v.Problems) > 0 || v.Records != 4 || v.Torn != "" || v.Source != source.String() || v.Head != j.Status().Head {
		t.Errorf("verification %+v", v)
	}

	segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
	}
	j = open(t, dir, nil, 0)
	if s := j.Status(); s.Epoch != 2 || s.Sequence != 1 || codes(t, j)[0] != "journal.begun-anew" {
		t.Errorf("begun anew: status %+v, records %q", s, codes(t, j))
	}
	closeJournal(t, j)
}

// Verifies: SR-009
func TestAGraveEventIsDurableWhenRecordReturns(t *testing.T) {
	disk := waltest.New(1)
	j := open(t, "", disk, 0)
	record(t, j, low("waits"), grave("does not"))
	if v := verify(t, disk.PowerCut()); v.Last != 3 {
		t.Errorf("after the power cut the newest record is %d, want 3", v.Last)
	}
}

// Verifies: SR-009 SR-010
func TestALowEventIsReadOnceItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New(1)
		j := open(t, "", disk, 0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = j.Run(ctx) }()
		record(t, j, low("one"))
		if got := codes(t, j); len(got) != 1 {
			t.Errorf("before the sync %q can be read, want the first record alone", got)
		}
		begun := time.Now()
		if err := j.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); waited > time.Second {
			t.Errorf("an event waited %s for its sync, want at most 1 s", waited)
		}
		if got := codes(t, j); len(got) != 2 {
			t.Errorf("after the sync %q can be read, want two records", got)
		}
		if v := verify(t, disk.PowerCut()); v.Last != 2 {
			t.Errorf("after the power cut the newest record is %d, want 2", v.Last)
		}
		waiting, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := j.Wait(waiting, 2); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for a record that does not come gave %v", err)
		}
	})
}

// Verifies: SR-010
func TestAcknowledge(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil, 0)
	record(t, j, grave("2"), grave("3"), grave("4"))
	all, err := j.Read(t.Context(), 0, 10)
	if err != nil || len(all) != 4 {
		t.Fatalf("read %d records, error %v", len(all), err)
	}
	rows := []struct {
		name            string
		epoch, sequence uint64
		head            chain.Hash
		want            error
		acknowledged    uint64
	}{
		{"another head", 1, 2, all[0].Hash, journal.ErrForeignHead, 0},
		{"a record to come", 1, 5, all[3].Hash, journal.ErrForeignHead, 0},
		{"another epoch", 2, 2, all[1].Hash, journal.ErrEpoch, 0},
		{"its own", 1, 3, all[2].Hash, nil, 3},
		{"the same once more", 1, 3, all[2].Hash, nil, 3},
		{"the same number with another head", 1, 3, all[0].Hash, journal.ErrForeignHead, 3},
		{"an older one", 1, 2, all[1].Hash, nil, 3},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if err := j.Acknowledge(row.epoch, row.sequence, row.head); !errors.Is(err, row.want) {
				t.Errorf("error %v, want %v", err, row.want)
			}
			if got := j.Acknowledged(); got != row.acknowledged {
				t.Errorf("acknowledged %d, want %d", got, row.acknowledged)
			}
		})
	}
	closeJournal(t, j)
	if j = open(t, dir, nil, 0); j.Acknowledged() != 3 {
		t.Errorf("after a restart %d is acknowledged, want 3", j.Acknowledged())
	}
}

// The first confirmation of a run outlives a kill two seconds later, the next one
// after half a minute: a crash loop does not send everything each time.
//
// Verifies: SR-010
func TestTheFirstConfirmationIsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := open(t, dir, nil, 0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = j.Run(ctx) }()
		record(t, j, grave("2"), grave("3"))
		all, err := j.Read(t.Context(), 0, 10)
		if err != nil || len(all) != 3 {
			t.Fatalf("read %d records, error %v", len(all), err)
		}
		for _, row := range []struct {
			confirmed uint64
			after     time.Duration
			kept      uint64
		}{{2, 2 * time.Second, 2}, {3, 2 * time.Second, 2}, {3, saveEvery, 3}} {
			if err := j.Acknowledge(1, row.confirmed, all[row.confirmed-1].Hash); err != nil {
				t.Fatal(err)
			}
			time.Sleep(row.after)
			killed := t.TempDir()
			if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if got := open(t, killed, nil, 0).Acknowledged(); got != row.kept {
				t.Errorf("%s behind the confirmation of %d a kill leaves %d, want %d", row.after, row.confirmed, got, row.kept)
			}
		}
	})
}

// saveEvery is how long a later confirmation may wait until it is written.
const saveEvery = 30 * time.Second

// Verifies: SR-017 SR-010
func TestAFullDiskIsReportedAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New(2)
		j := open(t, "", disk, 0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = j.Run(ctx) }()
		disk.Break(syscall.ENOSPC, func(op string) bool { return op == "write" || op == "create" })
		begun := time.Now()
		record(t, j, grave("a"), low("b"))
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("recording on a full disk took %s", waited)
		}
		time.Sleep(3 * time.Second)
		if s := j.Status(); !strings.Contains(s.Error, "no space left") || s.Durable != 1 || s.Sequence != 4 {
			t.Errorf("status %+v, want the reason and four records of which one is durable", s)
		}
		want := "journal.begun-anew boot.pcr-differs link.down journal.write-failing"
		if got := strings.Join(codes(t, j), " "); got != want {
			t.Errorf("readable while the disk is full: %q, want %q", got, want)
		}
		disk.Mend()
		time.Sleep(3 * time.Second)
		if s := j.Status(); s.Error != "" || s.Durable != 5 {
			t.Errorf("status %+v, want all five records durable", s)
		}
		if v := verify(t, disk.PowerCut()); len(v.Problems) > 0 || v.Last != 5 {
			t.Errorf("after the power cut %+v", v)
		}
	})
}

// Verifies: SR-017
func TestMemoryKeepsRoomForWhatIsGrave(t *testing.T) {
	disk := waltest.New(3)
	disk.Break(nil, func(string) bool { return true })
	j := open(t, "", disk, 0)
	flood := low(strings.Repeat("x", 1000))
	lost := 0
	for range 2000 {
		if j.Record(t.Context(), flood) != nil {
			lost++
		}
	}
	if s := j.Status(); lost == 0 || s.Lost != lost {
		t.Errorf("%d events were refused, status says %d", lost, s.Lost)
	}
	record(t, j, grave("still kept"))
}

// Verifies: SR-009 SR-010
func TestOverflowLeavesTheChainAndSaysHowMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := open(t, dir, nil, 1<<20)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = j.Run(ctx) }()
		record(t, j, grave("the one that matters"))
		for range 2000 {
			record(t, j, low(strings.Repeat("y", 900)))
		}
		time.Sleep(5 * time.Second)
		cancel()
		synctest.Wait()
		if s := j.Status(); s.Bytes > 1<<20+(256<<10) {
			t.Errorf("the journal takes %d bytes, bound 1 MiB and the open segment", s.Bytes)
		}
		closeJournal(t, j)
		v := verify(t, wal.Dir(dir))
		if len(v.Problems) > 0 || v.First != 1 || v.Shed == 0 || v.Records != 2004 {
			t.Errorf("verification %+v: want every record or its hash, overflow and journal.filling among them", v)
		}
		overflow, kept := 0, false
		j = open(t, dir, nil, 1<<20)
		records, err := j.Read(t.Context(), 0, 3000)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.Bytes == nil {
				continue
			}
			e, err := event.Parse(r.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			overflow += strings.Count(string(e.Finding.Code), "overflow")
			kept = kept || e.Severity == finding.Critical
		}
		if overflow != 1 || !kept {
			t.Errorf("%d overflow findings, the critical event kept: %v", overflow, kept)
		}
	})
}

// The head is of what no power cut takes back: an event that waits for the next
// sync is not in it.
//
// Verifies: SR-009 SR-029
func TestHeadIsDurable(t *testing.T) {
	j := open(t, t.TempDir(), nil, 0)
	defer closeJournal(t, j)
	before, _, err := j.Head()
	if err != nil {
		t.Fatal(err)
	}
	record(t, j, grave("one"))
	sequence, head, err := j.Head()
	if s := j.Status(); err != nil || sequence != s.Sequence || head != s.Head || sequence <= before {
		t.Fatalf("after a grave event: %d %s, %v; status %+v", sequence, head, err, s)
	}
	record(t, j, low("two"))
	if again, h, err := j.Head(); err != nil || again != sequence || h != head {
		t.Errorf("an event that waits counts: %d %s, %v", again, h, err)
	}
}
