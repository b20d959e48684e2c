package localapi_test

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// become changes the credentials of this thread alone.
func become(uid, gid int, groups []uint32) error {
	if uid == 0 {
		return nil
	}
	list := append([]uint32(nil), groups...)
	list = append(list, 0) // so that there is a first one
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&list[0])), 0); errno != 0 {
		return errno
	}
	id := uintptr(gid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, id, id, id); errno != 0 {
		return errno
	}
	id = uintptr(uid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); errno != 0 {
		return errno
	}
	return nil
}
