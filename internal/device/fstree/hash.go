package fstree

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"golang.org/x/sys/unix"
)

// file reads regular files, one after the other, with one buffer.
type file struct {
	fd    int // -1: none is open
	stat  unix.Statx_t
	again unix.Statx_t
	sum   hash.Hash
	buf   []byte
	out   []byte
	iov   [1]unix.Iovec

	read func(fd int, b []byte, offset int64) (int, error)
	pace func(bytes int) error // before each piece of work; its error ends the reading
}

func newFile(o *Options) *file {
	f := &file{fd: -1, sum: sha256.New(), buf: make([]byte, chunk), out: make([]byte, 0, sha256.Size), read: o.Read, pace: o.Pace}
	if f.read == nil {
		f.read = pread
	}
	if f.pace == nil {
		f.pace = func(int) error { return nil }
	}
	return f
}

func (f *file) close() {
	if f.fd >= 0 {
		_ = unix.Close(f.fd)
		f.fd = -1
	}
}

// same says whether a file is as it was: the same one, not written to.
func same(a, b *unix.Statx_t) bool {
	return sameObject(a, b) && a.Size == b.Size && a.Mtime == b.Mtime && a.Ctime == b.Ctime
}

// digest is the SHA-256 of the open file, which has at most so many bytes. A file
// that changes meanwhile is read once more.
func (f *file) digest(most int64) ([32]byte, error) {
	for range 2 {
		if int64(f.stat.Size) > most {
			return [32]byte{}, ErrTooLarge
		}
		complete, err := f.whole(int64(f.stat.Size))
		if err != nil {
			return [32]byte{}, err
		}
		if err := statAt(f.fd, empty, &f.again); err != nil {
			return [32]byte{}, fmt.Errorf("look at file: %w", err)
		}
		if same(&f.stat, &f.again) {
			if !complete {
				return [32]byte{}, fmt.Errorf("read file: %w", io.ErrUnexpectedEOF)
			}
			f.out = f.sum.Sum(f.out[:0])
			return [32]byte(f.out), nil
		}
		f.stat = f.again
	}
	return [32]byte{}, ErrChanging
}

// whole hashes the file's first bytes and says whether there were so many. A large file that was not in the page cache leaves it again: the cache is
// therapy's.
func (f *file) whole(size int64) (complete bool, err error) {
	f.sum.Reset()
	cold := false
	if size > chunk {
		cold = !f.cached()
		_ = unix.Fadvise(f.fd, 0, 0, unix.FADV_SEQUENTIAL)
	}
	for at := int64(0); at < size; {
		want := min(size-at, chunk)
		if err := f.pace(int(want)); err != nil {
			return false, err
		}
		n, err := f.read(f.fd, f.buf[:want], at)
		if err != nil {
			return false, fmt.Errorf("read file at offset %d: %w", at, err)
		}
		if n <= 0 {
			return false, nil
		}
		f.sum.Write(f.buf[:n])
		at += int64(n)
	}
	if cold {
		_ = unix.Fadvise(f.fd, 0, 0, unix.FADV_DONTNEED)
	}
	return true, nil
}
