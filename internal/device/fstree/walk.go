package fstree

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"ward/internal/trust/baseline"
)

// Options of a walk.
type Options struct {
	// From is the path behind which the walk begins, as of one that was broken off;
	// "" is the root.
	From string
	// Pace is called before each piece of work with the number of bytes that are to
	// be read, 0 for a look at one name. Its error ends the walk.
	Pace func(bytes int) error
	// Read reads a file's bytes at an offset; nil: pread(2).
	Read func(fd int, b []byte, offset int64) (int, error)
}

// Walk goes through a tree. It is for one goroutine.
type Walk struct {
	o      Options
	root   int
	stack  []folder // the folders on the way, the root first; what lies behind its length keeps its buffers
	path   []byte   // of the node that Next gave
	from   []string // names on the way to where the walk begins; nil: it is there
	node   Node
	enter  bool // the node is a folder to be gone into
	inside int  // the folder that the node is, opened for its attributes; -1: not yet
	mount  uint64
	where  unix.Statx_t // of the node
	name   []byte       // of the node within its folder, with a NUL
	file   *file
	attrs  xattrs
	mounts mounts
	link   []byte
	dents  []byte
	done   bool
}

// folder is one on the way.
type folder struct {
	fd       int // -1: closed for the moment
	ino      uint64
	dev      baseline.Device // of the file system
	mount    uint64          // the kernel's number of the mount; 0: not known
	path     int             // length of its path; 0 for the root
	after    []byte          // the name that was given last
	names    listing
	listed   bool
	failed   bool // it could be opened, and not read
	resuming bool // its first name may be the one to go through
}

// Open begins a walk at a folder, which is "/" in it. Links on the way to it are
// followed: whoever walks names it.
func Open(root string, o Options) (*Walk, error) {
	fd, err := unix.Open(root, openFolder&^unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open tree %s: %w", root, err)
	}
	w := &Walk{o: o, root: fd, inside: -1, file: newFile(&o), link: make([]byte, 4097), dents: make([]byte, 32<<10)}
	if o.From != "" {
		w.from = strings.Split(strings.TrimPrefix(o.From, "/"), "/")
		if o.From == "/" {
			w.from = []string{}
		}
	}
	return w, nil
}

// Close ends the walk.
func (w *Walk) Close() error {
	w.file.close()
	w.closeInside()
	for i := range w.stack {
		w.stack[i].close()
	}
	w.stack, w.done = nil, true
	if w.root < 0 {
		return nil
	}
	err := unix.Close(w.root)
	w.root = -1
	return err
}

func (f *folder) close() {
	if f.fd >= 0 {
		_ = unix.Close(f.fd)
		f.fd = -1
	}
}

// Next goes to the next path, io.EOF after the last one. Any other error is that
// of Pace; what cannot be read is in the node.
func (w *Walk) Next() (*Node, error) {
	w.file.close()
	if w.done {
		return nil, io.EOF
	}
	if !w.enter {
		w.closeInside()
	}
	if err := w.file.pace(0); err != nil {
		return nil, err
	}
	if len(w.stack) == 0 {
		return w.begin()
	}
	if w.enter {
		w.enter = false
		if err := w.descend(); err != nil {
			return &w.node, nil
		}
	}
	for {
		f := &w.stack[len(w.stack)-1]
		name, err := w.nextName(f)
		if err != nil {
			return nil, err
		}
		if name == nil && f.failed {
			f.failed = false
			w.path = w.path[:f.path]
			w.node = Node{Path: w.shown(), Type: baseline.Directory, Err: w.node.Err}
			return &w.node, nil
		}
		if name == nil {
			if !w.ascend() {
				w.done = true
				return nil, io.EOF
			}
			continue
		}
		if through, given := w.resume(f, name); !given {
			if !through {
				continue
			}
			w.look(f, name)
			if w.node.Type != baseline.Directory || w.node.Err != nil || w.node.Barrier != None && w.node.Barrier != Mounted || w.descend() != nil {
				w.from = nil // it is gone: go on with what stands behind it
			}
			w.enter = false
			continue
		}
		w.look(f, name)
		return &w.node, nil
	}
}

// begin looks at the root.
func (w *Walk) begin() (*Node, error) {
	w.path = w.path[:0]
	w.name = append(w.name[:0], 0)
	w.node = Node{Path: "/"}
	if err := statAt(w.root, empty, &w.where); err != nil {
		w.node.Err = fmt.Errorf("look at folder: %w", err)
		w.done = true
		return &w.node, nil
	}
	w.mount = w.mountOf(&w.where, 0)
	w.fill(w.root, nil)
	w.node.Barrier = None
	fd, err := unix.Openat(w.root, ".", openFolder, 0)
	if err != nil {
		w.node.Err, w.done = fmt.Errorf("open folder: %w", err), true
		return &w.node, nil
	}
	w.push(fd)
	if w.from == nil {
		return &w.node, nil
	}
	if len(w.from) == 0 {
		w.from = nil
	}
	w.stack[0].resuming = w.from != nil
	return w.Next()
}

// resume says, for a walk that begins within the tree, whether a name is given to
// the caller, or is a folder that it goes through without giving it.
func (w *Walk) resume(f *folder, name []byte) (through, given bool) {
	if !f.resuming || len(w.from) == 0 {
		return false, true
	}
	want := w.from[0]
	switch plain := view(name[:len(name)-1]); {
	case plain < want:
		return false, false
	case plain > want: // what it stood at is gone
		w.from, f.resuming = nil, false
		return false, true
	}
	f.resuming = false
	w.from = w.from[1:]
	return true, false
}

// nextName is the folder's next name, nil at its end.
func (w *Walk) nextName(f *folder) ([]byte, error) {
	for !f.listed || f.names.next == len(f.names.starts) && f.names.more {
		if err := w.list(f); err != nil {
			f.listed, f.names.more = true, false
			f.names.starts, f.names.next = f.names.starts[:0], 0
			if errors.Is(err, errPace) {
				return nil, errors.Unwrap(err)
			}
			f.failed, w.node.Err = true, err
			return nil, nil
		}
	}
	if f.names.next == len(f.names.starts) {
		return nil, nil
	}
	name := f.names.at(f.names.next)
	f.names.next++
	f.after = append(f.after[:0], name[:len(name)-1]...)
	return name, nil
}

// errPace marks an error of Options.Pace among those of a folder.
var errPace = errors.New("pace")

type paceError struct{ err error }

func (p paceError) Error() string        { return p.err.Error() }
func (p paceError) Unwrap() error        { return p.err }
func (p paceError) Is(target error) bool { return target == errPace }

func (w *Walk) list(f *folder) error {
	if err := w.reopen(len(w.stack) - 1); err != nil {
		return err
	}
	err := f.names.fill(f.fd, f.after, maxNames, w.dents, func() error {
		if err := w.file.pace(0); err != nil {
			return paceError{err}
		}
		return nil
	})
	f.listed = true
	w.forget()
	return err
}

// forget gives up names until what is held is within its bound: first those of
// folders that are behind, then those of the outermost.
func (w *Walk) forget() {
	held := 0
	all := w.stack[:cap(w.stack)]
	for i := range all {
		held += all[i].names.held()
	}
	for i := len(all) - 1; i >= len(w.stack) && held > maxHeld; i-- {
		held -= all[i].names.held()
		all[i].names = listing{}
	}
	for i := 0; i < len(w.stack)-1 && held > maxHeld; i++ {
		held -= all[i].names.held()
		all[i].names, all[i].listed = listing{}, false
	}
}

// look fills the node with what stands at a name.
func (w *Walk) look(f *folder, name []byte) {
	w.path = append(append(w.path[:f.path], '/'), name[:len(name)-1]...)
	w.name = append(w.name[:0], name...)
	w.node = Node{Path: w.shown(), FS: f.dev}
	if len(w.path) > maxPath || len(w.stack) > maxDepth {
		w.node.Err = ErrTooDeep
		return
	}
	if err := w.reopen(len(w.stack) - 1); err != nil {
		w.node.Err = err
		return
	}
	if err := statAt(f.fd, w.name, &w.where); err != nil {
		w.node.Err = reason("look at", err)
		return
	}
	w.mount = w.mountOf(&w.where, f.mount)
	w.fill(f.fd, f)
}

// mountOf is the number of the mount that something is in.
func (w *Walk) mountOf(s *unix.Statx_t, otherwise uint64) uint64 {
	if s.Mask&unix.STATX_MNT_ID == 0 {
		return otherwise
	}
	return s.Mnt_id
}

// fill takes what statx said; in is the folder that it stands in, nil for the root.
func (w *Walk) fill(dir int, in *folder) {
	n, s := &w.node, &w.where
	n.Mode, n.UID, n.GID = s.Mode&0o7777, s.Uid, s.Gid
	n.FS = baseline.Device{Major: s.Dev_major, Minor: s.Dev_minor}
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.Type, n.Size = baseline.File, int64(min(s.Size, 1<<63-1))
		n.Verity = s.Attributes&unix.STATX_ATTR_VERITY != 0
	case unix.S_IFDIR:
		n.Type = baseline.Directory
		if in != nil {
			n.Barrier = w.barrier(in)
			w.enter = n.Barrier == None
		}
	case unix.S_IFLNK:
		n.Type = baseline.Symlink
		k, err := readLink(dir, w.name, w.link)
		if err != nil {
			n.Err = reason("read link", err)
			return
		}
		n.Link = view(w.link[:k])
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Type, n.Device = baseline.CharDevice, baseline.Device{Major: s.Rdev_major, Minor: s.Rdev_minor}
		if s.Mode&unix.S_IFMT == unix.S_IFBLK {
			n.Type = baseline.BlockDevice
		}
	case unix.S_IFIFO:
		n.Type = baseline.Pipe
	case unix.S_IFSOCK:
		n.Type = baseline.Socket
	default:
		n.Err = fmt.Errorf("look at: mode %o is of no known type", s.Mode)
	}
}

// barrier says whether a folder begins another mount, and of which kind.
func (w *Walk) barrier(in *folder) Barrier {
	s := &w.where
	if s.Mask&unix.STATX_MNT_ID == 0 { // a kernel before 5.8
		if w.node.FS != in.dev {
			return Remote
		}
		return None
	}
	if s.Mnt_id == in.mount {
		return None
	}
	b := w.mounts.barrier(s.Mnt_id)
	if b == Mounted {
		for i := range w.stack {
			if w.stack[i].ino == s.Ino && w.stack[i].dev == w.node.FS {
				return Loop
			}
		}
	}
	return b
}

// Enter has the walk go into the folder that Next gave, though something is mounted
// there; it has no effect on other barriers.
func (w *Walk) Enter() {
	if w.node.Type == baseline.Directory && w.node.Barrier == Mounted && w.node.Err == nil {
		w.enter = true
		w.node.Barrier = None
	}
}

// Skip has the walk pass over what lies in the folder that Next gave.
func (w *Walk) Skip() { w.enter = false }

// open opens the regular file that Next gave. One that was exchanged since is an
// error.
func (w *Walk) open() error {
	if w.file.fd >= 0 {
		return nil
	}
	if w.node.Type != baseline.File || w.node.Err != nil {
		return ErrIrregular
	}
	f := &w.stack[len(w.stack)-1]
	fd, err := openAt(f.fd, w.name, openFile, w.node.UID)
	if err != nil {
		return reason("open file", err)
	}
	w.file.fd = fd
	if err := statAt(fd, empty, &w.file.stat); err != nil {
		return fmt.Errorf("look at file: %w", err)
	}
	if w.file.stat.Mode&unix.S_IFMT != unix.S_IFREG || w.file.stat.Ino != w.where.Ino {
		w.file.close()
		return ErrChanging
	}
	return nil
}

// Attributes reads the security attributes of the file or folder that Next gave,
// which are in the node from then on.
func (w *Walk) Attributes() error {
	if w.node.Type == baseline.Directory {
		fd, err := w.openInside()
		if err == nil {
			w.node.Xattrs, err = w.attrs.read(fd)
		}
		return err
	}
	if err := w.open(); err != nil {
		return err
	}
	var err error
	w.node.Xattrs, err = w.attrs.read(w.file.fd)
	return err
}

// SHA256 reads the file that Next gave, of at most so many bytes.
func (w *Walk) SHA256(most int64) ([32]byte, error) {
	if err := w.open(); err != nil {
		return [32]byte{}, err
	}
	sum, err := w.file.digest(most)
	w.node.SHA256, w.node.Size = sum, int64(w.file.stat.Size)
	return sum, err
}

// FSVerity asks the kernel for the digest of fs-verity of the file that Next gave.
func (w *Walk) FSVerity() ([32]byte, error) {
	if err := w.open(); err != nil {
		return [32]byte{}, err
	}
	var err error
	w.node.Measured, err = measureVerity(w.file.fd)
	return w.node.Measured, err
}

// shown is the node's path, as long as the walk stands there.
func (w *Walk) shown() string {
	if len(w.path) == 0 {
		return "/"
	}
	return view(w.path)
}

func reason(what string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
		return ErrVanished
	}
	return fmt.Errorf("%s: %w", what, err)
}
