package fanotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Sizes of the kernel's structures (fanotify(7)), in bytes.
const (
	metadataSize = 24 // struct fanotify_event_metadata
	infoHeader   = 4  // struct fanotify_event_info_header
	fidHeader    = 16 // fsid, handle_bytes, handle_type of fanotify_event_info_fid
	// maxHandle is MAX_HANDLE_SZ of the kernel.
	maxHandle = 128
	// maxName is NAME_MAX, the longest name in a directory.
	maxName = 255
)

// errRecord: bytes that are no fanotify event.
var errRecord = errors.New("not a fanotify event")

// record is one event as the kernel writes it.
type record struct {
	mask  uint64
	fd    int32 // of the file; -1: the group reports handles
	pid   int32
	pidfd int32 // -1: none
	// of the directory, where the group reports handles
	fsid       [8]byte
	handleType int32
	handle     []byte // nil: none; shares the buffer
	name       []byte // in the directory; shares the buffer
}

// next cuts the first event off a buffer that read(2) has filled. Unknown info
// records are passed over: newer kernels may add some. Descriptors are given with
// an error too, for somebody must close them; without rest nothing can follow.
func next(b []byte) (r record, rest []byte, err error) {
	r.fd, r.pidfd = -1, -1
	if len(b) < metadataSize {
		return r, nil, fmt.Errorf("%w: %d bytes, want at least %d", errRecord, len(b), metadataSize)
	}
	length, version, head := binary.NativeEndian.Uint32(b), b[4], int(binary.NativeEndian.Uint16(b[6:]))
	if uint64(length) > uint64(len(b)) || head < metadataSize || uint64(head) > uint64(length) {
		return r, nil, fmt.Errorf("%w: length %d with a head of %d in %d bytes", errRecord, length, head, len(b))
	}
	if version != unix.FANOTIFY_METADATA_VERSION {
		return r, nil, fmt.Errorf("%w: version %d, want %d", errRecord, version, unix.FANOTIFY_METADATA_VERSION)
	}
	r.mask = binary.NativeEndian.Uint64(b[8:])
	r.fd, r.pid = int32(binary.NativeEndian.Uint32(b[16:])), int32(binary.NativeEndian.Uint32(b[20:]))
	for info := b[head:length]; len(info) > 0; {
		if len(info) < infoHeader {
			return r, b[length:], fmt.Errorf("%w: %d bytes behind its records", errRecord, len(info))
		}
		n := int(binary.NativeEndian.Uint16(info[2:]))
		if n < infoHeader || n > len(info) {
			return r, b[length:], fmt.Errorf("%w: an info record of %d bytes in %d", errRecord, n, len(info))
		}
		if err := r.info(info[0], info[infoHeader:n]); err != nil {
			return r, b[length:], err
		}
		info = info[n:]
	}
	return r, b[length:], nil
}

func (r *record) info(kind byte, b []byte) error {
	switch kind {
	case unix.FAN_EVENT_INFO_TYPE_PIDFD:
		if len(b) < 4 {
			return fmt.Errorf("%w: a pidfd of %d bytes", errRecord, len(b))
		}
		r.pidfd = int32(binary.NativeEndian.Uint32(b))
	case unix.FAN_EVENT_INFO_TYPE_DFID_NAME, unix.FAN_EVENT_INFO_TYPE_DFID:
		if len(b) < fidHeader {
			return fmt.Errorf("%w: a handle of %d bytes", errRecord, len(b))
		}
		n := binary.NativeEndian.Uint32(b[8:])
		if n > maxHandle || int(n) > len(b)-fidHeader {
			return fmt.Errorf("%w: a handle of %d bytes in %d", errRecord, n, len(b)-fidHeader)
		}
		copy(r.fsid[:], b)
		r.handleType = int32(binary.NativeEndian.Uint32(b[12:]))
		r.handle = b[fidHeader : fidHeader+int(n)]
		name, _, _ := bytes.Cut(b[fidHeader+int(n):], []byte{0})
		if len(name) > maxName || bytes.IndexByte(name, '/') >= 0 {
			return fmt.Errorf("%w: a name of %d bytes or with a slash", errRecord, len(name))
		}
		r.name = name
	}
	return nil
}
