package register

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/fleet/files"
)

// record is a file of lines of JSON that only grows, and how far it was read.
type record struct {
	path   string
	file   fs.FileInfo // that was read
	offset int64
	lines  int
}

// follow gives take every line that is new. A file that was exchanged or shortened
// is read from its begin, after reset. A last line without an end was cut off by a
// power cut, or is being written: it does not count.
func (r *record) follow(reset func(), take func(line []byte) error) error {
	f, err := os.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		r.file, r.offset, r.lines = nil, 0, 0
		reset()
		return nil
	}
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	if r.file == nil || !os.SameFile(r.file, info) || info.Size() < r.offset {
		r.offset, r.lines = 0, 0
		reset()
	}
	r.file = info
	switch {
	case info.Size() > maxRecord:
		return fmt.Errorf("read record %s: more than %d bytes", r.path, maxRecord)
	case info.Size() == r.offset:
		return nil
	}
	if _, err := f.Seek(r.offset, io.SeekStart); err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	lines := bufio.NewReaderSize(f, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read record %s: line %d: %w", r.path, r.lines+1, err)
		}
		if err := take(line); err != nil {
			r.file = nil // what was taken does not stand: begin anew the next time
			return fmt.Errorf("read record %s: line %d: %w; restore it from its backup", r.path, r.lines+1, err)
		}
		r.offset += int64(len(line))
		r.lines++
	}
}

// append adds a line, synced: it is written before the act is done. A line that
// was cut off goes. The caller has the lock and has followed.
func (r *record) append(v any) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("record act: %w", err)
	}
	line = append(line, '\n')
	if len(line) > maxLine {
		return nil, fmt.Errorf("record act: a line of %d bytes, at most %d", len(line), maxLine)
	}
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("record act: %w", err)
	}
	err = f.Truncate(r.offset)
	if err == nil {
		_, err = f.WriteAt(line, r.offset)
	}
	err = errors.Join(err, f.Sync())
	info, statErr := f.Stat()
	if err := errors.Join(err, statErr, f.Close()); err != nil {
		return nil, fmt.Errorf("record act: %w", err)
	}
	if r.file == nil { // new: its name must last too
		if err := files.SyncFolder(filepath.Dir(r.path)); err != nil {
			return nil, fmt.Errorf("record act: %w", err)
		}
	}
	r.file = info
	r.offset += int64(len(line))
	r.lines++
	return line, nil
}

// lock takes the folder's lock, and returns what gives it back.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock register: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return nil, errors.Join(fmt.Errorf("lock register %s: %w", path, err), f.Close())
		case time.Now().After(deadline):
			return nil, errors.Join(fmt.Errorf("lock register %s: another process has held it for %s", path, lockWait), f.Close())
		}
	}
}
