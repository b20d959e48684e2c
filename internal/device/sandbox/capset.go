package sandbox

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropSets empties the effective, permitted and inheritable sets.
func dropSets() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
	return explain(errno)
}
