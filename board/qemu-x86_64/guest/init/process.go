package main

import (
	"fmt"
	"os"
	"os/signal"
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
	groups                []uint32 // supplementary
	rtprio                uint64   // highest real-time priority that it may ask for
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
	pid, err := syscall.ForkExec(p.argv[0], p.argv, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	r.waiting[pid] = done
	return pid, done, nil
}

// exitCode is the status as a shell gives it.
func exitCode(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

var defaultEnv = []string{"PATH=/usr/bin:/usr/sbin", "HOME=/", "TERM=dumb"}
