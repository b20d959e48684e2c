package statefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// ErrIrregular: there is a link, a folder or another thing where a file was
// expected, or a file that is too large.
var ErrIrregular = errors.New("not a regular file of at most its largest size")

// FolderMode is the mode of folders that are made here.
const FolderMode fs.FileMode = 0o750

// Folder is a folder of state that belongs to somebody who need not be trusted:
// root may write into it, for no name in it leads out of it and no link is
// followed. What root makes in it belongs to the folder's owner.
type Folder struct {
	// Step, if set, is called after each change of the disk with its name, so that
	// a test can stop there.
	Step func(change string)

	root     *os.Root
	uid, gid int // -1: stays as it is
}

// OpenFolder opens a folder. One that is not there gives fs.ErrNotExist.
func OpenFolder(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open state folder: %w", err)
	}
	f := &Folder{root: root, uid: -1, gid: -1}
	if os.Geteuid() == 0 {
		info, err := root.Stat(".")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open state folder: %w", err), root.Close())
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			f.uid, f.gid = int(s.Uid), int(s.Gid)
		}
	}
	return f, nil
}

// Close closes the folder.
func (f *Folder) Close() error { return f.root.Close() }

func (f *Folder) step(format string, args ...any) {
	if f.Step != nil {
		f.Step(fmt.Sprintf(format, args...))
	}
}

// own gives what was made its owner and its mode.
func (f *Folder) own(made *os.File, mode fs.FileMode) error {
	var err error
	if f.uid >= 0 {
		err = made.Chown(f.uid, f.gid)
	}
	return errors.Join(err, made.Chmod(mode))
}

// plain refuses a name that goes through a link.
func (f *Folder) plain(name string) error {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		info, err := f.root.Lstat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%w: %s is no folder", ErrIrregular, dir)
		}
	}
	return nil
}

// Write replaces a file's content and returns when it is durable. Its folder
// must be there.
func (f *Folder) Write(name string, content []byte, mode fs.FileMode) error {
	if err := f.write(name, content, mode); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

func (f *Folder) write(name string, content []byte, mode fs.FileMode) error {
	if len(content) > MaxSize {
		return fmt.Errorf("%s: %d bytes, want at most %d", name, len(content), MaxSize)
	}
	if err := f.plain(name); err != nil {
		return err
	}
	// One that is there was left by a power cut, or is a trap: it is never opened.
	if err := f.root.Remove(name + temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := f.root.OpenFile(name+temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	f.step("make %s", name)
	err = f.own(file, mode)
	if err == nil {
		_, err = file.Write(content)
	}
	f.step("fill %s", name)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return f.move(name+temporary, name)
}

// Move renames a file or a folder and returns when that is durable; a file that
// is at the new name is replaced.
func (f *Folder) Move(from, to string) error {
	err := errors.Join(f.plain(from), f.plain(to))
	if err == nil {
		err = f.move(from, to)
	}
	if err != nil {
		return fmt.Errorf("rename state: %w", err)
	}
	return nil
}

func (f *Folder) move(from, to string) error {
	if err := f.root.Rename(from, to); err != nil {
		return err
	}
	f.step("rename %s", to)
	return f.sync(path.Dir(to))
}

// Make makes a folder, and those above it, and returns when they are durable.
func (f *Folder) Make(name string) error {
	at := "."
	for part := range strings.SplitSeq(name, "/") {
		above := at
		at = path.Join(at, part)
		err := f.root.Mkdir(at, FolderMode)
		if errors.Is(err, fs.ErrExist) {
			if err := f.plain(path.Join(at, "x")); err != nil {
				return fmt.Errorf("make state folder: %w", err)
			}
			continue
		}
		if err == nil {
			err = f.adopt(at)
		}
		if err == nil {
			f.step("make folder %s", at)
			err = f.sync(above)
		}
		if err != nil {
			return fmt.Errorf("make state folder: %w", err)
		}
	}
	return nil
}

func (f *Folder) adopt(dir string) error {
	made, err := f.root.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.own(made, FolderMode), made.Close())
}

func (f *Folder) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Read returns a regular file's content of at most so many bytes. One that is not
// there gives fs.ErrNotExist, a link or a longer one ErrIrregular.
func (f *Folder) Read(name string, most int) ([]byte, error) {
	b, err := f.read(name, most)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return b, nil
}

func (f *Folder) read(name string, most int) ([]byte, error) {
	file, _, err := f.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > most {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrIrregular, name, most)
	}
	return b, nil
}

// open opens a regular file and no other: a pipe would block, a link lead
// elsewhere.
func (f *Folder) open(name string, how int) (*os.File, fs.FileInfo, error) {
	if err := f.plain(name); err != nil {
		return nil, nil, err
	}
	before, err := f.root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w: %s", ErrIrregular, name)
	}
	file, err := f.root.OpenFile(name, how|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !os.SameFile(before, info) {
		err = fmt.Errorf("%w: %s was exchanged", ErrIrregular, name)
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// List returns what is in a folder, sorted, of at most so many entries; nothing
// if the folder is not there.
func (f *Folder) List(name string, most int) ([]fs.DirEntry, error) {
	entries, err := f.list(name, most)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list state: %w", err)
	}
	return entries, nil
}

func (f *Folder) list(name string, most int) ([]fs.DirEntry, error) {
	if err := f.plain(path.Join(name, "x")); err != nil {
		return nil, err
	}
	dir, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(most + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > most {
		return nil, fmt.Errorf("%w: %s holds more than %d entries", ErrIrregular, name, most)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}
