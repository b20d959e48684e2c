package statefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

const (
	// maxErased bounds the entries of one folder that are erased in one go; what
	// is beyond it is met by the next.
	maxErased = 1024
	// maxDepth bounds how deep folders are erased.
	maxDepth = 16
	// maxOverwritten bounds what is written over of one file, so that a sparse one
	// does not fill the disk; Ward's largest, a segment of the journal, has 4 MiB at most.
	maxOverwritten = 64 << 20
	// chunk is how much is written over at once.
	chunk = 64 << 10
)

// Erase writes over the content of a file, or of all files in a folder, and
// removes it. Nothing there is no error; links are removed and not followed. It
// goes on after an error and can be repeated. What a flash chip keeps of the old
// content in blocks that it has set aside is beyond its reach.
func (f *Folder) Erase(name string) error {
	if err := f.erase(name, maxDepth); err != nil {
		return fmt.Errorf("erase state: %w", err)
	}
	return nil
}

func (f *Folder) erase(name string, depth int) error {
	info, err := f.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		if err := f.empty(name, depth); err != nil {
			return err
		}
	case info.Mode().IsRegular():
		err = f.overwrite(name) // what cannot be written over is removed all the same
	}
	if err = errors.Join(err, f.root.Remove(name)); err != nil {
		return err
	}
	f.step("remove %s", name)
	return f.sync(path.Dir(name))
}

func (f *Folder) empty(dir string, depth int) error {
	if depth == 0 {
		return fmt.Errorf("%s: more than %d folders deep", dir, maxDepth)
	}
	for {
		entries, err := f.some(dir)
		if len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			err = errors.Join(err, f.erase(path.Join(dir, e.Name()), depth-1))
		}
		if err != nil {
			return err
		}
	}
}

// some returns the first entries of a folder, unsorted.
func (f *Folder) some(dir string) ([]fs.DirEntry, error) {
	d, err := f.root.Open(dir)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(maxErased)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return entries, errors.Join(err, d.Close())
}

func (f *Folder) overwrite(name string) error {
	file, info, err := f.open(name, os.O_WRONLY)
	if err != nil {
		return err
	}
	size := min(info.Size(), maxOverwritten)
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Nlink > 1 {
		size = 0 // it is somebody else's too
	}
	zeros := make([]byte, min(chunk, max(size, 0)))
	for at := int64(0); at < size && err == nil; at += chunk {
		_, err = file.WriteAt(zeros[:min(chunk, size-at)], at)
	}
	f.step("overwrite %s", name)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
