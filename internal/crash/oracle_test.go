package crash

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ward/internal/agent/journal/audit"
	"ward/internal/agent/names"
	"ward/internal/contracttest"
	"ward/internal/device/mqtt"
	"ward/internal/device/wal"
	"ward/internal/trust/event"
)

// place is a record's in the device's journal.
type place struct{ epoch, sequence uint64 }

// volatile places are of a journal that was kept in memory: it ends with its
// process, and what the fleet has of it the disk never had.
func (p place) volatile() bool { return event.Volatile(p.epoch) }

type sum [sha256.Size]byte

func sumOf(b []byte) sum { return sha256.Sum256(b) }

// book is what was seen of a device's journal. What stands in it once must stay as
// it is: the journal of a device that is only killed loses nothing that could be
// read of it.
type book struct {
	t     testing.TB
	dir   string
	known map[place]sum
	epoch uint64
	last  uint64 // newest sequence that was seen
	torn  int    // unfinished ends
	// confirmed is the newest record that the fleet has confirmed; nil: nothing may
	// go, as the journal has room.
	confirmed func() uint64
}

// look reads the journal of a daemon that runs: segments come and go meanwhile, so
// that only the records count.
func (b *book) look() {
	b.t.Helper()
	var epoch uint64
	seen := make(map[uint64]sum)
	_, err := wal.Inspect(wal.Dir(b.dir), func(r wal.Record) error {
		if e, err := event.Parse(r.Payload); r.Kind == wal.Full && err == nil {
			epoch, seen[r.Sequence] = e.Epoch, sumOf(r.Payload)
		}
		return nil
	})
	if err != nil {
		return // a segment went while it was read
	}
	for s, h := range seen {
		b.note("the journal", place{epoch, s}, h)
	}
}

// note holds a record against what was seen before.
func (b *book) note(where string, at place, h sum) {
	b.t.Helper()
	if known, ok := b.known[at]; ok && known != h {
		b.t.Errorf("%s: record %d of epoch %d has other content than before", where, at.sequence, at.epoch)
	}
	b.known[at] = h
	if at.epoch >= b.epoch && !at.volatile() {
		b.epoch, b.last = at.epoch, max(b.last, at.sequence)
	}
}

// verify reads the journal of a daemon that is dead: no damage, a whole chain from
// the first record on, and every record that was ever seen.
func (b *book) verify(when string, durable uint64) audit.Verification {
	b.t.Helper()
	var records []uint64
	found := make(map[uint64]sum)
	v, err := audit.Verify(wal.Dir(b.dir), func(r wal.Record) error {
		records = append(records, r.Sequence)
		found[r.Sequence] = sumOf(r.Payload)
		return nil
	})
	check(b.t, err)
	if v.Torn != "" {
		b.torn++
	}
	gone := uint64(0)
	if b.confirmed != nil && v.Records > 0 {
		gone = min(v.First-1, b.confirmed())
	}
	if len(v.Problems) > 0 || v.Shed > 0 || uint64(v.Records) != v.Last-gone || v.Records > 0 && v.First != gone+1 {
		b.t.Fatalf("%s: the journal has %d records, %d to %d, %d shed, problems %q", when, v.Records, v.First, v.Last, v.Shed, v.Problems)
	}
	if v.Last < durable {
		b.t.Errorf("%s: the journal ends with record %d, and %d was durable", when, v.Last, durable)
	}
	for at, h := range b.known {
		if at.epoch == v.Epoch && at.sequence > gone && found[at.sequence] != h {
			b.t.Errorf("%s: record %d, which was seen, is gone or changed", when, at.sequence)
		}
		if at.epoch > v.Epoch && !at.volatile() {
			b.t.Errorf("%s: the journal is of epoch %d, and was of epoch %d", when, v.Epoch, at.epoch)
		}
	}
	for s, h := range found {
		b.note(when, place{v.Epoch, s}, h)
	}
	return v
}

// events are the journal's, decoded, with their bytes.
func (b *book) events() (all []event.Decoded, raw [][]byte) {
	_, err := audit.Verify(wal.Dir(b.dir), func(r wal.Record) error {
		e, err := event.Parse(r.Payload)
		if err != nil {
			return fmt.Errorf("record %d: %w", r.Sequence, err)
		}
		all, raw = append(all, e), append(raw, bytes.Clone(r.Payload))
		return nil
	})
	check(b.t, err)
	return all, raw
}

// wire counts what a reader of the broker saw.
type wire struct {
	t testing.TB

	mu     sync.Mutex
	seen   map[place]sum
	events int
	others int
}

func (w *wire) take(m mqtt.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := contracttest.Check(m.Topic, m.Payload); err != nil {
		w.t.Errorf("on the wire: %v", err)
	}
	if !strings.HasSuffix(m.Topic, "/up/event") {
		w.others++
		return
	}
	e, err := event.Parse(m.Payload)
	if err != nil {
		w.t.Errorf("event on the wire: %v", err)
		return
	}
	w.events++
	at, h := place{e.Epoch, e.Sequence}, sumOf(m.Payload)
	if known, ok := w.seen[at]; ok && known != h {
		w.t.Errorf("on the wire: record %d of epoch %d came with two contents", at.sequence, at.epoch)
	}
	w.seen[at] = h
}

// received has the book take over what fleet and wire have seen: from now on the
// journal must have it.
func (w *world) received(b *book) {
	w.fleet.mu.Lock()
	for at, h := range w.fleet.received {
		b.note("at the fleet", at, h)
	}
	w.fleet.mu.Unlock()
	w.wire.mu.Lock()
	defer w.wire.mu.Unlock()
	for at, h := range w.wire.seen {
		b.note("on the wire", at, h)
	}
}

func (w *world) newBook() *book {
	return &book{t: w.t, dir: filepath.Join(w.state, "journal"), known: make(map[place]sum)}
}

// stored are the lines of the fleet's events file that are of a journal on the disk.
func (f *fleet) stored() (lines [][]byte) {
	b, err := os.ReadFile(f.eventsFile())
	check(f.t, err)
	for line := range bytes.Lines(b) {
		e, err := event.Parse(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			continue // being written
		}
		if !(place{e.Epoch, e.Sequence}).volatile() {
			lines = append(lines, bytes.TrimSuffix(line, []byte("\n")))
		}
	}
	return lines
}

// complete holds the fleet against the journal of a device that has said
// everything: each record once, in order, with its bytes.
func (w *world) complete(b *book) {
	w.t.Helper()
	all, raw := b.events()
	if len(all) == 0 {
		w.t.Fatal("the journal is empty")
	}
	gone, last := int(all[0].Sequence)-1, all[len(all)-1].Sequence
	until(w.t, fmt.Sprintf("the fleet has all %d records", last), func() bool { return len(w.fleet.stored()) >= int(last) })
	stored := w.fleet.stored()
	if len(stored) != int(last) {
		w.t.Errorf("the fleet stored %d records, the journal ends with %d", len(stored), last)
	}
	for i := range raw {
		if !bytes.Equal(stored[gone+i], raw[i]) {
			w.t.Fatalf("line %d of the fleet is %s, the journal has %s", gone+i+1, stored[gone+i], raw[i])
		}
	}
	until(w.t, "a receipt covers the last record", func() bool { return w.fleet.confirmed() >= last })
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	if len(w.fleet.problems) > 0 {
		w.t.Errorf("the fleet found %q", w.fleet.problems)
	}
}

// confirmed is the newest record that a receipt was sent for.
func (f *fleet) confirmed() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.receipts
}

// told holds what the fleet was told against what ran: every program that is not of
// the release, and none twice. What it was told from a journal in memory is told
// again when the disk has one.
func (w *world) told() {
	w.t.Helper()
	times := make(map[string]int)
	hidden := names.Open(names.Config{State: w.state}) // with the device's salt
	for _, line := range w.fleet.stored() {
		e, err := event.Parse(line)
		check(w.t, err)
		if e.Type == event.FindingIncident && e.Finding != nil {
			times[path.Base(e.Finding.Path)]++
		}
	}
	var silent, again []string
	for _, m := range w.kernel.entries {
		switch n := times[path.Base(hidden.Hide(m.Path))]; {
		case n == 0:
			silent = append(silent, m.Path)
		case n > 1:
			again = append(again, fmt.Sprintf("%s %d times", m.Path, n))
		}
	}
	if len(silent) > 0 {
		w.t.Errorf("%d of %d programs that ran were not told: %.10q", len(silent), len(w.kernel.entries), silent)
	}
	if len(again) > 0 {
		w.t.Errorf("%d of %d programs that ran were told again: %.10q", len(again), len(w.kernel.entries), again)
	}
}
