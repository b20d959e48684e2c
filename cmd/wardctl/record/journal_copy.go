package record

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"ward/internal/cli"
	"ward/internal/device/wal"
)

// openJournalCopy opens a journal's folder, or an export of it; done closes it.
func openJournalCopy(name string) (log wal.FS, done func(), err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, cli.Fail(cli.Usage, "%w: name the folder of a journal, such as /var/lib/ward/journal, or an export", err)
	}
	if info.IsDir() {
		return wal.Dir(name), func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, cli.Fail(cli.Usage, "%w", err)
	}
	a, err := openArchive(f)
	if err != nil {
		f.Close()
		return nil, nil, cli.Fail(cli.Usage, "%s: not a folder, and not an export of a journal: %w", name, err)
	}
	return a, func() { f.Close() }, nil
}

// maxMembers bounds the files of an export: a journal of 1 GiB has some 4,000
// segments.
const maxMembers = 1 << 16

// archive is an export as a folder that can be read: a tar file (POSIX.1-2017, pax)
// whose members are the journal's files.
type archive struct {
	names   []string
	members map[string]*io.SectionReader
}

func openArchive(f *os.File) (*archive, error) {
	a := &archive{members: make(map[string]*io.SectionReader)}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) && len(a.names) > 0 {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read tar: %w", err)
		}
		at, err := f.Seek(0, io.SeekCurrent) // the reader takes whole headers and nothing ahead
		if err != nil {
			return nil, err
		}
		name := path.Base(h.Name)
		if h.Typeflag != tar.TypeReg || a.members[name] != nil {
			continue
		}
		if len(a.names) == maxMembers {
			return nil, fmt.Errorf("more than %d members", maxMembers)
		}
		a.names = append(a.names, name)
		a.members[name] = io.NewSectionReader(f, at, h.Size)
	}
}

// errReadOnly: an export is read and never changed.
var errReadOnly = errors.New("an export is not changed")

// List implements wal.FS.
func (a *archive) List() ([]string, error) { return slices.Clone(a.names), nil }

// Open implements wal.FS.
func (a *archive) Open(name string, create bool) (wal.File, error) {
	switch m := a.members[name]; {
	case create:
		return nil, errReadOnly
	case m == nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	default:
		return member{m}, nil
	}
}

// Rename implements wal.FS.
func (a *archive) Rename(string, string) error { return errReadOnly }

// Remove implements wal.FS.
func (a *archive) Remove(string) error { return errReadOnly }

// Sync implements wal.FS.
func (a *archive) Sync() error { return nil }

type member struct{ *io.SectionReader }

func (m member) Size() (int64, error)               { return m.SectionReader.Size(), nil }
func (m member) WriteAt([]byte, int64) (int, error) { return 0, errReadOnly }
func (m member) Sync() error                        { return nil }
func (m member) Close() error                       { return nil }

// segments are the names of a log's segments, oldest first.
func segments(log wal.FS) ([]string, error) {
	names, err := log.List()
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".wal") })
	slices.Sort(names)
	return names, nil
}
