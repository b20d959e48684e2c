package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/agent/journal/audit"
	"ward/internal/device/bootclock"
	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/peers"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// record measures the journal on this host's disk, and what it costs others.
func record(t *testing.T, b *table) {
	appending(t, b)
	amplification(t, b)
	recovery(t, b)
	offline(t, b)
	idle(t, b)
	backlog(t, b)
}

// mix are the events of the contract's golden messages, each as often as the
// others, and the checkpoint, which comes beside them.
func mix(t *testing.T) (events []event.Event, checkpoint event.Event) {
	t.Helper()
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "docs/contract/event-*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden events: %v", err)
	}
	checkpoint = madeCheckpoint(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		e, err := event.Parse(compact.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		e.Time = time.Time{} // of the moment
		if strings.Contains(filepath.Base(file), "checkpoint") {
			checkpoint = e.Event
			continue
		}
		events = append(events, e.Event)
	}
	return events, checkpoint
}

// madeCheckpoint is an event as large as a checkpoint with its certificate: an
// attestation of 145 bytes and a signature of 72, and the head that it certifies.
func madeCheckpoint(t *testing.T) event.Event {
	t.Helper()
	report, err := json.Marshal(map[string]any{
		"counter": "orderly", "value": 1234567, "sequence": 123456, "head": strings.Repeat("a", 64), "evidence": strings.Repeat("b", 64),
		"attest": base64.StdEncoding.EncodeToString(make([]byte, 145)), "signature": base64.StdEncoding.EncodeToString(make([]byte, 72)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return event.Event{Type: "ward.journal.checkpoint", Severity: finding.Info, Report: report}
}

func openJournal(t *testing.T, dir string, size int64) *journal.Journal {
	t.Helper()
	started := time.Now() // by the test's own clock, where it has one
	j, err := journal.Open(journal.Config{
		Dir: folder(t, dir), Source: event.Source{Tenant: "acme", Device: "pump-1"}, Boot: "7abbb515-d766-459f-81b2-8c7a6ec5e0d5",
		Monotonic: func() time.Duration { return time.Since(started) }, MaxBytes: size,
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func put(t *testing.T, j *journal.Journal, e event.Event, s finding.Severity) {
	t.Helper()
	e.Severity = s
	if err := j.Record(context.Background(), e); err != nil {
		t.Fatal(err)
	}
}

// group is how many events share one sync.
const group = 20

// appending holds a group of events with their sync against the bare writes of the
// same bytes with the same sync, by turns on one disk: the log alone with the link
// of each record in the chain, and all that Record does.
func appending(t *testing.T, b *table) {
	events, _ := mix(t)
	dir := t.TempDir()
	j := openJournal(t, filepath.Join(dir, "journal"), 1<<30)
	defer j.Close()
	log, _, err := wal.Open(wal.Dir(folder(t, filepath.Join(dir, "log"))), wal.Options{Epoch: 1, MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	raw, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()

	var payloads [][]byte // of the group that was recorded last
	n := 0
	whole := func() {
		for i := range group {
			s := finding.Info
			if i == group-1 {
				s = finding.High // returns after the sync, of all
			}
			put(t, j, events[n%len(events)], s)
			n++
		}
	}
	take := func() {
		records, err := j.Read(context.Background(), j.Status().Sequence-group, group)
		if err != nil || len(records) != group {
			t.Fatalf("read %d of %d records: %v", len(records), group, err)
		}
		payloads = payloads[:0]
		for _, r := range records {
			payloads = append(payloads, r.Bytes)
		}
	}
	var head chain.Hash
	appended := func() {
		for _, p := range payloads {
			if _, err := log.Append(p); err != nil {
				t.Fatal(err)
			}
			head = chain.Next(p)
		}
		if err := log.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	bare := func() {
		for _, p := range payloads {
			if _, err := raw.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := raw.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	whole()
	take()
	turns := []func(){bare, appended, whole}
	took, total := make([]taken, len(turns)), make([]time.Duration, len(turns))
	for round := range 600 {
		for turn := range turns {
			i := (round + turn) % len(turns)
			start := time.Now()
			turns[i]()
			d := time.Since(start)
			took[i], total[i] = append(took[i], d), total[i]+d
		}
		take()
	}
	if head == (chain.Hash{}) {
		t.Fatal("nothing was chained")
	}
	show := func(i int) (string, float64) {
		ratio := took[i].over(took[0])
		return fmt.Sprintf("%s, bare %s: %.2f; new segments included %.2f", short(median(took[i])), short(median(took[0])), ratio, float64(total[i])/float64(total[0])), ratio
	}
	text, ratio := show(1)
	b.budgeted(fmt.Sprintf("append %d events, chained, with one sync, over the bare writes", group), text, ratio, 1.2, "1.20")
	text, _ = show(2)
	b.noted("the same from the event on, its encoding included", text)
	perEvent(t, b, events, payloads)
}

// perEvent is what one event costs without a disk.
func perEvent(t *testing.T, b *table, events []event.Event, payloads [][]byte) {
	j, err := journal.Open(journal.Config{
		Source: event.Source{Tenant: "acme", Device: "pump-1"}, Boot: "7abbb515-d766-459f-81b2-8c7a6ec5e0d5", Monotonic: bootclock.Now, MaxBytes: 4 << 20, FS: wal.Memory(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	const many = 500
	var all, link taken
	for range 31 {
		start := time.Now()
		for i := range many {
			put(t, j, events[i%len(events)], finding.Info)
		}
		all = append(all, time.Since(start)/many)
		put(t, j, events[0], finding.High) // frees the memory that waits
		start = time.Now()
		for i := range many {
			_ = chain.Next(payloads[i%len(payloads)])
		}
		link = append(link, time.Since(start)/many)
	}
	b.noted("one event without the disk: its link in the chain, all of it",
		fmt.Sprintf("%d ns, %d ns", median(link).Nanoseconds(), median(all).Nanoseconds()))
}

func folder(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// blocksWritten is what this process had written to disks so far, in whole pages
// (proc_pid_io(5)); what is not synced yet counts.
func blocksWritten(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("/proc/self/io does not tell what was written")
	return 0
}

// confirm has the journal take a receipt of its newest record.
func confirm(t *testing.T, j *journal.Journal) {
	t.Helper()
	sequence, head, err := j.Head()
	if err == nil && sequence > 0 {
		err = j.Acknowledge(j.Epoch(), sequence, head)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// living runs the journal with time of its own, and ends it.
func living(t *testing.T, dir string, size int64, act func(j *journal.Journal)) {
	synctest.Test(t, func(t *testing.T) {
		j := openJournal(t, dir, size)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- j.Run(ctx) }()
		act(j)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
}

// amplification is ten minutes of 20 events a second, which share a sync, with the
// fleet's receipts and the state file; beside it the same bytes appended bare.
func amplification(t *testing.T, b *table) {
	events, _ := mix(t)
	dir := t.TempDir()
	const seconds = 600
	var payload, handed int64
	before := blocksWritten(t)
	living(t, dir, 1<<30, func(j *journal.Journal) {
		for n := range seconds * group {
			put(t, j, events[n%len(events)], finding.Info)
			if n%group == group-1 {
				time.Sleep(time.Second)
				confirm(t, j)
			}
		}
		handed = int64(j.Status().Flash.Total)
	})
	written := blocksWritten(t) - before
	sizes := make([]int, 0, seconds*group)
	if _, err := audit.Verify(wal.Dir(dir), func(r wal.Record) error {
		payload += int64(len(r.Payload))
		sizes = append(sizes, len(r.Payload))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.Create(filepath.Join(t.TempDir(), "raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	before = blocksWritten(t)
	for n, size := range sizes {
		if _, err := raw.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if n%group == group-1 {
			if err := raw.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	bare := blocksWritten(t) - before
	over := func(n int64) float64 { return float64(n) / float64(payload) }
	b.budgeted(fmt.Sprintf("pages written over payload, %d events a sync", group),
		fmt.Sprintf("%.2f, bare %.2f; bytes that the journal counts %.2f", over(written), over(bare), over(handed)), over(written), 2, "2.00")
}

// recovery opens a long journal, as the daemon does at its start.
func recovery(t *testing.T, b *table) {
	events, _ := mix(t)
	dir := t.TempDir()
	const size, most = 64 << 20, 128 << 20
	j := openJournal(t, dir, most)
	n := 0
	for j.Status().Bytes < size {
		for range 256 {
			put(t, j, events[n%len(events)], finding.Info)
			n++
		}
		put(t, j, events[0], finding.High)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	var took taken
	for range 9 {
		start := time.Now()
		j := openJournal(t, dir, most)
		took = append(took, time.Since(start))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.budgeted(fmt.Sprintf("open a journal of %d MiB, %d records", size>>20, n), short(median(took)), median(took).Seconds(), 0.2, "200ms")
}

// onDisk is what a folder takes, in blocks.
func onDisk(t *testing.T, dir string) (n int64) {
	t.Helper()
	const block = 4096
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += (info.Size() + block - 1) / block * block
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkpointEvery is how soon behind a checkpoint the next one may come, when
// something is new.
const checkpointEvery = 5 * time.Minute

// offline is a month without the fleet: 100 events a day, spread over it, and the
// checkpoints that they bring: two at the boot, one behind each event, one a day.
func offline(t *testing.T, b *table) {
	events, checkpoint := mix(t)
	dir := t.TempDir()
	const days, daily = 30, 100
	records := uint64(0)
	living(t, dir, journal.DefaultBytes, func(j *journal.Journal) {
		put(t, j, checkpoint, finding.Info)
		put(t, j, checkpoint, finding.Info)
		for n := range days * daily {
			e := events[n%len(events)]
			put(t, j, e, e.Severity)
			time.Sleep(checkpointEvery)
			put(t, j, checkpoint, finding.Info)
			if n%daily == 0 {
				put(t, j, checkpoint, finding.Info)
			}
			time.Sleep(24*time.Hour/daily - checkpointEvery)
		}
		records = j.Status().Sequence
	})
	v, err := audit.Verify(wal.Dir(dir), nil)
	if err != nil || len(v.Problems) > 0 || v.Shed > 0 || v.First != 1 || v.Last != records {
		t.Fatalf("offline for %d days: %+v, %v", days, v, err)
	}
	size := float64(onDisk(t, dir)) / (1 << 20)
	b.budgeted(fmt.Sprintf("disk for %d days offline, %d events a day and checkpoints: %d records", days, daily, records), fmt.Sprintf("%.1f MiB", size), size, 16, "16 MiB")
}

// idle is what the record writes in a day on which nothing happens: the day's
// checkpoint, its receipt, the state file.
func idle(t *testing.T, b *table) {
	_, checkpoint := mix(t)
	dir := t.TempDir()
	var before, after int64
	living(t, dir, journal.DefaultBytes, func(j *journal.Journal) {
		put(t, j, checkpoint, finding.Info)
		time.Sleep(time.Minute)
		confirm(t, j)
		time.Sleep(time.Minute)
		before = blocksWritten(t)
		time.Sleep(12 * time.Hour)
		put(t, j, checkpoint, finding.Info)
		put(t, j, checkpoint, finding.Info)
		time.Sleep(time.Minute)
		confirm(t, j)
		time.Sleep(12 * time.Hour)
		after = blocksWritten(t)
	})
	b.budgeted("pages that the record writes on an idle day", fmt.Sprintf("%.0f KiB", float64(after-before)/1024), float64(after-before), 1<<20, "1024 KiB")
}
