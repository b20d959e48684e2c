// Package waltest is a disk for the tests of package wal. It logs every
// operation and can fail at any; of a power cut it can give an arbitrary outcome
// (PowerCut) or list the outcomes one by one (Cuts). What it promises is what
// fsync(2) and POSIX promise and no more: README.md of package wal, "The disk
// that is assumed".
package waltest

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
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

// Op is one operation that changes something, or was to.
type Op struct {
	Kind     string // "create", "write", "sync", "rename", "remove", "syncdir"
	Name, To string
	Offset   int64
	Bytes    int // written
	Err      error
}

func (o Op) String() string {
	s := o.Kind
	switch o.Kind {
	case "write":
		s += fmt.Sprintf(" %s: %d bytes at %d", o.Name, o.Bytes, o.Offset)
	case "rename":
		s += " " + o.Name + " to " + o.To
	case "syncdir":
	default:
		s += " " + o.Name
	}
	if o.Err != nil {
		s += ": " + o.Err.Error()
	}
	return s
}

// Disk is a folder on a disk that can fail.
type Disk struct {
	mu      sync.Mutex
	rnd     *rand.Rand
	names   map[string]*inode // as programs see them
	kept    map[string]*inode // as the disk has them, before changes
	changes []*change         // of names since the folder was synced, in order
	fail    func(op string) bool
	reads   func(op, name string) bool
	fault   error
	log     []Op
	watch   func(Op)
}

// fate says what a power cut does to a write.
type fate int

const (
	loose  fate = iota // not synced: there or not
	lost               // a sync of it failed: there or not, and no later sync helps
	synced             // there
)

// change of names that is not synced: from goes, to comes.
type change struct {
	from, to string
	i        *inode
}

func (c *change) apply(names map[string]*inode) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.i
	}
}

type inode struct {
	name   string   // the newest
	live   []byte   // as programs see it
	base   []byte   // as the disk has it, before writes
	writes []*write // in order
}

type write struct {
	off  int64
	data []byte
	fate fate
}

// New makes an empty disk; seed decides what a power cut leaves.
func New(seed uint64) *Disk {
	return &Disk{rnd: rand.New(rand.NewPCG(seed, 1)), names: map[string]*inode{}, kept: map[string]*inode{}}
}

// Break makes operations fail from now on with fault (ErrInjected when nil).
// fail is asked before everything that changes something, with the kind of Op;
// a true answer makes it fail, a write after a random part of it.
func (d *Disk) Break(fault error, fail func(op string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.fail = fault, fail
}

// BreakReads makes reading fail with fault: "list", "open", "size", "read".
func (d *Disk) BreakReads(fault error, fail func(op, name string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.reads = fault, fail
}

// Mend ends what Break and BreakReads began.
func (d *Disk) Mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.fail, d.reads = nil, nil, nil
}

// Watch has f called behind every operation, with the disk as it is then; nil
// ends it.
func (d *Disk) Watch(f func(Op)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watch = f
}

// Log is every operation since the disk was made.
func (d *Disk) Log() []Op { d.mu.Lock(); defer d.mu.Unlock(); return slices.Clip(d.log) }

// fails decides whether an operation fails.
func (d *Disk) fails(op string) error {
	if d.fail == nil || !d.fail(op) {
		return nil
	}
	return d.injected()
}

func (d *Disk) readFails(op, name string) error {
	if d.reads == nil || !d.reads(op, name) {
		return nil
	}
	return d.injected()
}

func (d *Disk) injected() error {
	if d.fault != nil {
		return d.fault
	}
	return ErrInjected
}

// do carries an operation out, logs it, and tells who watches.
func (d *Disk) do(op Op, act func(op *Op) error) error {
	d.mu.Lock()
	op.Err = act(&op)
	d.log = append(d.log, op)
	watch := d.watch
	d.mu.Unlock()
	if watch != nil {
		watch(op)
	}
	return op.Err
}

// List implements wal.FS.
func (d *Disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.readFails("list", ""); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(d.names)), nil
}

// Open implements wal.FS.
func (d *Disk) Open(name string, create bool) (wal.File, error) {
	if create {
		return d.create(name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.readFails("open", name); err != nil {
		return nil, err
	}
	i, ok := d.names[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{d, i}, nil
}

func (d *Disk) create(name string) (wal.File, error) {
	i := &inode{name: name}
	err := d.do(Op{Kind: "create", Name: name}, func(*Op) error {
		if _, ok := d.names[name]; ok {
			return &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
		}
		if err := d.fails("create"); err != nil {
			return err
		}
		d.change(&change{to: name, i: i})
		return nil
	})
	return &file{d, i}, err
}

func (d *Disk) change(c *change) {
	c.apply(d.names)
	d.changes = append(d.changes, c)
}

// Rename implements wal.FS.
func (d *Disk) Rename(from, to string) error {
	return d.do(Op{Kind: "rename", Name: from, To: to}, func(*Op) error {
		i, ok := d.names[from]
		if !ok {
			return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
		}
		if err := d.fails("rename"); err != nil {
			return err
		}
		i.name = to
		d.change(&change{from: from, to: to, i: i})
		return nil
	})
}

// Remove implements wal.FS.
func (d *Disk) Remove(name string) error {
	return d.do(Op{Kind: "remove", Name: name}, func(*Op) error {
		if _, ok := d.names[name]; !ok {
			return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
		}
		if err := d.fails("remove"); err != nil {
			return err
		}
		d.change(&change{from: name})
		return nil
	})
}

// Sync implements wal.FS. One that fails leaves the names to a later one, as a
// file system's own journal does.
func (d *Disk) Sync() error {
	return d.do(Op{Kind: "syncdir"}, func(*Op) error {
		if err := d.fails("syncdir"); err != nil {
			return err
		}
		for _, c := range d.changes {
			c.apply(d.kept)
		}
		d.changes = nil
		return nil
	})
}

// after is the fate after a sync: one that fails marks what it could not write
// clean, as kernels do, so that no later one writes it.
func (f fate) after(err error) fate {
	switch {
	case f != loose:
		return f
	case err != nil:
		return lost
	}
	return synced
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
	d.put(name, content)
}

func (d *Disk) put(name string, content []byte) {
	i := &inode{name: name, live: bytes.Clone(content), base: bytes.Clone(content)}
	d.names[name], d.kept[name] = i, i
}

// Content is a file as programs see it.
func (d *Disk) Content(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.names[name].live)
}

var hashSeed = maphash.MakeSeed()

// Hash tells disks apart by the names and contents that programs see.
func (d *Disk) Hash() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		fmt.Fprintf(&h, "%s %d\n", name, len(d.names[name].live))
		h.Write(d.names[name].live)
	}
	return h.Sum64()
}

type file struct {
	d *Disk
	i *inode
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.readFails("read", f.i.name); err != nil {
		return 0, err
	}
	if off >= int64(len(f.i.live)) {
		return 0, io.EOF
	}
	n := copy(p, f.i.live[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.d.do(Op{Kind: "write", Name: f.i.name, Offset: off}, func(op *Op) error {
		err := f.d.fails("write")
		if err != nil {
			p = p[:f.d.rnd.IntN(len(p)+1)]
		}
		f.i.live = overlay(f.i.live, p, off)
		if len(p) > 0 {
			f.i.writes = append(f.i.writes, &write{off: off, data: bytes.Clone(p)})
		}
		op.Bytes, n = len(p), len(p)
		return err
	})
	return n, err
}

// overlay puts p over b at an offset, with zeros before it if need be.
func overlay(b, p []byte, off int64) []byte {
	if grow := off + int64(len(p)) - int64(len(b)); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	copy(b[off:], p)
	return b
}

func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.readFails("size", f.i.name); err != nil {
		return 0, err
	}
	return int64(len(f.i.live)), nil
}

// Sync makes the content durable; one that fails loses, as kernels do, what
// could not be written, for good.
func (f *file) Sync() error {
	return f.d.do(Op{Kind: "sync", Name: f.i.name}, func(*Op) error {
		err := f.d.fails("sync")
		for _, w := range f.i.writes {
			w.fate = w.fate.after(err)
		}
		for len(f.i.writes) > 0 && f.i.writes[0].fate == synced {
			f.i.base = overlay(f.i.base, f.i.writes[0].data, f.i.writes[0].off)
			f.i.writes = f.i.writes[1:]
		}
		return err
	})
}

func (f *file) Close() error { return nil }
