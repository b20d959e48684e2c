package verity

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device-mapper's interface, include/uapi/linux/dm-ioctl.h: a fixed header,
// then for a table load the target specification and its parameter string.
const (
	dmHeaderSize = 312 // struct dm_ioctl
	dmTargetSize = 40  // struct dm_target_spec
	dmNameOffset = 48
	dmUUIDOffset = 176
	dmDevOffset  = 40
	dmNameLen    = 128
	dmUUIDLen    = 129

	dmCmdDevCreate  = 3
	dmCmdDevSuspend = 6 // without the suspend flag it resumes
	dmCmdTableLoad  = 9

	dmReadOnly = 1 << 0 // DM_READONLY_FLAG
)

// A dmTarget is one line of a device-mapper table.
type dmTarget struct {
	Start, Length uint64 // in sectors of 512 bytes
	Type          string
	Params        string
}

// dmCreate makes a read-only device of one target and returns its minor number.
func dmCreate(name, uuid string, target dmTarget) (uint32, error) {
	ctl, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("open device mapper: %w", err)
	}
	defer ctl.Close()
	header := dmHeader(name, uuid, 0)
	if err := dmIoctl(ctl, dmCmdDevCreate, header); err != nil {
		return 0, fmt.Errorf("create device %s: %w", name, err)
	}
	dev := binary.NativeEndian.Uint64(header[dmDevOffset:])
	if err := dmIoctl(ctl, dmCmdTableLoad, dmTable(name, target)); err != nil {
		return 0, fmt.Errorf("load table %q of %s: %w", target.Params, name, err)
	}
	if err := dmIoctl(ctl, dmCmdDevSuspend, dmHeader(name, "", 0)); err != nil {
		return 0, fmt.Errorf("resume device %s: %w", name, err)
	}
	return unix.Minor(dev), nil
}

// dmHeader encodes struct dm_ioctl followed by extra zero bytes of payload.
func dmHeader(name, uuid string, extra int) []byte {
	b := make([]byte, dmHeaderSize+extra)
	le := binary.NativeEndian
	le.PutUint32(b[0:], 4) // interface version 4.0.0, the oldest that has all we use
	le.PutUint32(b[12:], uint32(len(b)))
	le.PutUint32(b[16:], dmHeaderSize) // data_start
	copy(b[dmNameOffset:dmNameOffset+dmNameLen-1], name)
	copy(b[dmUUIDOffset:dmUUIDOffset+dmUUIDLen-1], uuid)
	return b
}

// dmTable encodes the argument of DM_TABLE_LOAD for a read-only device.
func dmTable(name string, t dmTarget) []byte {
	params := (len(t.Params) + 1 + 7) &^ 7 // NUL, then padding to 8 bytes
	b := dmHeader(name, "", dmTargetSize+params)
	le := binary.NativeEndian
	le.PutUint32(b[20:], 1) // target_count
	le.PutUint32(b[28:], dmReadOnly)
	spec := b[dmHeaderSize:]
	le.PutUint64(spec[0:], t.Start)
	le.PutUint64(spec[8:], t.Length)
	le.PutUint32(spec[20:], uint32(dmTargetSize+params)) // next
	copy(spec[24:39], t.Type)
	copy(spec[dmTargetSize:], t.Params)
	return b
}

// dmRequest is _IOWR(0xfd, command, struct dm_ioctl).
func dmRequest(command uintptr) uintptr {
	return 3<<30 | dmHeaderSize<<16 | 0xfd<<8 | command
}

func dmIoctl(ctl *os.File, command uintptr, arg []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, ctl.Fd(), dmRequest(command), uintptr(unsafe.Pointer(&arg[0])))
	runtime.KeepAlive(arg)
	if errno != 0 {
		return errno
	}
	return nil
}
