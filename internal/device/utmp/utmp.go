// Package utmp reads the records that login programs leave of sessions: struct utmp
// of utmp(5), as glibc lays it out, in /run/utmp (who is there), /var/log/wtmp (who
// came and went) and /var/log/btmp (who failed to). The host that a session came from
// is not read. Whoever may write these files may lie in them.
package utmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"time"
)

// Type of a record (ut_type).
type Type uint16

// Types that matter here.
const (
	Boot  Type = 2 // the system was started
	Login Type = 7 // USER_PROCESS: somebody logged in
	Dead  Type = 8 // DEAD_PROCESS: a session has ended
)

// Entry is one record.
type Entry struct {
	Type            Type
	PID             int32
	Time            time.Time // the wall clock
	UntrustedLine   string    // terminal, "tty1"; "~" of a start of the system
	UntrustedUser   string    // empty where a session has ended
	UntrustedRemote bool      // it came from another host
}

// maxRead bounds the records that one look takes.
const maxRead = 4096

// layout of struct utmp: most machines write 32-bit times for the sake of their 32-bit
// programs; those that never had any write 64-bit ones.
var size, wide = func() (int, bool) {
	switch runtime.GOARCH {
	case "arm64", "riscv64", "loong64":
		return 400, true
	}
	return 384, false
}()

// Size of a record in bytes, on this machine.
func Size() int { return size }

// Parse reads one record of Size bytes.
func Parse(b []byte) (Entry, error) {
	if len(b) != size {
		return Entry{}, fmt.Errorf("parse utmp: %d bytes, want %d", len(b), size)
	}
	ne := binary.NativeEndian
	e := Entry{
		Type: Type(ne.Uint16(b)), PID: int32(ne.Uint32(b[4:])), UntrustedLine: text(b[8:40]), UntrustedUser: text(b[44:76]),
		UntrustedRemote: b[76] != 0 && !strings.HasPrefix(text(b[76:332]), ":"), // ":0" is a display of the device
	}
	if wide {
		e.Time = time.Unix(int64(ne.Uint64(b[344:])), 0).UTC()
	} else {
		e.Time = time.Unix(int64(ne.Uint32(b[340:])), 0).UTC()
	}
	return e, nil
}

func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return strings.ToValidUTF8(string(b), "\ufffd")
}

// File is one of the files, read from where the last look ended.
type File struct {
	Name   string // within the file system
	Offset int64  // of the next record
}

// Since reads the records behind the offset, at most 4096, and moves it. A file that
// has become shorter is another one, and is read from its begin. A record that is cut
// is left for the next look; one that is not there gives fs.ErrNotExist.
func (f *File) Since(root fs.FS) ([]Entry, error) {
	file, err := root.Open(f.Name)
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read sessions: %s is no regular file", f.Name)
	}
	if info.Size() < f.Offset {
		f.Offset = 0
	}
	f.Offset -= f.Offset % int64(size)
	from, ok := file.(io.ReaderAt)
	if !ok {
		return nil, fmt.Errorf("read sessions: %s cannot be read from a place on", f.Name)
	}
	var out []Entry
	b := make([]byte, size)
	for len(out) < maxRead {
		n, err := from.ReadAt(b, f.Offset)
		if n < size {
			if err != nil && !errors.Is(err, io.EOF) {
				return out, fmt.Errorf("read sessions: %w", err)
			}
			break
		}
		e, err := Parse(b)
		if err != nil {
			return out, err
		}
		out = append(out, e)
		f.Offset += int64(size)
	}
	return out, nil
}

// Skip moves the offset behind the last start of the system that is among the last
// 4096 records, or to their end where there is none: what came before is of another
// boot.
func (f *File) Skip(root fs.FS) error {
	info, err := fs.Stat(root, f.Name)
	if err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	whole := info.Size() / int64(size)
	f.Offset = max(0, whole-maxRead) * int64(size)
	first := f.Offset
	entries, err := f.Since(root)
	if err != nil {
		return err
	}
	for i := len(entries) - 1; i >= 0; i-- {
		if entries[i].Type == Boot {
			f.Offset = first + int64(i+1)*int64(size)
			break
		}
	}
	return nil
}
