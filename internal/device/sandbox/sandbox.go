// Package sandbox gives up what the daemon does not need: after Drop no thread
// of the process holds a capability, none can be gained through a set-uid
// program, and no other process of the same user can read its memory. It uses
// prctl(2), capset(2) and proc(5), and works for root and for a user who never
// held a capability.
package sandbox

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Drop sets no_new_privs, empties the bounding, ambient, inheritable, permitted
// and effective sets of every thread, and makes the process undumpable. It goes
// on after a failure, so that as much as can be given up is given up, and
// returns what the kernel says afterwards. The bounding set of a process
// without CAP_SETPCAP cannot be shrunk; under no_new_privs what stays in it
// gives nothing, and it is no error.
func Drop() (Report, error) {
	var failed []error
	keep := func(what string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
		}
	}
	keep("set no_new_privs", everyThread(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0))
	keep("empty the ambient set", dropAmbient())
	keep("empty the bounding set", dropBounding())
	keep("empty the capability sets", dropSets())
	keep("make the process undumpable", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	report, err := Read()
	keep("read what is left", err)
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

// dropBounding walks up to the first capability that the kernel does not know.
func dropBounding() error {
	for c := uintptr(0); c < capabilityBits; c++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil {
			return err
		}
		if in == 0 {
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
