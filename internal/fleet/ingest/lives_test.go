package ingest_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/agent/journal/audit"
	"ward/internal/agent/uplink"
	"ward/internal/device/wal"
	"ward/internal/fleet/ingest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

// life is a device with a real journal, as wardd runs it.
type life struct {
	t        testing.TB
	j        *journal.Journal
	replaced chan uint64 // the least epoch that is asked for
	stop     func()
}

// live opens a journal and connects it with the fleet.
func live(t testing.TB, like uplink.Config, c journal.Config) *life {
	t.Helper()
	c.Source, c.Boot = event.Source{Tenant: "acme", Device: "pump-1"}, boot
	begun := time.Now()
	c.Monotonic = func() time.Duration { return time.Minute + time.Since(begun) }
	if c.FS == nil {
		if err := os.MkdirAll(c.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	j, err := journal.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	l := &life{t: t, j: j, replaced: make(chan uint64, 100)}
	like.Journal, like.Recorder, like.Epoch = j, j, j.Epoch()
	like.Replaced = func(_ string, atLeast uint64) { l.replaced <- atLeast }
	link := uplink.New(like)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- j.Run(ctx) }()
	go func() { ended <- link.Run(ctx) }()
	var stopped bool
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(l.stop)
	return l
}

// happen records incidents, each of another file.
func (l *life) happen(names ...string) {
	l.t.Helper()
	for _, name := range names {
		f := finding.New(finding.IMAUnknownFile, "").On("/tmp/" + name)
		if err := l.j.Record(context.Background(), event.Event{Type: event.FindingIncident, Subject: f.Path, Severity: f.Severity, Finding: &f}); err != nil {
			l.t.Error(err)
		}
	}
}

func (l *life) confirmed() {
	l.t.Helper()
	until(l.t, "all is confirmed", func() bool { s := l.j.Status(); return s.Acknowledged == s.Sequence && s.Durable == s.Sequence })
}

// accepted lists the files that the fleet's record tells of, each as often as it
// stands there.
func accepted(t testing.TB, events string) []string {
	t.Helper()
	b, err := os.ReadFile(events)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range bytes.Lines(b) {
		e, err := event.Parse(bytes.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		if e.Finding != nil && e.Finding.Code == finding.IMAUnknownFile {
			out = append(out, strings.TrimPrefix(e.Finding.Path, "/tmp/"))
		}
	}
	return out
}

func copyFolder(t testing.TB, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// An older copy of the journal under a stopped daemon: the fleet holds more than
// the device. Its receipt tells the device, which begins a new epoch; what it
// recorded meanwhile, and everything later, comes to the fleet once.
//
// Verifies: SR-056 SR-010 SR-022
func TestAnOlderCopyOfTheJournal(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	key, ring := receiptKey(t)
	events := filepath.Join(t.TempDir(), "events")
	f := startFleet(t, ingest.Config{Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: key, EventsFile: events})
	device := newDevice(t, broker.url(), p.client(t, "pump-1"), ring).config
	dir, backup := filepath.Join(t.TempDir(), "journal"), filepath.Join(t.TempDir(), "backup")

	l := live(t, device, journal.Config{Dir: dir})
	l.happen("a", "b")
	l.confirmed()
	l.stop()
	copyFolder(t, dir, backup)
	l = live(t, device, journal.Config{Dir: dir})
	l.happen("c", "d", "e")
	l.confirmed()
	l.stop()
	copyFolder(t, backup, dir)

	l = live(t, device, journal.Config{Dir: dir})
	l.happen("f")
	var atLeast uint64
	select {
	case atLeast = <-l.replaced:
	case <-time.After(20 * time.Second):
		t.Fatal("the fleet's receipt tells the device nothing")
	}
	if atLeast != 2 {
		t.Errorf("epoch %d at least, want 2", atLeast)
	}
	l.happen("g")
	since := l.j.Since()
	l.stop()
	l = live(t, device, journal.Config{Dir: dir, Anew: "the fleet knows more", AtLeast: atLeast, Since: since})
	l.happen("h", "i")
	l.confirmed()
	if s := l.j.Status(); s.Epoch != 2 {
		t.Errorf("epoch %d, want 2", s.Epoch)
	}
	if got := strings.Join(accepted(t, events), ""); got != "abcdefghi" {
		t.Errorf("the fleet accepted %q, want each of a to i once", got)
	}
	if v, err := audit.Verify(wal.Dir(filepath.Join(dir, "aside-1")), nil); err != nil || len(v.Problems) > 0 || v.Records < 4 {
		t.Errorf("put aside is %+v, %v", v, err)
	}
	l.stop()
	l = live(t, device, journal.Config{Dir: dir}) // and so it goes on
	l.happen("j")
	l.confirmed()
	if got := strings.Join(accepted(t, events), ""); got != "abcdefghij" || len(l.replaced) > 0 {
		t.Errorf("after a restart the fleet has %q, asked for another journal %d times", got, len(l.replaced))
	}
	var told int
	for _, r := range f.received(ingest.KindFinding) {
		if strings.Contains(r.Finding.Detail, "began its journal anew: epoch 2") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the new epoch was told %d times: %v", told, f.codes())
	}
}

// A disk that cannot be used: the record in memory goes to the fleet beside the
// one on the disk, without an alarm, and the one on the disk goes on behind it.
//
// Verifies: SR-057 SR-022
func TestARecordInMemoryBesideTheDisks(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	key, ring := receiptKey(t)
	dir := t.TempDir()
	events := filepath.Join(dir, "events")
	fleet := ingest.Config{
		Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: key, EventsFile: events, StateFile: filepath.Join(dir, "state"),
	}
	f := startFleet(t, fleet)
	device := newDevice(t, broker.url(), p.client(t, "pump-1"), ring).config
	disk := journal.Config{Dir: filepath.Join(dir, "journal")}

	l := live(t, device, disk)
	l.happen("a", "b")
	l.confirmed()
	l.stop()
	memory := wal.Memory()
	l = live(t, device, journal.Config{FS: memory, AtLeast: event.FirstVolatile + 9, MaxBytes: 1 << 20})
	l.happen("c", "d")
	l.confirmed()
	if s := l.j.Status(); s.Epoch != event.FirstVolatile+9 {
		t.Errorf("epoch %d in memory", s.Epoch)
	}
	f.stop()
	codes := f.codes()
	f = startFleet(t, fleet) // it knows both lines still
	l.happen("e")
	l.confirmed()
	l.stop()
	l = live(t, device, disk)
	l.happen("f")
	l.confirmed()
	if got := strings.Join(accepted(t, events), ""); got != "abcdef" {
		t.Errorf("the fleet accepted %q, want each of a to f once", got)
	}
	l.stop()
	until(t, "farewell", func() bool { return slices.Contains(f.states(), presence.Offline) })
	if codes = append(codes, f.codes()...); len(codes) > 0 {
		t.Errorf("the fleet found %v", codes)
	}
}
