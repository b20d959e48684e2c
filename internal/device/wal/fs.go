package wal

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// FS is the folder of a log: the seam where tests inject faults. Names are
// plain file names.
type FS interface {
	List() ([]string, error)
	// Open opens a file for reading; create makes a new one for writing and
	// fails when it exists.
	Open(name string, create bool) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	Sync() error // the names
}

// File is one file of a log.
type File interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	Sync() error
	Close() error
}

// Dir is a folder of the operating system.
type Dir string

// List returns the names in the folder.
func (d Dir) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// errNotPlain: something else than a file has a segment's name.
var errNotPlain = errors.New("not a plain file")

// Open opens a file for reading, so that a copy without the right to write can
// be read too, or creates one for writing. What is no plain file is not waited
// for, and links are not followed: a copy may come from anybody.
func (d Dir) Open(name string, create bool) (File, error) {
	flags := os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_NOFOLLOW
	if create {
		flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(filepath.Join(string(d), name), flags, 0o600)
	if err != nil {
		if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) { // a link, a socket
			err = errNotPlain
		}
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, errNotPlain
	}
	return osFile{f}, nil
}

// Rename renames a file, over another one if need be.
func (d Dir) Rename(from, to string) error {
	return os.Rename(filepath.Join(string(d), from), filepath.Join(string(d), to))
}

// Remove removes a file.
func (d Dir) Remove(name string) error { return os.Remove(filepath.Join(string(d), name)) }

// Sync makes the names durable.
func (d Dir) Sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
