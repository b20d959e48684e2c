package fstree

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listing holds names of one folder, the least behind a given one, each with a NUL
// behind it. What did not fit is read in a later pass: the memory is the same for
// every folder.
type listing struct {
	names  []byte
	starts []uint32 // of the names, in their order once sorted
	next   int
	more   bool // there are names behind the last
}

// held is the memory that it takes, in bytes.
func (l *listing) held() int { return cap(l.names) + 4*cap(l.starts) }

// at is the i-th name with its NUL.
func (l *listing) at(i int) []byte {
	n := l.names[l.starts[i]:]
	return n[:bytes.IndexByte(n, 0)+1]
}

// direntHead is the length of struct linux_dirent64 in front of the name.
const direntHead = 19

// fill reads the folder from its beginning and keeps the names behind after, as
// many as fit into bound bytes. dents is the buffer for the kernel's answers.
func (l *listing) fill(fd int, after []byte, bound int, dents []byte, work func() error) error {
	l.names, l.starts, l.next, l.more = l.names[:0], l.starts[:0], 0, false
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return reason("read folder", err)
	}
	var limit []byte // names from it on are for a later pass
	for {
		if err := work(); err != nil {
			return err
		}
		n, err := unix.Getdents(fd, dents)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return reason("read folder", err)
		}
		if n == 0 {
			l.sort()
			return nil
		}
		for rest := dents[:n]; len(rest) >= direntHead; {
			length := int(binary.NativeEndian.Uint16(rest[16:]))
			if length < direntHead || length > len(rest) {
				break
			}
			name := rest[direntHead:length]
			rest = rest[length:]
			end := bytes.IndexByte(name, 0)
			if end <= 0 {
				continue
			}
			name = name[:end]
			if string(name) == "." || string(name) == ".." || bytes.IndexByte(name, '/') >= 0 || bytes.Compare(name, after) <= 0 && len(after) > 0 {
				continue
			}
			if limit != nil && bytes.Compare(name, limit) >= 0 {
				l.more = true
				continue
			}
			if len(l.names)+4*len(l.starts)+len(name)+1 > bound {
				limit = l.halve(limit)
				if bytes.Compare(name, limit) >= 0 {
					continue
				}
			}
			l.starts = append(l.starts, uint32(len(l.names)))
			l.names = append(append(l.names, name...), 0)
		}
	}
}

// halve keeps the lesser half of the names, and returns the least of the others.
func (l *listing) halve(limit []byte) []byte {
	l.sort()
	keep := len(l.starts) / 2
	first := l.at(keep)
	limit = append(limit[:0], first[:len(first)-1]...)
	// The names that stay move to the front, in the order in which they came.
	kept := l.starts[:keep]
	slices.SortFunc(kept, func(a, b uint32) int { return int(a) - int(b) }) // of the kind that sort has, so that there is one
	to := uint32(0)
	for i, from := range kept {
		n := l.names[from:]
		n = n[:bytes.IndexByte(n, 0)+1]
		kept[i] = to
		to += uint32(copy(l.names[to:], n))
	}
	l.names, l.starts, l.more = l.names[:to], kept, true
	return limit
}

// sort puts the names in their order. A name ends in the least byte, so that what
// stands behind it is never compared; only one that came twice is.
func (l *listing) sort() {
	slices.SortFunc(l.starts, func(a, b uint32) int { return bytes.Compare(l.names[a:], l.names[b:]) })
}

// view is bytes as a string, for as long as the bytes stay as they are.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
