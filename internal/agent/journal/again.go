package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"ward/internal/device/wal"
	"ward/internal/trust/event"
)

// again is what is still to be recorded once more in a journal that was begun
// anew: the records of a folder behind a sequence. It stands in the state file
// until it is done. They come directly behind the record that says why the journal
// was begun, so an interrupted begin knows by the journal's length how many are
// there.
type again struct {
	Folder string `json:"folder"`
	After  uint64 `json:"after"`
	Why    string `json:"why"`
}

// folder is the name, made harmless: a state file may be anybody's.
func (a *again) folder() string {
	if name := filepath.Base(a.Folder); strings.HasPrefix(name, asidePrefix) {
		return name
	}
	return asidePrefix + "unknown"
}

// againBatch is how many records are written before they are synced.
const againBatch = 64

// resume records again what is due.
func (j *Journal) resume(scan wal.Scan) error {
	a := j.state.Again
	if a == nil {
		return nil
	}
	var skip uint64
	if scan.Last > 0 {
		skip = scan.Last - 1
	}
	err := j.repeat(wal.Dir(filepath.Join(j.c.Dir, a.folder())), a.After, skip, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	j.state.Again, j.dirty = nil, true
	return nil
}

// Again records once more what another journal of this device holds behind a
// sequence, in its order and with the times of its events. Records that lost
// their content, or cannot be read, are passed over. When the disk fails meanwhile,
// they wait in memory as others do.
func (j *Journal) Again(other wal.FS, after uint64) error { return j.repeat(other, after, 0, false) }

func (j *Journal) repeat(other wal.FS, after, skip uint64, durable bool) error {
	var n uint64
	_, err := wal.Inspect(other, func(r wal.Record) error {
		if r.Kind != wal.Full || r.Sequence <= after {
			return nil
		}
		e, err := event.Parse(r.Payload)
		// Checkpoints are of the epoch in which they were taken: in another one they
		// certify nothing.
		if err != nil || e.Type == event.Checkpoint {
			return nil // the first stays where it is
		}
		if n++; n <= skip {
			return nil
		}
		if n%againBatch == 0 {
			if err := j.sync(); err != nil && durable {
				return err
			}
		}
		return j.append(e.Event)
	})
	if err == nil {
		err = j.sync()
	}
	if err != nil {
		return fmt.Errorf("record again: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wake()
	return nil
}
