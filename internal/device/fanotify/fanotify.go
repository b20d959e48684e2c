// Package fanotify is the kernel's telling of file changes and of programs that
// are run (fanotify(7), fanotify_init(2), fanotify_mark(2)). One group tells
// changes by the handle of a folder and a name, and the process that made them; a
// second one tells what is executed, by an open descriptor. Both only tell: the
// classes that let a listener decide are never used, so nothing ever waits for
// Ward. Events merge and lose their order: each is a hint where to look, and a
// queue that overflowed is told as such. The marks are set once, while the process
// has CAP_SYS_ADMIN, and go on without it; a file system that is mounted later
// cannot be marked then and is named as a blind spot.
package fanotify

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What is what an event tells; several may have merged.
type What uint16

// What events tell.
const (
	Created    What = 1 << iota // also: moved to this name
	Deleted                     // also: moved away from this name
	Written                     // a file that was open for writing was closed
	Modified                    // content was written; the file may be open still
	Attributes                  // owner, mode, times, extended attributes, links
	Executed                    // the file was run
	Overflow                    // the kernel's queue was full: events were lost
	Mounts                      // the blind spots are others than before
	Fault                       // Err: an event could not be read, or a group is dead
)

// Event is one hint.
type Event struct {
	What   What
	Path   string // absolute, any bytes; empty for Overflow, Mounts and Fault
	Folder bool   // the path is a folder
	// Volatile: the file system ends with the boot, as tmpfs does.
	Volatile bool
	Origin   Origin
	// File is what was executed, open for reading: whoever gets the event closes it.
	File *os.File
	Err  error
	Dead bool // of a Fault: nothing more comes from this group
}

// Origin is the process that an event comes from, as far as it was there to be
// looked at. Its arguments are never read.
type Origin struct {
	PID     int           // 0: unknown
	Exe     string        // the executable's path; empty: the process had ended
	UID     uint32        // the effective one
	Started time.Duration // since the boot
	Cgroup  string        // of the unified hierarchy
	// Device and Inode are the executable's: a path alone may be one of another
	// mount namespace.
	Device, Inode uint64
}

// Blind is a file system that cannot be watched, or not wholly.
type Blind struct {
	Mount  string
	Type   string // of the file system
	Reason string
}

// Watch are the groups. Follow reads them; one goroutine at a time may.
type Watch struct {
	changes, execs group
	wake           int // eventfd(2): ends the waiting of Follow
	pidfds         bool

	mu    sync.Mutex
	blind []Blind
	fs    []mount // what is watched, for handles
	open  bool
}

// group is one fanotify group; fd is -1 where it could not be made, with err.
type group struct {
	fd   int
	err  error
	dead bool
}

// Masks of the marks. FAN_MODIFY tells of files that are held open for long; its
// storms merge in the kernel's queue.
const (
	changeMask = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_MOVED_FROM | unix.FAN_MOVED_TO |
		unix.FAN_CLOSE_WRITE | unix.FAN_MODIFY | unix.FAN_ATTRIB | unix.FAN_ONDIR
	execMask  = unix.FAN_OPEN_EXEC
	plainMask = unix.FAN_CLOSE_WRITE | unix.FAN_MODIFY
)

// reportPIDFD is FAN_REPORT_PIDFD, which Linux has since 5.15.
const reportPIDFD = 0x80

// Open makes the groups and marks every file system that is mounted: what needs
// privilege is done when it returns. It fails where the kernel has no fanotify
// with names (before Linux 5.9) or the process may not use it; a file system
// that cannot be marked is no error but a Blind.
func Open() (*Watch, error) {
	w := &Watch{pidfds: true, wake: -1}
	const how = unix.FAN_CLASS_NOTIF | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK
	const names = how | unix.FAN_REPORT_DFID_NAME
	w.changes = newGroup(names | reportPIDFD)
	if errors.Is(w.changes.err, unix.EINVAL) {
		w.pidfds = false
		w.changes = newGroup(names)
	}
	if err := w.changes.err; err != nil {
		return nil, fmt.Errorf("open fanotify: %s: %w", explain(err), err)
	}
	w.execs = newGroup(how | w.pidfdFlag())
	var err error
	if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("open fanotify: %w", err), w.Close())
	}
	w.open = true
	w.survey()
	return w, nil
}

func (w *Watch) pidfdFlag() uint {
	if w.pidfds {
		return reportPIDFD
	}
	return 0
}

func explain(err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return "CAP_SYS_ADMIN is missing"
	case errors.Is(err, unix.ENOSYS):
		return "the kernel has no fanotify"
	case errors.Is(err, unix.EINVAL):
		return "the kernel's fanotify tells no names"
	case errors.Is(err, unix.EMFILE):
		return "too many fanotify groups"
	}
	return "the kernel refuses"
}

func newGroup(flags uint) group {
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC|unix.O_NONBLOCK)
	if err != nil {
		return group{fd: -1, err: err}
	}
	return group{fd: fd}
}

func (g *group) mark(mask uint64, path string) error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, mask, unix.AT_FDCWD, path)
}

func (g *group) close() error {
	if g.fd < 0 {
		return nil
	}
	fd := g.fd
	g.fd = -1
	return unix.Close(fd)
}

// Blind lists what is not watched.
func (w *Watch) Blind() []Blind {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.blind)
}

// setBlind says whether anything differs from before.
func (w *Watch) setBlind(fs []mount, blind []Blind) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	differs := !slices.Equal(w.blind, blind)
	w.blind, w.fs = blind, fs
	return differs
}

func (w *Watch) mounts() []mount {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fs
}

// Close ends the groups. Follow must have returned.
func (w *Watch) Close() error {
	err := errors.Join(w.changes.close(), w.execs.close())
	if w.wake >= 0 {
		err = errors.Join(err, unix.Close(w.wake))
		w.wake = -1
	}
	w.open = false
	return err
}
