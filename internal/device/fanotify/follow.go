package fanotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// bufferSize is what is read at once: some hundred events.
	bufferSize = 32 << 10
	// maxEvent is about the most that one event takes: the kernel fills the buffer up
	// to it while events are waiting.
	maxEvent = 1 << 10
	// breath is the wait between two reads while events keep coming: in it the
	// kernel merges what happens to the same file.
	breath = 4 * time.Millisecond
	// busy is how soon after a read the next one counts as keeping coming.
	busy = 20 * time.Millisecond
	// maxFaults is how many reads of a group may fail one behind the other before
	// it is given up.
	maxFaults = 16
	// idle bounds one wait, so that a follower sees that it lives.
	idle = 10 * time.Second
)

// errDead: a group that cannot be read any more.
var errDead = errors.New("a fanotify group is dead")

// Follow gives every event to tell, until ctx ends or no group can be read. tell
// must not wait: what it does not take fills the kernel's queue, which then
// overflows. Events without a path are left out. It may be called again.
func (w *Watch) Follow(ctx context.Context, tell func(Event)) error {
	// A change is told once to a descriptor, so it must not be the runtime's poller
	// that asks for it, as it would for an os.File.
	mounts, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("follow file events: open mount table: %w", err)
	}
	defer unix.Close(mounts)
	stop := context.AfterFunc(ctx, func() { _, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer func() {
		stop()
		_, _ = unix.Read(w.wake, make([]byte, 8))
	}()
	if w.survey() {
		tell(Event{What: Mounts})
	}
	f := follower{w: w, tell: tell, buffer: make([]byte, bufferSize)}
	for ctx.Err() == nil {
		fds := []unix.PollFd{
			{Fd: f.alive(&w.changes), Events: unix.POLLIN}, {Fd: f.alive(&w.execs), Events: unix.POLLIN},
			{Fd: int32(mounts), Events: unix.POLLPRI}, {Fd: int32(w.wake), Events: unix.POLLIN},
		}
		if fds[0].Fd < 0 && fds[1].Fd < 0 {
			return fmt.Errorf("follow file events: %w", errDead)
		}
		if _, err := unix.Poll(fds, int(idle/time.Millisecond)); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("follow file events: %w", err)
		}
		if fds[2].Revents != 0 && w.survey() {
			tell(Event{What: Mounts})
		}
		for i, g := range []*group{&w.changes, &w.execs} {
			if fds[i].Revents != 0 {
				f.read(g)
			}
		}
		f.pause(ctx)
	}
	return nil
}

// follower reads the groups.
type follower struct {
	w      *Watch
	tell   func(Event)
	buffer []byte
	faults [2]int // reads that failed, one behind the other: changes, execs
	last   time.Time
	got    bool
}

func (f *follower) alive(g *group) int32 {
	if g.dead {
		return -1 // poll(2) passes it over
	}
	return int32(g.fd)
}

// pause lets events merge while they keep coming.
func (f *follower) pause(ctx context.Context) {
	if !f.got {
		return
	}
	f.got = false
	now := time.Now()
	if now.Sub(f.last) < busy {
		select {
		case <-ctx.Done():
		case <-time.After(breath):
		}
		now = time.Now()
	}
	f.last = now
}

// read takes what a group has, at most one buffer. An error of one event, as of a
// file that cannot be opened any more, leaves the others to be read.
func (f *follower) read(g *group) {
	faults := &f.faults[0]
	if g == &f.w.execs {
		faults = &f.faults[1]
	}
	n, err := unix.Read(g.fd, f.buffer)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return
	case err == nil && n == 0:
		err = errors.New("it ended")
	case err == nil:
		*faults = 0
		f.got = n < bufferSize-maxEvent // else more is waiting
		f.take(f.buffer[:n])
		return
	}
	*faults++
	g.dead = *faults >= maxFaults || errors.Is(err, unix.EBADF) || errors.Is(err, unix.EINVAL)
	if *faults == 1 || g.dead {
		f.tell(Event{What: Fault, Err: fmt.Errorf("read file events: %w", err), Dead: g.dead})
	}
}

// take tells the events of one read.
func (f *follower) take(b []byte) {
	r := f.w.resolver()
	defer r.close()
	for len(b) > 0 {
		e, rest, err := next(b)
		switch {
		case err == nil:
			f.one(r, e)
		case e.fd >= 0:
			unix.Close(int(e.fd))
			fallthrough
		default:
			f.tell(Event{What: Fault, Err: err})
		}
		if e.pidfd >= 0 {
			unix.Close(int(e.pidfd))
		}
		b = rest
	}
}

// one tells one event. A descriptor that came with it is closed, or given away.
func (f *follower) one(r *resolver, e record) {
	if e.mask&unix.FAN_Q_OVERFLOW != 0 {
		f.tell(Event{What: Overflow})
		return
	}
	out := Event{What: whatOf(e.mask), Folder: e.mask&unix.FAN_ONDIR != 0}
	if e.fd >= 0 {
		fd := int(e.fd)
		out.Path, out.Volatile = pathOf(fd, out.What&Executed != 0), endsWithBoot(fd)
		if out.What&Executed != 0 {
			out.File = os.NewFile(uintptr(fd), "executed")
		} else {
			unix.Close(fd)
		}
	} else {
		out.Path, out.Volatile = r.path(e)
	}
	if out.Path == "" || out.What == 0 {
		if out.File != nil {
			out.File.Close()
		}
		return
	}
	out.Origin = r.origin(e)
	f.tell(out)
}

func whatOf(mask uint64) What {
	var w What
	for _, m := range []struct {
		mask uint64
		what What
	}{
		{unix.FAN_CREATE | unix.FAN_MOVED_TO, Created}, {unix.FAN_DELETE | unix.FAN_MOVED_FROM, Deleted},
		{unix.FAN_CLOSE_WRITE, Written}, {unix.FAN_MODIFY, Modified}, {unix.FAN_ATTRIB, Attributes}, {unix.FAN_OPEN_EXEC, Executed},
	} {
		if mask&m.mask != 0 {
			w |= m.what
		}
	}
	return w
}
