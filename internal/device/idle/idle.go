// Package idle runs work that must cost therapy nothing: on an operating system's
// thread of its own, in the scheduling class that gets a processor when nobody else
// wants it (sched(7), SCHED_IDLE) and in the idle class of the disk's queue
// (ioprio_set(2)). The thread ends with the work: no other part of the program ever
// runs on it.
package idle

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Numbers of ioprio_set(2), linux/ioprio.h.
const (
	whoProcess = 1
	classIdle  = 3
	classShift = 13
)

// Run runs f on such a thread and returns what it returns. What the kernel refuses
// of the classes is given to refused: the work is done all the same.
func Run(refused func(error), f func() error) error {
	done := make(chan error, 1)
	go work(refused, f, done)
	return <-done
}

func work(refused func(error), f func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The process's first thread does not end before it: another one takes the work
		// while this one is held.
		defer runtime.UnlockOSThread()
		other := make(chan error, 1)
		go work(refused, f, other)
		done <- <-other
		return
	}
	if err := become(); err != nil && refused != nil {
		refused(err)
	}
	done <- f() // the thread was never unlocked: it ends with this
}

func become() error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}
	err := unix.SchedSetAttr(0, &attr, 0)
	if err != nil {
		err = fmt.Errorf("set scheduling class: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, classIdle<<classShift); errno != 0 {
		err = errors.Join(err, fmt.Errorf("set class of the disk's queue: %w", errno))
	}
	return err
}

// CPU is the processor's time that the calling thread has taken, 0 where the kernel
// does not tell.
func CPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
