// Package statefile keeps small pieces of state that survive a power cut: a
// reader sees the old content or the new one, never a mixture. Writing goes
// temporary file, fsync, rename, fsync of the directory (rename(2), fsync(2)).
package statefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
)

// MaxSize bounds a state file, in bytes.
const MaxSize = 1 << 20

// temporary is the suffix of a file that is being written; one that is found
// was left by a power cut and is written over.
const temporary = ".new"

// written counts the bytes of Write; the flash wears whoever calls it.
var written atomic.Uint64

// Written is how many bytes Write has written since the program's start.
func Written() uint64 { return written.Load() }

// Write replaces the file's content and returns when it is durable.
func Write(path string, content []byte) error {
	if len(content) > MaxSize {
		return fmt.Errorf("write %s: %d bytes, want at most %d", path, len(content), MaxSize)
	}
	f, err := os.OpenFile(path+temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	n, err := f.Write(content)
	written.Add(uint64(n))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(path+temporary, path); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// Read returns the file's content; a file that is not there gives
// fs.ErrNotExist.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("read state: %s has more than %d bytes", path, MaxSize)
	}
	return b, nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
