package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A reaper is the one place that waits for children: process 1 inherits every
// orphan, so waiting for all and waiting for one cannot be done apart.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan unix.WaitStatus
}

func newReaper() *reaper {
	r := &reaper{waiting: make(map[int]chan unix.WaitStatus)}
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	go func() {
		for range child {
			r.reap()
		}
	}()
	return r
}

// reap collects every child that has ended.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if done, ok := r.waiting[pid]; ok {
			delete(r.waiting, pid)
			done <- status
		}
	}
}

// A program is what to execute, as whom, and with which descriptors.
type program struct {
	argv                  []string // argv[0] is a path
	env                   []string
	uid, gid              uint32
	groups                []uint32  // supplementary
	rtprio                uint64    // highest real-time priority that it may ask for
	confined              bool      // it and what it starts can hold caps and no other capability
	caps                  []uintptr // capabilities that it keeps as another user than root
	stdin, stdout, stderr *os.File
}

// spawn starts p in a process group of its own. The status arrives on the
// channel once.
func (r *reaper) spawn(p program) (int, <-chan unix.WaitStatus, error) {
	done := make(chan unix.WaitStatus, 1)
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   p.env,
		Files: []uintptr{p.stdin.Fd(), p.stdout.Fd(), p.stderr.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	if p.uid != 0 || p.gid != 0 {
		// Changing the user drops every capability, capabilities(7).
		attr.Sys.Credential = &syscall.Credential{Uid: p.uid, Gid: p.gid, Groups: p.groups}
		attr.Sys.AmbientCaps = p.caps // but for these
	}
	r.mu.Lock() // so that the child cannot be reaped before it is known
	defer r.mu.Unlock()
	if p.rtprio != 0 {
		// Limits are inherited, setrlimit(2); the lock keeps other children out.
		limit := unix.Rlimit{Cur: p.rtprio, Max: p.rtprio}
		if err := unix.Setrlimit(unix.RLIMIT_RTPRIO, &limit); err != nil {
			return 0, nil, fmt.Errorf("allow real-time priority: %w", err)
		}
		defer unix.Setrlimit(unix.RLIMIT_RTPRIO, &unix.Rlimit{})
	}
	start := syscall.ForkExec
	if p.confined {
		start = func(argv0 string, argv []string, attr *syscall.ProcAttr) (int, error) {
			return forkConfined(p.caps, argv0, argv, attr)
		}
	}
	pid, err := start(p.argv[0], p.argv, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	r.waiting[pid] = done
	return pid, done, nil
}

// forkConfined starts a program whose bounding set is reduced to caps. The set
// belongs to a thread and is inherited from the one that forks, capabilities(7):
// it is reduced on a thread that ends here.
func forkConfined(caps []uintptr, argv0 string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			if slices.Contains(caps, c) {
				continue
			}
			// EINVAL: the kernel does not know it.
			if err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
				err = fmt.Errorf("give up capability %d: %w", c, err)
				return
			}
		}
		pid, err = syscall.ForkExec(argv0, argv, attr)
	}()
	<-done
	return pid, err
}

// exitCode is the status as a shell gives it.
func exitCode(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

var defaultEnv = []string{"PATH=/usr/bin:/usr/sbin", "HOME=/", "TERM=dumb"}
