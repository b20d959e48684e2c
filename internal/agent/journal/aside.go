package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ward/internal/device/wal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// asidePrefix names the folders that journals of other devices are put into.
const asidePrefix = "aside-"

// putForeignAside looks whose journal lies in the folder. That of another
// device (a disk that was copied, or this device before it had a name) cannot
// be gone on with: the fleet would refuse it. It is moved into a folder beside
// the segments and a new epoch begins. One such folder is kept, the newest.
func (j *Journal) putForeignAside() ([]event.Event, error) {
	var newest []byte
	scan, err := wal.Inspect(j.c.FS, func(r wal.Record) error {
		if r.Kind == wal.Full {
			newest = append(newest[:0], r.Payload...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	e, err := event.Parse(newest)
	if err != nil || e.Source == j.c.Source {
		return nil, nil // nothing in it, or damage, which is told elsewhere
	}
	name := fmt.Sprintf("%s%d", asidePrefix, scan.Epoch)
	if err := moveSegments(j.c.Dir, name); err != nil {
		return nil, fmt.Errorf("put the journal of %s aside: %w", e.Source, err)
	}
	j.state = state{Epoch: max(scan.Epoch, j.state.Epoch)}
	return []event.Event{incident(finding.JournalReset, fmt.Sprintf("the journal of %s, epoch %d, was put aside into %s", e.Source, scan.Epoch, name))}, nil
}

// moveSegments moves the segments into a new folder; when it was interrupted,
// the next start moves the rest.
func moveSegments(dir, name string) error {
	names, err := wal.Dir(dir).List()
	if err != nil {
		return err
	}
	aside := filepath.Join(dir, name)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	for _, n := range names {
		switch {
		case strings.HasSuffix(n, ".wal"):
			err = os.Rename(filepath.Join(dir, n), filepath.Join(aside, n))
		case strings.HasPrefix(n, asidePrefix) && n != name:
			err = os.RemoveAll(filepath.Join(dir, n))
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(wal.Dir(aside).Sync(), wal.Dir(dir).Sync())
}
