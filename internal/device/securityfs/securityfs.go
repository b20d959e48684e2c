// Package securityfs reads what the kernel hands over about the boot and about
// what ran: the firmware's event log and the IMA list of securityfs
// (Documentation/ABI/testing/ima_policy and drivers/char/tpm/eventlog of the
// Linux source), the PCR files of sysfs
// (Documentation/ABI/stable/sysfs-class-tpm), and systemd's log of what user space
// measured. Every read is bounded. File
// systems are given as fs.FS, rooted at the mount point.
package securityfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Files below the mount point of securityfs.
const (
	eventLogFile  = "tpm0/binary_bios_measurements"
	imaBinaryFile = "ima/binary_runtime_measurements"
	imaASCIIFile  = "ima/ascii_runtime_measurements"
	imaCountFile  = "ima/runtime_measurements_count"
)

// userLogFile is below systemd's folder of logs (tpm2-util.c,
// tpm2_userspace_log_path).
const userLogFile = "tpm2-measure.log"

const (
	// MaxEventLog bounds the event log. The firmware profile asks for a log
	// area of at least 64 KiB; logs of real machines are 14 to 75 KiB long.
	MaxEventLog = 1 << 20
	// MaxUserLog bounds systemd's log: some twenty records of up to 2,000 bytes
	// in a boot; a phase or a disk adds one each.
	MaxUserLog = 1 << 20
	// MaxIMA bounds what is read of the IMA list: some 400,000 entries of
	// common length. A device that has more was left running under a storm.
	MaxIMA = 64 << 20
)

// ErrTooLong means that a file is longer than its bound; its content was not
// taken.
var ErrTooLong = errors.New("longer than its bound")

// ReadEventLog returns the firmware's event log. A file without a byte gives an
// empty slice and no error: firmware that handed nothing over is a state of its
// own. Errors wrap fs.ErrNotExist, fs.ErrPermission or ErrTooLong.
func ReadEventLog(fsys fs.FS) ([]byte, error) {
	b, err := readAtMost(fsys, eventLogFile, MaxEventLog)
	if err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	return b, nil
}

// ReadUserLog returns the log of what user space measured; logs is rooted at
// systemd's folder of logs, /run/log/systemd. Errors wrap fs.ErrNotExist where
// systemd has written none, fs.ErrPermission or ErrTooLong.
func ReadUserLog(logs fs.FS) ([]byte, error) {
	b, err := readAtMost(logs, userLogFile, MaxUserLog)
	if err != nil {
		return nil, fmt.Errorf("read user space log: %w", err)
	}
	return b, nil
}

// ReadIMA returns the IMA list from its first entry on, binary where the kernel
// has it. A list beyond MaxIMA is cut there and truncated is true.
func ReadIMA(fsys fs.FS) (list []byte, truncated bool, err error) {
	l, err := OpenIMA(fsys)
	if err != nil {
		return nil, false, err
	}
	defer l.Close()
	if list, err = io.ReadAll(l); err != nil {
		return nil, false, fmt.Errorf("read IMA list: %w", err)
	}
	return list, l.Truncated(), nil
}

// List is the IMA list as a stream that ends at MaxIMA bytes.
type List struct {
	f    fs.File
	r    io.Reader // f, from where it was opened on
	left int64
	more bool
}

// OpenIMA opens the IMA list as a stream. Errors wrap fs.ErrNotExist when the
// kernel has no list and fs.ErrPermission when it may not be read.
func OpenIMA(fsys fs.FS) (*List, error) { return OpenIMAAt(fsys, 0) }

// openIMA opens the binary list, or the ASCII one where there is no other.
func openIMA(fsys fs.FS) (fs.File, error) {
	f, err := fsys.Open(imaBinaryFile)
	if errors.Is(err, fs.ErrNotExist) {
		if ascii, asciiErr := fsys.Open(imaASCIIFile); asciiErr == nil {
			return ascii, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open IMA list: %w", err)
	}
	return f, nil
}

// Read reads on; after as many bytes as were asked for, MaxIMA or fewer, it ends as if the list did.
func (l *List) Read(p []byte) (int, error) {
	if l.left == 0 {
		var one [1]byte
		n, err := l.r.Read(one[:])
		l.more = l.more || n > 0
		if n == 0 && err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}

// Truncated says that the list went on beyond what was asked for.
func (l *List) Truncated() bool { return l.more }

// Close closes the list.
func (l *List) Close() error { return l.f.Close() }

// readAtMost reads a file whose stated size means nothing, as on every pseudo
// file system.
func readAtMost(fsys fs.FS, name string, most int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: %w of %d bytes", name, ErrTooLong, most)
	}
	return b, nil
}
