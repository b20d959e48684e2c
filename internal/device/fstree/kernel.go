package fstree

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file take names that end in NUL, as they stand in a listing:
// those of x/sys copy each into memory of its own.

const (
	openFolder = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	openFile   = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	statMask   = unix.STATX_BASIC_STATS | unix.STATX_MNT_ID
	// What a server or a program has to say is not waited for.
	statFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
)

// self is who walks; O_NOATIME is for a file's owner and root alone (open(2)).
var self = uint32(os.Geteuid())

var empty = []byte{0}

// statAt looks at a name in a folder, or at the folder itself for empty.
func statAt(dir int, name []byte, s *unix.Statx_t) error {
	flags := uintptr(statFlags)
	if name[0] == 0 {
		flags |= unix.AT_EMPTY_PATH
	}
	for {
		_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), flags, statMask, uintptr(unsafe.Pointer(s)), 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// openAt opens a name in a folder. The time of its last access stays as it is
// where the kernel allows.
func openAt(dir int, name []byte, flags int, owner uint32) (int, error) {
	if self == 0 || self == owner {
		flags |= unix.O_NOATIME
	}
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(flags), 0, 0, 0)
		switch {
		case errno == 0:
			return int(fd), nil
		case errno == unix.EPERM && flags&unix.O_NOATIME != 0:
			flags &^= unix.O_NOATIME // in a user namespace that the owner is no part of
		case errno != unix.EINTR:
			return -1, errno
		}
	}
}

// readLink reads a link's target into b.
func readLink(dir int, name, b []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// pread reads at an offset, whatever interrupts it.
func pread(fd int, b []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(fd, b, offset)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// cached says whether a file's first byte is in the page cache: the kernel does not
// read it from the disk for this question (preadv2(2), RWF_NOWAIT).
func (f *file) cached() bool {
	f.iov[0].Base = &f.buf[0]
	f.iov[0].SetLen(1)
	n, _, errno := unix.Syscall6(unix.SYS_PREADV2, uintptr(f.fd), uintptr(unsafe.Pointer(&f.iov[0])), 1, 0, 0, unix.RWF_NOWAIT)
	return errno != 0 && errno != unix.EAGAIN || errno == 0 && n == 1
}

// securityPrefix is the namespace of capabilities and of the security modules.
const securityPrefix = "security."

// xattrs reads the attributes of the namespace security of an open file. What they
// hold lies in buffers that the next call takes.
type xattrs struct {
	names  []byte
	values []byte
	list   []Xattr
	known  []string // names that were met, so that each is made once
}

func (x *xattrs) read(fd int) ([]Xattr, error) {
	if x.names == nil {
		x.names, x.values = make([]byte, maxXattrs), make([]byte, 0, maxXattrs)
	}
	x.list, x.values = x.list[:0], x.values[:0]
	n, _, errno := unix.Syscall(unix.SYS_FLISTXATTR, uintptr(fd), uintptr(unsafe.Pointer(&x.names[0])), uintptr(len(x.names)))
	switch {
	case errno == unix.ENOTSUP:
		return nil, nil
	case errno == unix.ERANGE || errno == unix.E2BIG:
		return nil, fmt.Errorf("list attributes: more than %d bytes", maxXattrs)
	case errno != 0:
		return nil, fmt.Errorf("list attributes: %w", errno)
	}
	for rest := x.names[:n]; len(rest) > 0; {
		end := bytes.IndexByte(rest, 0) + 1
		if end == 0 {
			break
		}
		name := rest[:end]
		rest = rest[end:]
		if !bytes.HasPrefix(name, []byte(securityPrefix)) {
			continue
		}
		if err := x.value(fd, name); err != nil {
			return nil, err
		}
	}
	return x.list, nil
}

func (x *xattrs) value(fd int, name []byte) error {
	from := len(x.values)
	x.values = slices.Grow(x.values, maxXattrs)
	room := x.values[from : from+maxXattrs]
	n, _, errno := unix.Syscall6(unix.SYS_FGETXATTR, uintptr(fd), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&room[0])), uintptr(len(room)), 0, 0)
	switch {
	case errno == unix.ENODATA:
		return nil
	case errno != 0:
		return fmt.Errorf("read attribute %s: %w", name[:len(name)-1], errno)
	}
	x.values = x.values[:from+int(n)]
	x.list = append(x.list, Xattr{x.called(name[:len(name)-1]), x.values[from:]})
	return nil
}

// maxKnown bounds the names that are remembered: there are about ten.
const maxKnown = 64

func (x *xattrs) called(name []byte) string {
	for _, k := range x.known {
		if k == string(name) {
			return k
		}
	}
	k := string(name)
	if len(x.known) < maxKnown {
		x.known = append(x.known, k)
	}
	return k
}

// measureVerity asks for a file's digest of fs-verity, with SHA-256 as the baseline
// has it (FS_VERITY_HASH_ALG_SHA256, linux/fsverity.h).
func measureVerity(fd int) ([32]byte, error) {
	const sha256, head, longest = 1, 4, 64
	var b [head + longest]byte // struct fsverity_digest with its digest
	binary.NativeEndian.PutUint16(b[2:], longest)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_MEASURE_VERITY, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return [32]byte{}, fmt.Errorf("measure fs-verity: %w", errno)
	}
	return parseVerity(b[:], sha256)
}

func parseVerity(b []byte, algorithm uint16) ([32]byte, error) {
	const head = 4
	if a, n := binary.NativeEndian.Uint16(b), binary.NativeEndian.Uint16(b[2:]); a != algorithm || n != 32 {
		return [32]byte{}, fmt.Errorf("measure fs-verity: algorithm %d with %d bytes, want SHA-256", a, n)
	}
	return [32]byte(b[head:]), nil
}
