// Package sandbox gives up what the daemon does not need: after Drop no thread
// of the process holds a capability but those that are kept, none can be gained
// through a set-uid program, no other process of the same user can read its
// memory, and a filter refuses the calls by which it could trace, signal, start
// or change anything else. It uses prctl(2), capset(2), seccomp(2) and proc(5),
// and works for root and for a user who never held a capability.
package sandbox

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Drop sets no_new_privs, empties the ambient and inheritable sets, reduces the
// bounding, permitted and effective sets of every thread to what is kept, makes
// the process undumpable, and installs the filter. It goes on after a failure,
// so that as much as can be given up is given up, and returns what the kernel
// says afterwards. The bounding set of a process without CAP_SETPCAP cannot be
// shrunk; under no_new_privs what stays in it gives nothing, and it is no error.
// What is kept and was never held is no error either: Report.Missing names it.
func Drop(keep ...Capability) (Report, error) {
	var failed []error
	try := func(what string, err error) error {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
		}
		return err
	}
	kept := setOf(keep)
	try("set no_new_privs", everyThread(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0))
	try("empty the ambient set", dropAmbient())
	try("reduce the bounding set", reduceBounding(kept))
	try("reduce the capability sets", reduceSets(kept))
	try("make the process undumpable", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	unfiltered := try("install the filter of system calls", installFilter())
	report, err := Read()
	try("read what is left", err)
	if unfiltered != nil {
		report.Filtered = false // what the kernel tells is the service manager's
	}
	if len(failed) > 0 {
		return report, fmt.Errorf("give up privileges: %w", errors.Join(failed...))
	}
	return report, nil
}

// everyThread runs a system call on all threads of the process: credentials
// are per thread in Linux, and Go moves goroutines between threads.
func everyThread(trap, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(trap, a1, a2, a3, 0, 0, 0)
	return explain(errno)
}

func explain(errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return errors.New("not possible in a program that links C: build with CGO_ENABLED=0")
	}
	return errno
}

func dropAmbient() error {
	err := everyThread(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil // a kernel without ambient capabilities
	}
	return err
}

// reduceBounding walks up to the first capability that the kernel does not know.
func reduceBounding(keep Set) error {
	for c := uintptr(0); c < capabilityBits; c++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil {
			return err
		}
		if in == 0 || keep&(1<<c) != 0 {
			continue
		}
		err = everyThread(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
		if errors.Is(err, unix.EPERM) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
