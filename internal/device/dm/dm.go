// Package dm reads the tables of the device mapper: which target each mapped device
// has and with which parameters, dm-verity's root hash above all. It asks the kernel by
// ioctl on /dev/mapper/control (include/uapi/linux/dm-ioctl.h; parameters in
// Documentation/admin-guide/device-mapper), which needs CAP_SYS_ADMIN: the daemon reads
// once, before it gives that up. It changes nothing. Keys of encrypted volumes, which
// some kernels put into a table, are wiped before anything is kept.
package dm

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Table is one target of a mapped device. A device of several targets has a table
// for each.
type Table struct {
	Name, UUID    string
	Sequence      uint64 // of the disk, which another device of the same name does not have; 0: the kernel does not say
	Start, Length uint64 // the part of the device, in sectors of 512 bytes
	Target        string // "verity", "crypt", "linear"
	Params        string // without any key; empty for targets that are not known here
}

// control is the node of the device mapper.
const control = "/dev/mapper/control"

// Tables reads all tables. Without the device mapper, or without the privilege, the
// error wraps os.ErrNotExist, unix.ENODEV or os.ErrPermission. Devices that go away
// meanwhile are left out.
func Tables() ([]Table, error) {
	f, err := os.Open(control) // to read: the kernel asks for the capability, not for a way to write
	if err != nil {
		return nil, fmt.Errorf("open device mapper: %w", err)
	}
	defer f.Close()
	return tables(func(request uint, buffer []byte) error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(&buffer[0])))
		if errno != 0 {
			return errno
		}
		return nil
	}, sequence)
}

// sequence is the number of a disk (Documentation/ABI/testing/sysfs-block).
func sequence(device uint64) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/diskseq", unix.Major(device), unix.Minor(device)))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// ioctl gives a request with its buffer to the kernel, which answers in it.
type ioctl func(request uint, buffer []byte) error

// Bounds of answers, in bytes: 256 devices of common names, and more than a table of
// a few targets ever has.
const (
	firstBuffer = 16 << 10
	lastBuffer  = 1 << 20
	maxDevices  = 4096
	maxTargets  = 1024 // of one device
)

func tables(ask ioctl, sequence func(device uint64) uint64) ([]Table, error) {
	_, answer, err := request(ask, unix.DM_LIST_DEVICES, 0)
	if err != nil {
		return nil, fmt.Errorf("list mapped devices: %w", err)
	}
	devices, err := parseList(answer)
	if err != nil {
		return nil, fmt.Errorf("list mapped devices: %w", err)
	}
	var all []Table
	for _, d := range devices {
		head, answer, err := request(ask, unix.DM_TABLE_STATUS, d.number)
		if errors.Is(err, unix.ENXIO) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read table of %.40q: %w", d.name, err)
		}
		found, err := parseTable(answer, head.targets)
		clear(answer) // a key may stand in it
		if err != nil {
			return nil, fmt.Errorf("read table of %.40q: %w", d.name, err)
		}
		n := sequence(d.number)
		for _, t := range found {
			t.Name, t.UUID, t.Sequence = d.name, head.uuid, n
			all = append(all, t)
		}
	}
	return all, nil
}

// request asks once, and again with a larger buffer as long as the answer did not fit.
// It returns the answer's head and what stands behind it.
func request(ask ioctl, command uint, device uint64) (header, []byte, error) {
	for size := firstBuffer; size <= lastBuffer; size *= 4 {
		buffer := make([]byte, size)
		newRequest(buffer, device)
		if err := ask(command, buffer); err != nil {
			return header{}, nil, err
		}
		head, err := parseHeader(buffer)
		if err != nil {
			return header{}, nil, err
		}
		if head.flags&unix.DM_BUFFER_FULL_FLAG == 0 {
			return head, buffer[head.start:head.end], nil
		}
		clear(buffer)
	}
	return header{}, nil, fmt.Errorf("the answer is longer than %d bytes", lastBuffer)
}
