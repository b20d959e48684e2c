package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ward/internal/device/wal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// asidePrefix names the folders that journals are put into which cannot be gone
// on with. They are evidence: all that is put aside stays, within a bound of as
// much again as the journal itself may take. What no longer fits is not kept, and
// a finding says so; the earliest stay.
const asidePrefix = "aside-"

// maxAside bounds the names that are tried for one epoch.
const maxAside = 1000

// putAside looks whose journal lies in the folder, and of what time. It is moved
// into a folder beside the segments, and a new epoch begins, in these cases, in
// this order:
//
//  1. the daemon says so (Config.Anew);
//  2. it is another device's (a disk that was copied, or this device before it
//     had a name): the fleet would refuse it;
//  3. its epoch is lower than the one that the state file knows: an older copy,
//     or moving it was interrupted.
//
// The new epoch is written down before anything is moved, so that its number
// grows whatever is interrupted. It returns what there is to tell.
func (j *Journal) putAside() ([]event.Event, error) {
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
	if event.Volatile(j.c.AtLeast) {
		j.c.Log.Error("the epoch that is asked for is none of a journal on a disk", "epoch", j.c.AtLeast)
		j.c.AtLeast = 0
	}
	known := j.state.Again // begun and interrupted
	if known != nil {
		j.why = known.Why
	}
	e, unread := event.Parse(newest)
	why := j.c.Anew
	switch {
	case why != "":
	case scan.Epoch == 0:
		return nil, nil
	case unread == nil && e.Source != j.c.Source:
		why = fmt.Sprintf("there lay the journal of %s", e.Source)
	case scan.Epoch < j.state.Epoch:
		why = fmt.Sprintf("there lay an older copy, for epoch %d was begun before", j.state.Epoch)
	default:
		return nil, nil // nothing in it, or damage, which is told elsewhere
	}
	if scan.Epoch == 0 {
		if j.why == "" {
			j.why = why
		}
		return nil, nil
	}
	var name string
	if known != nil && j.c.Anew == "" {
		name = known.folder()
	} else {
		if name, err = asideName(j.c.Dir, scan.Epoch); err != nil {
			return nil, fmt.Errorf("put the journal aside: %w", err)
		}
		j.why, known = fmt.Sprintf("%s; the journal of epoch %d was put aside into %s", why, scan.Epoch, name), nil
	}
	if j.c.Anew != "" {
		known = &again{Folder: name, After: j.c.Since, Why: j.why}
	}
	j.state = state{Epoch: max(scan.Epoch+1, j.state.Epoch+1, j.c.AtLeast), Flash: j.state.Flash, Again: known}
	j.reserved = true
	if err := j.writeState(); err != nil {
		return nil, err
	}
	lost, err := j.move(name)
	if err != nil {
		return nil, fmt.Errorf("put the journal aside: %w", err)
	}
	return lost, nil
}

// asideName is the first folder for a journal of an epoch that is not there yet.
func asideName(dir string, epoch uint64) (string, error) {
	for n := 1; n <= maxAside; n++ {
		name := asidePrefix + strconv.FormatUint(epoch, 10)
		if n > 1 {
			name += "-" + strconv.Itoa(n)
		}
		_, err := os.Lstat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%d folders of epoch %d are there", maxAside, epoch)
}

// move moves the segments, the oldest first, as far as there is room; when it was
// interrupted, the next start moves the rest.
func (j *Journal) move(name string) ([]event.Event, error) {
	dir := j.c.Dir
	aside := filepath.Join(dir, name)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var kept int64
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), asidePrefix) {
			kept += bytesIn(filepath.Join(dir, e.Name()))
		}
	}
	gone, lost := 0, int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), ".wal") {
			continue
		}
		if kept+info.Size() > j.c.MaxBytes {
			gone, lost = gone+1, lost+info.Size()
			err = os.Remove(filepath.Join(dir, e.Name()))
		} else {
			kept += info.Size()
			err = os.Rename(filepath.Join(dir, e.Name()), filepath.Join(aside, e.Name()))
		}
		if err != nil {
			return nil, err
		}
	}
	if err := errors.Join(wal.Dir(aside).Sync(), wal.Dir(dir).Sync()); err != nil {
		return nil, err
	}
	if gone == 0 {
		return nil, nil
	}
	return []event.Event{incident(finding.JournalAsideFull, fmt.Sprintf(
		"%d segments with %d KiB of the journal that belongs into %s were not kept: the folders beside the journal hold %d KiB, and %d KiB is their bound",
		gone, lost>>10, name, kept>>10, j.c.MaxBytes>>10))}, nil
}

// bytesIn counts what lies in a folder; what cannot be read counts nothing.
func bytesIn(dir string) int64 {
	entries, _ := os.ReadDir(dir)
	var n int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}
