package sandbox

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capability is one of capabilities(7), by its number.
type Capability uint

// What the daemon keeps: reading files whatever their mode and resolving file
// handles; seeing what another user's process executes and has open.
const (
	DACReadSearch Capability = unix.CAP_DAC_READ_SEARCH
	SysPtrace     Capability = unix.CAP_SYS_PTRACE
)

func setOf(list []Capability) (s Set) {
	for _, c := range list {
		s |= 1 << c
	}
	return s
}

// reduceSets leaves of the effective and permitted sets what is kept and was
// permitted, and empties the inheritable set.
func reduceSets(keep Set) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if err := unix.Capget(&header, &held[0]); err != nil {
		return fmt.Errorf("read them: %w", err)
	}
	header.Pid = 0
	for i := range held {
		left := held[i].Permitted & uint32(keep>>(32*i))
		held[i] = unix.CapUserData{Effective: left, Permitted: left}
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&held[0])), 0)
	return explain(errno)
}
