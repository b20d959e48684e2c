package fstree

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"ward/internal/trust/baseline"
)

// MostLooked bounds what Look reads of a file, in bytes.
const MostLooked = 64 << 20

var looks = sync.Pool{New: func() any { return &Walk{inside: -1, file: newFile(&Options{}), link: make([]byte, 4097)} }}

// Look says what stands at an absolute path: metadata, security attributes and the
// SHA-256 of a regular file's content. No link is followed, not even on the way to
// it; no pipe, socket or device is opened. A file of more than MostLooked bytes
// comes without its digest and with ErrTooLarge. It is for any goroutine.
func Look(path string) (baseline.Entry, error) {
	w := looks.Get().(*Walk)
	defer looks.Put(w)
	e, err := w.lookAt(path)
	if err != nil {
		return e, fmt.Errorf("look at %q: %w", path, err)
	}
	return e, nil
}

func (w *Walk) lookAt(path string) (baseline.Entry, error) {
	if !strings.HasPrefix(path, "/") || strings.IndexByte(path, 0) >= 0 {
		return baseline.Entry{}, errors.New("want an absolute path")
	}
	above, name := "/", "."
	if path != "/" {
		cut := strings.LastIndexByte(path, '/')
		above, name = path[:max(cut, 1)], path[cut+1:]
	}
	dir, err := openWay(above)
	if err != nil {
		return baseline.Entry{}, reason("open folder", err)
	}
	w.stack = append(w.stack[:0], folder{fd: dir})
	defer func() {
		w.file.close()
		w.stack[0].close()
	}()
	w.name = append(append(w.name[:0], name...), 0)
	w.node = Node{Path: path}
	if err := statAt(dir, w.name, &w.where); err != nil {
		return baseline.Entry{}, reason("look at", err)
	}
	w.fill(dir, nil)
	if w.node.Err == nil {
		w.node.Err = w.content()
	}
	e, err := w.node.Entry()
	if w.node.Err != nil {
		err = w.node.Err
	}
	return e, err
}

// content reads what only an open file or folder tells.
func (w *Walk) content() error {
	switch w.node.Type {
	case baseline.Directory:
		fd, err := openAt(w.stack[0].fd, w.name, openFolder, w.node.UID)
		if err != nil {
			return reason("open folder", err)
		}
		defer unix.Close(fd)
		w.node.Xattrs, err = w.attrs.read(fd)
		return err
	case baseline.File:
		if err := w.Attributes(); err != nil {
			return err
		}
		if w.node.Verity {
			_, _ = w.FSVerity() // one with another algorithm is hashed as all are
		}
		_, err := w.SHA256(MostLooked)
		return err
	}
	return nil
}

// openWay opens a folder with no link on the way to it: by openat2(2), or step by
// step on a kernel before 5.6, under a filter that has no such call, and for paths
// beyond PATH_MAX.
func openWay(path string) (int, error) {
	how := unix.OpenHow{Flags: openFolder, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
	if err != unix.ENOSYS && err != unix.EPERM && err != unix.ENAMETOOLONG && err != unix.EAGAIN {
		return fd, err
	}
	fd, err = unix.Open("/", openFolder, 0)
	for name := range strings.SplitSeq(path, "/") {
		if err != nil {
			return -1, err
		}
		if name == "" {
			continue
		}
		var next int
		next, err = unix.Openat(fd, name, openFolder, 0)
		_ = unix.Close(fd)
		fd = next
	}
	return fd, err
}

// Entry is the node as an entry of a baseline, for as long as it is wanted.
func (n *Node) Entry() (baseline.Entry, error) {
	e := n.Fleeting()
	e.Path, e.Link = strings.Clone(n.Path), strings.Clone(n.Link)
	var err error
	if len(n.Xattrs) > 0 {
		values := make(map[string][]byte, len(n.Xattrs))
		for _, x := range n.Xattrs {
			values[x.Name] = x.Value
		}
		e.Xattrs, err = baseline.NewXattrs(values)
	}
	return e, err
}

// Fleeting is Entry until the walk's next step, without security attributes.
func (n *Node) Fleeting() baseline.Entry {
	return baseline.Entry{
		Path: n.Path, Type: n.Type, Mode: n.Mode, UID: n.UID, GID: n.GID, Size: n.Size,
		SHA256: n.SHA256, Verity: n.Measured, Link: n.Link, Device: n.Device,
	}
}
