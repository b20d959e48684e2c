package build

import (
	"errors"
	"fmt"
	"io/fs"

	"ward/internal/trust/baseline"
)

// tree reads entries from a file system.
type tree struct {
	*builder
	root fs.FS
}

func (t tree) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if !fs.ValidPath(name) {
		return fmt.Errorf("name %q is not UTF-8: rename the file, or make the baseline from a tar archive", name)
	}
	path := "/"
	if name != "." {
		path += name
	}
	if t.excluded(path) {
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	e, err := t.entry(name, path, info)
	if err != nil {
		return fmt.Errorf("read %q: %w", path, err)
	}
	return t.write(e)
}

func (t tree) entry(name, path string, info fs.FileInfo) (baseline.Entry, error) {
	e := baseline.Entry{Path: path, Mode: unixMode(info.Mode())}
	if t.o.Host.Owner != nil {
		var err error
		if e.UID, e.GID, err = t.o.Host.Owner(info); err != nil {
			return e, err
		}
	}
	if t.o.Host.Xattrs != nil {
		values, err := t.o.Host.Xattrs(name)
		if err != nil {
			return e, err
		}
		if e.Xattrs, err = baseline.NewXattrs(values); err != nil {
			return e, err
		}
	}
	e = t.owned(e)
	var err error
	switch info.Mode().Type() {
	case 0:
		e.Type = baseline.File
		err = t.file(name, &e)
	case fs.ModeDir:
		e.Type = baseline.Directory
	case fs.ModeSymlink:
		e.Type, e.Mode = baseline.Symlink, 0o777
		e.Link, err = fs.ReadLink(t.root, name)
	case fs.ModeDevice | fs.ModeCharDevice:
		e.Type = baseline.CharDevice
		e.Device, err = t.device(info)
	case fs.ModeDevice:
		e.Type = baseline.BlockDevice
		e.Device, err = t.device(info)
	case fs.ModeNamedPipe:
		e.Type = baseline.Pipe
	case fs.ModeSocket:
		e.Type = baseline.Socket
	default:
		err = errors.New("neither file, folder, link, device, pipe nor socket")
	}
	return e, err
}

func (t tree) device(info fs.FileInfo) (baseline.Device, error) {
	if t.o.Host.Device == nil {
		return baseline.Device{}, errors.New("device file, and no way to read its numbers")
	}
	return t.o.Host.Device(info)
}

func (t tree) file(name string, e *baseline.Entry) error {
	f, err := t.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return t.content(e, f)
}

func unixMode(m fs.FileMode) uint16 {
	u := uint16(m.Perm())
	if m&fs.ModeSetuid != 0 {
		u |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		u |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		u |= 0o1000
	}
	return u
}
