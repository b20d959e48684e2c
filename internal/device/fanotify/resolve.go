package fanotify

import (
	"encoding/binary"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// resolver turns handles into paths, for the events of one read: a folder is
// looked up once in it, a process once, and a mount point is open only while the
// events are read, for an open descriptor would keep it from being unmounted.
type resolver struct {
	w       *Watch
	folders map[folderKey]place
	origins map[int32]Origin
	mounts  map[[8]byte]root // by fsid; nil: not opened yet
}

// folderKey is a handle with its file system.
type folderKey struct {
	fsid [8]byte
	kind int32
	// handle holds the handle's bytes; its length tells short ones apart.
	handle string
}

type place struct {
	path     string // empty: it is gone
	volatile bool
}

type root struct {
	fd       int
	volatile bool
}

func (w *Watch) resolver() *resolver {
	return &resolver{w: w, folders: make(map[folderKey]place), origins: make(map[int32]Origin)}
}

func (r *resolver) close() {
	for _, m := range r.mounts {
		unix.Close(m.fd)
	}
}

// mount finds the mount of a file system by its fsid, as statfs(2) gives it.
func (r *resolver) mount(fsid [8]byte) (root, bool) {
	if r.mounts == nil {
		r.mounts = make(map[[8]byte]root)
		for _, m := range r.w.mounts() {
			fd, err := unix.Open(m.point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err == unix.ENOTDIR {
				fd, err = unix.Open(m.point, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // a file that is mounted over
			}
			if err != nil {
				continue
			}
			var st unix.Statfs_t
			if unix.Fstatfs(fd, &st) != nil {
				unix.Close(fd)
				continue
			}
			var id [8]byte
			binary.NativeEndian.PutUint32(id[:], uint32(st.Fsid.Val[0]))
			binary.NativeEndian.PutUint32(id[4:], uint32(st.Fsid.Val[1]))
			if _, twice := r.mounts[id]; twice {
				unix.Close(fd)
				continue
			}
			r.mounts[id] = root{fd, volatile[m.kind]}
		}
	}
	m, ok := r.mounts[fsid]
	return m, ok
}

// folder resolves the handle of a folder (open_by_handle_at(2), which needs
// CAP_DAC_READ_SEARCH).
func (r *resolver) folder(e record) place {
	key := folderKey{e.fsid, e.handleType, string(e.handle)}
	if p, ok := r.folders[key]; ok {
		return p
	}
	p := r.look(e)
	r.folders[key] = p
	return p
}

func (r *resolver) look(e record) place {
	m, ok := r.mount(e.fsid)
	if !ok {
		return place{}
	}
	fd, err := unix.OpenByHandleAt(m.fd, unix.NewFileHandle(e.handleType, e.handle), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return place{}
	}
	defer unix.Close(fd)
	return place{pathOf(fd, false), m.volatile}
}

// pathOf is the path of an open file. One that has none any more has the empty
// path, or its last one.
func pathOf(fd int, last bool) string {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf)
	if err != nil || n <= 0 || buf[0] != '/' {
		return ""
	}
	p := string(buf[:n])
	if former, gone := strings.CutSuffix(p, " (deleted)"); gone {
		var st unix.Stat_t
		switch {
		case unix.Fstat(fd, &st) == nil && st.Nlink > 0: // a file may be named so
		case last:
			return former
		default:
			return ""
		}
	}
	return p
}

// endsWithBoot says whether an open file is in memory alone.
func endsWithBoot(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC)
}

// path is what an event is about; empty if its folder is gone, which an event
// about the folder above tells.
func (r *resolver) path(e record) (string, bool) {
	if e.handle == nil {
		return "", false
	}
	p := r.folder(e)
	switch name := string(e.name); {
	case p.path == "":
		return "", false
	case name == "" || name == ".":
		return p.path, p.volatile
	default:
		return path.Join(p.path, name), p.volatile
	}
}

func (r *resolver) origin(e record) Origin {
	o, ok := r.origins[e.pid]
	if !ok {
		o = originOf(int(e.pid), int(e.pidfd))
		r.origins[e.pid] = o
	}
	return o
}
