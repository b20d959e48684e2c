package daemon

import (
	"context"
	"encoding/json"
	"fmt"
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

func (d *daemon) journalConfig(dir string) journal.Config {
	return journal.Config{
		Dir: dir, Source: d.source, Boot: d.boot, Monotonic: bootclock.Now, MaxBytes: d.config.Journal.MaxBytes, Log: d.log,
		Alive: d.alive("journal"),
	}
}

func (d *daemon) openJournal(dir string) (*journal.Journal, error) {
	return journal.Open(d.journalConfig(dir))
}

// openMemoryJournal opens a record that ends with the daemon.
func (d *daemon) openMemoryJournal() (*journal.Journal, error) {
	c := d.journalConfig("")
	c.FS, c.MaxBytes = wal.Memory(), memoryJournalBytes
	return journal.Open(c)
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
