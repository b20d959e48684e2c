package securityfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"ward/internal/format/ima"
)

// maxCountFile bounds the count file: a 64-bit number in decimal and a newline.
const maxCountFile = 32

// ErrShrunk means that the list holds fewer entries than were read from it:
// newer kernels can delete what was taken over, and so can somebody else.
var ErrShrunk = errors.New("the IMA list lost entries")

// Follower yields the IMA list's entries as the kernel adds them. It keeps the
// list's descriptor: reading on after the end gives what was added since, and
// the kernel only ever shows whole entries. Memory does not grow with the list.
// poll(2) on the list is always ready and so of no use; the count file is the
// cheap way to see that there is something new.
type Follower struct {
	list  fs.File
	fsys  fs.FS
	count fs.File
	dec   *ima.Decoder
	seen  int // entries given out
}

// FollowIMA opens the list at its first entry. Errors wrap fs.ErrNotExist when
// the kernel has no list and fs.ErrPermission when it may not be read.
func FollowIMA(fsys fs.FS) (*Follower, error) {
	list, err := openIMA(fsys)
	if err != nil {
		return nil, err
	}
	return &Follower{list: list, fsys: fsys}, nil
}

// Changed reports whether the list holds another number of entries than Next
// has given out, ErrShrunk when it holds fewer. Without a count file it is
// always true.
func (f *Follower) Changed() (bool, error) {
	n, err := f.entries()
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read IMA count: %w", err)
	}
	if n < f.seen {
		return false, fmt.Errorf("%w: it has %d, and %d were read from it", ErrShrunk, n, f.seen)
	}
	return n > f.seen, nil
}

// entries reads the count file, through one descriptor where that can be read
// again from its start.
func (f *Follower) entries() (int, error) {
	if f.count == nil {
		var err error
		if f.count, err = f.fsys.Open(imaCountFile); err != nil {
			f.count = nil
			return 0, err
		}
	}
	var buf [maxCountFile]byte
	var n int
	var err error
	if at, ok := f.count.(io.ReaderAt); ok {
		n, err = at.ReadAt(buf[:], 0)
	} else {
		n, err = io.ReadFull(f.count, buf[:])
		f.closeCount()
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		f.closeCount()
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(buf[:n])))
}

func (f *Follower) closeCount() {
	if f.count != nil {
		f.count.Close()
		f.count = nil
	}
}

// Next returns the next entry, or io.EOF when the kernel has added none since;
// a later call goes on from there. Indexes and offsets count from the list's
// first entry. Any other error ends the following: close and open anew.
func (f *Follower) Next() (e ima.Entry, err error) {
	if f.dec == nil {
		f.dec, err = ima.NewDecoder(f.list)
	}
	if err == nil {
		e, err = f.dec.Next()
	}
	switch {
	case err == nil:
		f.seen++
		return e, nil
	case errors.Is(err, io.EOF):
		return ima.Entry{}, io.EOF
	}
	return ima.Entry{}, fmt.Errorf("follow IMA list after entry %d: %w", f.seen, err)
}

// Entries returns how many entries Next has given out.
func (f *Follower) Entries() int { return f.seen }

// Close closes the descriptors.
func (f *Follower) Close() error {
	f.closeCount()
	return f.list.Close()
}
