// Package disk is how wardrelease reads and writes files: within bounds, and as a
// whole or not at all.
package disk

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Bounds of the files that are read whole.
const (
	MaxManifest = 1 << 20
	MaxEventLog = 16 << 20 // firmware gives the log 64 KiB to some megabytes
	MaxKey      = 64 << 10
)

// Read reads a file of at most longest bytes.
func Read(name string, longest int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, longest+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > longest {
		return nil, fmt.Errorf("%s: larger than the %d bytes that are read", name, longest)
	}
	return b, nil
}

// Write replaces a file as a whole, so that no reader meets half of it.
func Write(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(f.Name(), name)
}

// WriteNew writes a file that must not exist; what cannot be finished is removed.
func WriteNew(name string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(name)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
