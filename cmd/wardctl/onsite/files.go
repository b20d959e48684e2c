package onsite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ward/internal/cli"
)

// Magic numbers of file systems that live in memory (statfs(2)).
const (
	tmpfs = 0x01021994
	ramfs = 0x858458f6
)

// InMemory refuses a file for a secret on a file system that outlives the power: a
// flash chip keeps what was removed. A pipe or a device (a printer's) is what it
// is.
func InMemory(name string) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil
	}
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(name), &s); err != nil {
		return cli.Fail(cli.Usage, "look at the file system of %s: %w", name, err)
	}
	if kind := int64(s.Type); kind != tmpfs && kind != ramfs {
		return cli.Fail(cli.Usage, "%s is not in memory: write secrets to a tmpfs such as /run, or give --force", name)
	}
	return nil
}

// WriteNew writes a file that must not be there yet, or into a pipe or device that
// is, and returns when it is durable.
func WriteNew(name string, mode fs.FileMode, content []byte) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		flags = os.O_WRONLY
	}
	f, err := os.OpenFile(name, flags, mode)
	if errors.Is(err, fs.ErrExist) {
		return cli.Fail(cli.Usage, "write %s: it is there already, and is not replaced", name)
	}
	if err != nil {
		return cli.Fail(cli.Usage, "write: %w", err)
	}
	_, err = f.Write(content)
	if err == nil && flags&os.O_EXCL != 0 {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil && flags&os.O_EXCL != 0 {
		err = syncFolder(filepath.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
