package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ward/internal/agent/journal"
	"ward/internal/device/bootclock"
	"ward/internal/device/statefile"
	"ward/internal/device/wal"
	"ward/internal/trust/event"
)

// memoryJournalBytes bounds a record that is kept in memory only.
const memoryJournalBytes = 1 << 20

func (d *daemon) journalConfig() journal.Config {
	return journal.Config{
		Source: d.source, Boot: d.boot, Monotonic: bootclock.Now, MaxBytes: d.config.Journal.MaxBytes, Log: d.log,
		Alive: d.alive("journal"),
		Note:  func(ctx context.Context, e event.Event) error { return d.recorder.Record(ctx, e) },
	}
}

// openJournal opens the journal on the disk, or begins another in its place where
// this life was begun for that.
func (d *daemon) openJournal() error {
	c := d.journalConfig()
	c.Dir = filepath.Join(d.config.Paths.State, "journal")
	c.Anew, c.AtLeast, c.Since = d.life.anew, d.life.atLeast, d.life.since
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	j, err := journal.Open(c)
	if err != nil {
		return err
	}
	d.journal, d.life.anew = j, ""
	return nil
}

// openMemoryJournal opens a record that ends with the daemon. Its epoch is one
// that no disk has: what has a place in it is not mistaken for something else.
func (d *daemon) openMemoryJournal() error {
	c := d.journalConfig()
	d.memory = wal.Memory()
	c.FS, c.MaxBytes = d.memory, memoryJournalBytes
	c.AtLeast = event.FirstVolatile + rand.Uint64N(event.EndVolatile-event.FirstVolatile)
	j, err := journal.Open(c)
	if err != nil {
		return err
	}
	d.journal = j
	return nil
}

// alive is a role's way to say that it makes progress. The board is made after
// the journal, so it is looked up at the call.
func (d *daemon) alive(name string) func() {
	return func() {
		if d.health != nil {
			d.health.Role(name, 0).Alive()
		}
	}
}

// nextSession counts the daemon's starts on this device; 1 where the count
// cannot be kept.
func (d *daemon) nextSession() uint64 {
	file := filepath.Join(d.config.Paths.State, "session")
	var last uint64
	if b, err := statefile.Read(file); err == nil {
		last, _ = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	}
	if err := statefile.Write(file, fmt.Appendf(nil, "%d\n", last+1)); err != nil {
		d.log.Warn("count sessions", "error", err)
	}
	return last + 1
}

// report encodes what a type of event reports; the values are the daemon's own
// and always encode.
func report(v map[string]any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("daemon: encode report: " + err.Error())
	}
	return b
}

// history is the journal as the board of conditions reads it.
type history struct{ *journal.Journal }

// Events decodes a page of records; those that were shed count for the cursor.
func (h history) Events(ctx context.Context, after uint64, limit int) ([]event.Decoded, uint64, error) {
	records, err := h.Read(ctx, after, limit)
	if err != nil {
		return nil, after, err
	}
	var out []event.Decoded
	for _, r := range records {
		after = r.Sequence
		if r.Bytes == nil {
			continue
		}
		e, err := event.Parse(r.Bytes)
		if err != nil {
			return out, after, fmt.Errorf("read record %d: %w", r.Sequence, err)
		}
		out = append(out, e)
	}
	return out, after, nil
}
