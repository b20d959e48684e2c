// Package fstree walks the files of a device in the order of a file baseline and
// says of each what it is: type, mode, owner, size, link target, device numbers,
// capabilities and other security attributes, the digest of fs-verity, and the
// SHA-256 of its content (FIPS 180-4). It follows no link, opens no pipe, socket or
// device, leaves the root's file system only where its caller says so and never
// for the kernel's own file systems or for those across a network, and takes the
// same memory for every tree (openat(2), openat2(2), statx(2), getdents(2),
// xattr(7), ioctl_fsverity in Documentation/filesystems/fsverity.rst). What cannot
// be read is told in its place; it ends no walk.
package fstree

import (
	"errors"

	"ward/internal/trust/baseline"
)

// Reasons why something was not looked at in full. What the kernel said otherwise
// is a unix.Errno within the error.
var (
	// ErrVanished: it was there when its folder was read, and is no more.
	ErrVanished = errors.New("it is gone")
	// ErrChanging: it was written to while it was read, twice in a row.
	ErrChanging = errors.New("it changes while it is read")
	// ErrTooLarge: its content is longer than was asked for.
	ErrTooLarge = errors.New("it is longer than is read")
	// ErrTooDeep: its path is longer than is walked.
	ErrTooDeep = errors.New("its path is longer than is walked")
	// ErrIrregular: it has no content that could be read.
	ErrIrregular = errors.New("it is no regular file")
)

// Bounds of a walk.
const (
	// maxPath bounds a path, in bytes. A baseline names none longer than 4096, which
	// is Linux's PATH_MAX; what root can make beyond that is walked so far.
	maxPath = 64 << 10
	// maxDepth bounds the folders on the way: a path that a baseline names has half
	// as many as bytes at most.
	maxDepth = 2048
	// maxNames bounds the names of one folder that are held at once, in bytes; of a
	// larger one they are read in several passes.
	maxNames = 1 << 20
	// maxHeld bounds the names of all folders on the way to the present one. Beyond
	// it those of the outermost are forgotten, and read again on the way back.
	maxHeld = 2 << 20
	// maxOpen bounds the folders on the way that are open at once.
	maxOpen = 32
	// maxXattrs bounds the list of attributes of a file and each value, in bytes. The
	// kernel's own bound is 64 KiB; those of the namespace security are below 4 KiB.
	maxXattrs = 4 << 10
	// chunk is how much is read and hashed at once, in bytes.
	chunk = 128 << 10
)

// Barrier says why a walk does not go into a folder by itself.
type Barrier uint8

// Barriers.
const (
	None    Barrier = iota
	Mounted         // another file system, or another part of one, is mounted there
	Pseudo          // one of the kernel's own: proc, sysfs and the like
	Remote          // one across a network, or of a program (FUSE): it could block
	Loop            // a part of the tree that the walk is in already
)

func (b Barrier) String() string {
	return [...]string{"none", "mounted", "pseudo", "remote", "loop"}[b]
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Node is what stands at one path. It and all that it holds are valid until the
// walk's next step; what is kept longer must be copied.
type Node struct {
	Path     string
	Type     baseline.Type // 0 where Err says that nothing is known
	Mode     uint16        // permissions with set-uid, set-gid and sticky bits
	UID, GID uint32
	Size     int64           // bytes of a regular file, else 0
	Link     string          // of a symbolic link
	Device   baseline.Device // of a device
	FS       baseline.Device // the device of the file system that holds it
	Xattrs   []Xattr         // of the namespace security, of files and folders, in the kernel's order
	Verity   bool            // the kernel checks its content by fs-verity
	Measured [32]byte        // digest of fs-verity, once it was asked for
	SHA256   [32]byte        // of a regular file, once it was read
	Barrier  Barrier         // of a folder
	Err      error           // what of it could not be read
}
