// Package waltest is a disk for the tests of package wal: it can fail at any
// operation, and it can lose power, after which only what was synced is there
// for sure and of the rest an arbitrary part.
package waltest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"ward/internal/device/wal"
)

// ErrInjected is the fault.
var ErrInjected = errors.New("injected fault")

// Disk is a folder on a disk that can fail.
type Disk struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	names map[string]*inode // as programs see them
	kept  map[string]*inode // as they are after a power cut
	fail  func(op string) bool
	fault error
}

type inode struct {
	live   []byte // as programs see it
	synced []byte // as it is for sure after a power cut
}

// New makes an empty disk; seed decides what a power cut leaves.
func New(seed uint64) *Disk {
	return &Disk{rnd: rand.New(rand.NewPCG(seed, 1)), names: map[string]*inode{}, kept: map[string]*inode{}}
}

// Break makes operations fail from now on with fault (ErrInjected when nil).
// fail is asked before everything that changes something: "create", "write",
// "sync", "rename", "remove", "syncdir"; a true answer makes it fail, a write
// after a random part of it.
func (d *Disk) Break(fault error, fail func(op string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.fail = fault, fail
}

// Mend ends what Break began.
func (d *Disk) Mend() { d.Break(nil, nil) }

func (d *Disk) fails(op string) error {
	switch {
	case d.fail == nil || !d.fail(op):
		return nil
	case d.fault != nil:
		return d.fault
	}
	return ErrInjected
}

// PowerCut returns the disk as it is after the power was cut: names as of the
// last sync of the folder or newer, contents as of their last sync with an
// arbitrary part of what was written since, sector by sector.
func (d *Disk) PowerCut() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := New(d.rnd.Uint64())
	names := d.kept
	if d.rnd.IntN(2) == 0 {
		names = d.names
	}
	for name, i := range names {
		content := d.torn(i)
		after.names[name] = &inode{live: content, synced: bytes.Clone(content)}
	}
	after.kept = maps.Clone(after.names)
	return after
}

// sector is what a disk writes as a whole.
const sector = 512

func (d *Disk) torn(i *inode) []byte {
	if d.rnd.IntN(3) == 0 {
		return bytes.Clone(i.live)
	}
	out := bytes.Clone(i.synced)
	if n := len(i.live); n > len(out) && d.rnd.IntN(2) == 0 {
		out = append(out, make([]byte, n-len(out))...) // the length came through, zeros for the rest
	}
	for off := 0; off < len(out); off += sector {
		end := min(off+sector, len(out))
		if d.rnd.IntN(2) == 0 && off < len(i.live) {
			copy(out[off:end], i.live[off:min(end, len(i.live))])
		}
	}
	copy(out, i.synced[:min(len(i.synced), len(out))]) // appending never changes what was synced
	return out
}

// List implements wal.FS.
func (d *Disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names)), nil
}

// Open implements wal.FS.
func (d *Disk) Open(name string, create bool) (wal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, ok := d.names[name]
	switch {
	case create && ok:
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	case !create && !ok:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case create:
		if err := d.fails("create"); err != nil {
			return nil, err
		}
		i = &inode{}
		d.names[name] = i
	}
	return &file{d, i}, nil
}

// Rename implements wal.FS.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails("rename"); err != nil {
		return err
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

// Remove implements wal.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails("remove"); err != nil {
		return err
	}
	delete(d.names, name)
	return nil
}

// Sync implements wal.FS.
func (d *Disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails("syncdir"); err != nil {
		return err
	}
	d.kept = maps.Clone(d.names)
	return nil
}

// Corrupt flips a bit of a file, as a worn cell or an attacker does.
func (d *Disk) Corrupt(name string, offset int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name].live[offset] ^= 0x10
}

// Put writes a file as if it had always been there.
func (d *Disk) Put(name string, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := &inode{live: bytes.Clone(content), synced: bytes.Clone(content)}
	d.names[name], d.kept[name] = i, i
}

// Content is a file as programs see it.
func (d *Disk) Content(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.names[name].live)
}

type file struct {
	d *Disk
	i *inode
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if off >= int64(len(f.i.live)) {
		return 0, io.EOF
	}
	n := copy(p, f.i.live[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.fails("write")
	if err != nil {
		p = p[:f.d.rnd.IntN(len(p)+1)]
	}
	if grow := off + int64(len(p)) - int64(len(f.i.live)); grow > 0 {
		f.i.live = append(f.i.live, make([]byte, grow)...)
	}
	copy(f.i.live[off:], p)
	return len(p), err
}

func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.i.live)), nil
}

// Sync makes the content durable; one that fails loses, as kernels do, what
// could not be written, for good.
func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.fails("sync"); err != nil {
		return err
	}
	f.i.synced = bytes.Clone(f.i.live)
	return nil
}

func (f *file) Close() error { return nil }
