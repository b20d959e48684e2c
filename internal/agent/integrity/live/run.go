package live

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"ward/internal/device/fanotify"
	"ward/internal/trust/baseline"
	"ward/internal/trust/finding"
)

const (
	// maxExecutions bounds the programs that wait to be looked at; each holds a
	// descriptor.
	maxExecutions = 64
	// maxProgram bounds what is hashed of a program, in bytes.
	maxProgram = 256 << 20
	// maxKnown bounds the programs that are remembered as the release's.
	maxKnown = 1024
)

var errTooLarge = errors.New("more than 256 MiB")

// execution is a program that was run.
type execution struct {
	path   string
	file   *os.File
	origin fanotify.Origin
}

// executed takes a program to be looked at.
func (r *Role) executed(e fanotify.Event) {
	if e.File == nil {
		return
	}
	select {
	case r.execs <- execution{e.Path, e.File, e.Origin}:
	default:
		e.File.Close()
		r.flood.passed()
	}
}

func (r *Role) runExecutions(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			for {
				select {
				case x := <-r.execs:
					x.file.Close()
				default:
					return
				}
			}
		case x := <-r.execs:
			r.judgeProgram(ctx, x)
			x.file.Close()
		}
	}
}

// judgeProgram looks a program up in the baseline, by the content of the file that
// was run whatever has become of its name. One on a file system that nobody can
// write to is left to dm-verity, the scan and the kernel's measurement list.
func (r *Role) judgeProgram(ctx context.Context, x execution) {
	files := r.now.Load().files
	if files == nil {
		return
	}
	if readOnly(x.file) {
		if e, ok, err := files.Entry(x.path); err == nil && ok && e.Type == baseline.File {
			r.c.Ran(x.path, e.SHA256) // it stands there as the release has it, or others tell
		}
		return
	}
	match, sum, err := r.known.match(files, x.path, x.file)
	var f finding.Finding
	twin := finding.IMAUnknownFile
	switch {
	case err != nil:
		f = finding.New(finding.ExecUnknownFile, "it could not be read: "+err.Error())
	case match == baseline.Known || match == baseline.KnownContentOtherPath:
		r.c.Ran(x.path, sum)
		return
	case match == baseline.ChangedContent:
		f, twin = finding.New(finding.ExecChangedFile, "the release has other content at this path"), finding.IMAChangedFile
	default:
		f = finding.New(finding.ExecUnknownFile, "the release has neither this path nor this content")
	}
	f.Path = r.hide(x.path)
	if err == nil {
		f.Found = fmt.Sprintf("sha256:%x", sum)
	}
	f.Detail = joined(f.Detail+" (seen by fanotify)", r.originText(x.origin, "run"))
	// The kernel's measurement list tells of the same thing: who comes first tells it.
	same := f
	same.Code = twin
	if r.c.First(ctx, f.Path, same) {
		r.report.incident(ctx, f)
	}
}

func readOnly(f *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

// identity names a content without reading it: whoever writes to the file changes
// its times, and only the kernel sets the change time.
type identity struct {
	device, inode uint64
	size          int64
	mtime, ctime  unix.Timespec
}

// known remembers which files were found to be the release's.
type known struct {
	mu    sync.Mutex
	files Files // that they were looked up in
	is    map[identity][32]byte
}

func newKnown() *known { return &known{is: make(map[identity][32]byte)} }

// match looks up the content of an open file.
func (k *known) match(files Files, name string, f *os.File) (baseline.Match, [32]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, [32]byte{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, [32]byte{}, errors.New("not a regular file")
	}
	id := identity{uint64(st.Dev), uint64(st.Ino), st.Size, st.Mtim, st.Ctim}
	k.mu.Lock()
	if k.files != files {
		k.files = files
		clear(k.is)
	}
	sum, ok := k.is[id]
	k.mu.Unlock()
	if ok {
		return files.Lookup(name, sum), sum, nil
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(io.NewSectionReader(f, 0, maxProgram+1), maxProgram+1))
	if err == nil && n > maxProgram {
		err = errTooLarge
	}
	if err != nil {
		return 0, [32]byte{}, err
	}
	sum = [32]byte(h.Sum(nil))
	match := files.Lookup(name, sum)
	k.mu.Lock()
	defer k.mu.Unlock()
	if match == baseline.Known || match == baseline.KnownContentOtherPath {
		if len(k.is) >= maxKnown {
			clear(k.is)
		}
		k.is[id] = sum
	}
	return match, sum, nil
}

// vouched says whether the release has the file at a path as it is, and whether it is
// the one that a process runs.
func (k *known) vouched(files Files, name string, by fanotify.Origin) bool {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || uint64(st.Dev) != by.Device || uint64(st.Ino) != by.Inode {
		return false
	}
	match, _, err := k.match(files, name, f)
	return err == nil && match == baseline.Known
}
