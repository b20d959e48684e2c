package fstree

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"ward/internal/trust/baseline"
)

// openInside opens the folder that the node is, if it is still the same one.
func (w *Walk) openInside() (int, error) {
	if len(w.path) == 0 {
		err := w.reopen(0)
		return w.stack[0].fd, err
	}
	if w.inside >= 0 {
		return w.inside, nil
	}
	fd, err := openAt(w.stack[len(w.stack)-1].fd, w.name, openFolder, w.node.UID)
	if err != nil {
		return -1, reason("open folder", err)
	}
	if err = statAt(fd, empty, &w.file.again); err == nil && !sameObject(&w.file.again, &w.where) {
		err = ErrChanging
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	w.inside = fd
	return fd, nil
}

func (w *Walk) closeInside() {
	if w.inside >= 0 {
		_ = unix.Close(w.inside)
		w.inside = -1
	}
}

func sameObject(a, b *unix.Statx_t) bool {
	return a.Ino == b.Ino && a.Dev_major == b.Dev_major && a.Dev_minor == b.Dev_minor
}

// descend goes into the folder that the node is. What cannot be gone into is told
// in the node.
func (w *Walk) descend() error {
	fd, err := w.openInside()
	if err != nil {
		w.node.Err = err
		return err
	}
	w.inside = -1
	w.push(fd)
	w.stack[len(w.stack)-1].resuming = len(w.from) > 0
	return nil
}

// push puts the folder that the node is onto the way. Folders further out are
// closed when too many are open.
func (w *Walk) push(fd int) {
	n := len(w.stack)
	if n < cap(w.stack) {
		w.stack = w.stack[:n+1]
	} else {
		w.stack = append(w.stack, folder{})
	}
	f := &w.stack[n]
	names, after := f.names, f.after[:0]
	names.names, names.starts, names.next, names.more = names.names[:0], names.starts[:0], 0, false
	*f = folder{fd: fd, ino: w.where.Ino, dev: w.node.FS, mount: w.mount, path: len(w.path), names: names, after: after}
	if n >= maxOpen {
		w.stack[n-maxOpen].close()
	}
}

// ascend leaves the innermost folder and says whether there is one around it.
func (w *Walk) ascend() bool {
	n := len(w.stack) - 1
	w.from = nil // what it stood at is gone, or behind
	if n == 0 {
		w.stack[0].close()
		w.stack = w.stack[:0]
		return false
	}
	if above := &w.stack[n-1]; above.fd < 0 {
		// The way back is "..", where that leads to the folder that the walk came from.
		fd, err := unix.Openat(w.stack[n].fd, "..", openFolder, 0)
		if err == nil && !above.is(fd) {
			_ = unix.Close(fd)
			fd = -1
		}
		if err == nil {
			above.fd = fd
		}
	}
	w.stack[n].close()
	w.stack = w.stack[:n]
	return true
}

// is says whether an open folder is this one.
func (f *folder) is(fd int) bool {
	var s unix.Statx_t
	err := statAt(fd, empty, &s)
	return err == nil && s.Ino == f.ino && baseline.Device{Major: s.Dev_major, Minor: s.Dev_minor} == f.dev
}

// reopen has the i-th folder on the way open: step by step from the root where
// ".." led elsewhere.
func (w *Walk) reopen(i int) error {
	f := &w.stack[i]
	if f.fd >= 0 {
		return nil
	}
	fd, err := unix.Openat(w.root, ".", openFolder, 0)
	for rest := w.path[:f.path]; err == nil && len(rest) > 0; {
		rest = rest[1:]
		end := bytes.IndexByte(rest, '/')
		if end < 0 {
			end = len(rest)
		}
		var next int
		next, err = unix.Openat(fd, string(rest[:end]), openFolder, 0)
		_ = unix.Close(fd)
		fd, rest = next, rest[end:]
	}
	if err != nil {
		return reason("open folder again", err)
	}
	if !f.is(fd) {
		_ = unix.Close(fd)
		return fmt.Errorf("open folder again: %w", ErrChanging)
	}
	f.fd = fd
	return nil
}
