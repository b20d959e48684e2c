package fstree_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ward/internal/device/fstree"
	"ward/internal/trust/baseline"
)

// Faults of reading, each with what is told of the file and what is read of its
// neighbour all the same.
//
// Verifies: SR-084
func TestReadFaults(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 40<<10) // 640 KiB
	for _, tt := range []struct {
		name  string
		read  func(path string) func(fd int, b []byte, at int64) (int, error)
		most  int64
		want  error // nil: it is read
		after string
	}{
		{"an I/O error in the middle", func(string) func(int, []byte, int64) (int, error) {
			return func(fd int, b []byte, at int64) (int, error) {
				if at >= 256<<10 {
					return 0, unix.EIO
				}
				return unix.Pread(fd, b, at)
			}
		}, 1 << 20, unix.EIO, big},
		{"short reads", func(string) func(int, []byte, int64) (int, error) {
			return func(fd int, b []byte, at int64) (int, error) { return unix.Pread(fd, b[:min(len(b), 1000)], at) }
		}, 1 << 20, nil, big},
		{"an end before the size", func(string) func(int, []byte, int64) (int, error) {
			return func(fd int, b []byte, at int64) (int, error) {
				if at >= 128<<10 {
					return 0, nil
				}
				return unix.Pread(fd, b, at)
			}
		}, 1 << 20, io.ErrUnexpectedEOF, big},
		{"changed once while it is read", func(path string) func(int, []byte, int64) (int, error) {
			done := false
			return func(fd int, b []byte, at int64) (int, error) {
				n, err := unix.Pread(fd, b, at)
				if !done {
					done = true
					err = errors.Join(err, os.WriteFile(path, []byte("short now"), 0o644))
				}
				return n, err
			}
		}, 1 << 20, nil, "short now"},
		{"changed whenever it is read", func(path string) func(int, []byte, int64) (int, error) {
			turn := 0
			return func(fd int, b []byte, at int64) (int, error) {
				turn++
				return 0, errors.Join(os.WriteFile(path, []byte(strings.Repeat("x", turn)), 0o644))
			}
		}, 1 << 20, fstree.ErrChanging, big},
		{"longer than is read", func(string) func(int, []byte, int64) (int, error) {
			return func(int, []byte, int64) (int, error) { panic("it is read") }
		}, 100, fstree.ErrTooLarge, big},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			path := root + "/file"
			for name, text := range map[string]string{"file": big, "other": "abc"} {
				if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			fault, seen := tt.read(path), 0
			current := ""
			o := fstree.Options{Read: func(fd int, b []byte, at int64) (int, error) {
				if current != "/file" {
					return unix.Pread(fd, b, at)
				}
				return fault(fd, b, at)
			}}
			walk(t, root, o, func(w *fstree.Walk, n *fstree.Node) {
				current = strings.Clone(n.Path)
				if n.Type != baseline.File {
					return
				}
				seen++
				sum, err := w.SHA256(tt.most)
				switch {
				case n.Path == "/other":
					if err != nil || sum != sha256.Sum256([]byte("abc")) {
						t.Errorf("%q: %x, %v", n.Path, sum, err)
					}
				case !errors.Is(err, tt.want) || err == nil && sum != sha256.Sum256([]byte(tt.after)):
					t.Errorf("%x, %v; want %v", sum, err, tt.want)
				case err != nil && sum != [32]byte{}:
					t.Error("there is an error and a digest")
				}
			})
			if seen != 2 {
				t.Errorf("%d files", seen)
			}
		})
	}
}

// needRoot ends a test that mounts, where nobody may.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
}

func mount(t *testing.T, source, target, fstype string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		t.Skipf("mount %s: %v", fstype, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// A disk whose blocks cannot be read: a loop device over a file that was cut.
//
// Verifies: SR-084
func TestDiskWithErrors(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	image, at := dir+"/image", dir+"/mnt"
	big := strings.Repeat("0123456789abcdef", 256<<10) // 4 MiB
	tree := t.TempDir()
	for name, text := range map[string]string{"a-small": "abc", "big": big, "z-last": "xyz"} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mke2fs, err := exec.LookPath("mke2fs")
	if err != nil {
		mke2fs = "/sbin/mke2fs"
	}
	if text, err := exec.Command(mke2fs, "-q", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-d", tree, image, "16M").CombinedOutput(); err != nil {
		t.Skipf("mke2fs: %v: %s", err, text)
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	loop := attach(t, image)
	mount(t, loop, at, "ext4", unix.MS_RDONLY)
	// Where the large file's last megabyte lies is cut off.
	text, err := exec.Command("debugfs", "-R", "bmap big 700", image).Output()
	if err != nil {
		t.Skipf("debugfs: %v", err)
	}
	block := 0
	for _, c := range strings.TrimSpace(string(text)) {
		block = block*10 + int(c-'0')
	}
	if err := os.Truncate(image, int64(block)*4096); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		t.Logf("drop caches: %v", err)
	}
	said := map[string]error{}
	walk(t, at, fstree.Options{}, func(w *fstree.Walk, n *fstree.Node) {
		if n.Err != nil {
			said[strings.Clone(n.Path)] = n.Err
		}
		if n.Type == baseline.File && n.Err == nil {
			_, err := w.SHA256(1 << 30)
			said[strings.Clone(n.Path)] = err
		}
	})
	if !errors.Is(said["/big"], unix.EIO) || said["/a-small"] != nil && !errors.Is(said["/a-small"], unix.EIO) {
		t.Errorf("%v", said)
	}
	if len(said) < 3 {
		t.Errorf("only %v", said)
	}
}

// attach makes a loop device of a file and removes it at the end.
func attach(t *testing.T, image string) string {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		t.Skip(err)
	}
	name := "/dev/loop" + itoa(n)
	if _, err := os.Stat(name); err != nil {
		if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n)))); err != nil {
			t.Skip(err)
		}
	}
	device, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer backing.Close()
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_FD, int(backing.Fd())); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
			t.Error(err)
		}
		_ = device.Close()
	})
	return name
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// The walk goes by itself into no mount, into those that its caller wants, and never
// into the kernel's own or into a part of the tree that it is in. A file over which
// another is mounted is that other one.
//
// Verifies: SR-081 SR-084
func TestMountsAreBarriers(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	for _, dir := range []string{"a", "bind", "inner/sub", "proc", "tmp", "z"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"inner/file": "other", "z/covered": "released"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, "none", root+"/tmp", "tmpfs", 0)
	mount(t, "none", root+"/proc", "proc", 0)
	mount(t, root, root+"/bind", "", unix.MS_BIND)
	mount(t, root+"/inner", root+"/a", "", unix.MS_BIND)
	mount(t, root+"/inner/file", root+"/z/covered", "", unix.MS_BIND)
	if err := os.WriteFile(root+"/tmp/x", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	common := []string{`d "/inner"`, `f "/inner/file"`, `d "/inner/sub"`, `d "/proc" pseudo`}
	for _, tt := range []struct {
		enter bool
		want  []string
	}{
		{false, slices.Concat([]string{`d "/"`, `d "/a" mounted`, `d "/bind" loop`}, common, []string{`d "/tmp" mounted`, `d "/z"`, `f "/z/covered"`})},
		{true, slices.Concat([]string{`d "/"`, `d "/a" mounted`, `f "/a/file"`, `d "/a/sub"`, `d "/bind" loop`}, common, []string{`d "/tmp" mounted`, `f "/tmp/x"`, `d "/z"`, `f "/z/covered"`})},
	} {
		var got []string
		walk(t, root, fstree.Options{}, func(w *fstree.Walk, n *fstree.Node) {
			got = append(got, line(n))
			if tt.enter {
				w.Enter()
			}
			if n.Path == "/z/covered" {
				if sum, err := w.SHA256(100); err != nil || sum != sha256.Sum256([]byte("other")) {
					t.Errorf("%x, %v", sum, err)
				}
			}
		})
		if !slices.Equal(got, tt.want) {
			t.Errorf("enter %t: got\n%s\nwant\n%s", tt.enter, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
	// One that was broken off within a mount goes on there.
	got := walk(t, root, fstree.Options{From: "/a/file"}, nil)
	if len(got) == 0 || got[0] != "/a/sub" {
		t.Errorf("%q", got)
	}
}

// A folder and a file that may not be read are told, each in its place, and what
// stands beside them is read.
//
// Verifies: SR-084
func TestUnreadable(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"b/c", "d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"a", "d/x"} {
		if err := os.WriteFile(filepath.Join(root, file), []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/a", "/b"} {
		if err := os.Chmod(root+name, 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(root+"/b", 0o755) })
	var got []string
	var sum error
	asNobody(t, func() {
		walk(t, root, fstree.Options{}, func(w *fstree.Walk, n *fstree.Node) {
			got = append(got, line(n))
			if n.Path == "/a" {
				_, sum = w.SHA256(1)
			}
		})
	})
	if want := []string{`d "/"`, `f "/a"`, `d "/b"`, `d "/b" !`, `d "/d"`, `f "/d/x"`}; !slices.Equal(got, want) || !errors.Is(sum, unix.EACCES) {
		t.Errorf("%q, %v", got, sum)
	}
}

// asNobody does something without root's rights: on a thread that ends with it.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		defer close(done)
		if os.Geteuid() == 0 {
			runtime.LockOSThread()
			const nobody = 65534
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				done <- errno
				return
			}
		}
		do()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Look never waits and follows nothing.
//
// Verifies: SR-084
func TestLook(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(root+"/dir/sub", 0o755))
	check(os.WriteFile(root+"/dir/file", []byte("abc"), 0o644))
	check(os.Symlink("dir", root+"/link"))
	check(os.Symlink("self", root+"/self"))
	check(unix.Mkfifo(root+"/fifo", 0o644))
	check(os.WriteFile(root+"/sparse", nil, 0o644))
	check(os.Truncate(root+"/sparse", 1<<40))
	for _, tt := range []struct {
		path string
		kind baseline.Type
		err  error
	}{
		{root + "/dir/file", baseline.File, nil},
		{root + "/dir", baseline.Directory, nil},
		{"/", baseline.Directory, nil},
		{root + "/link", baseline.Symlink, nil},
		{root + "/self", baseline.Symlink, nil},
		{root + "/fifo", baseline.Pipe, nil},
		{"/dev/null", baseline.CharDevice, nil},
		{root + "/sparse", baseline.File, fstree.ErrTooLarge},
		{root + "/gone", 0, fstree.ErrVanished},
		{root + "/self/x", 0, unix.ENOTDIR},
		{root + "/link/sub/x", 0, unix.ELOOP},
		{root + "/gone/x", 0, fstree.ErrVanished},
		{root + "/link/file", 0, unix.ENOTDIR},
		{root + "/dir/file/x", 0, unix.ENOTDIR},
		{"/proc/self/root/etc", 0, unix.ELOOP},
		{strings.Repeat("/x", 5000), 0, fstree.ErrVanished},
	} {
		e, err := fstree.Look(tt.path)
		if !errors.Is(err, tt.err) || e.Type != tt.kind {
			t.Errorf("%.80q: %+v, %v; want type %q, %v", tt.path, e, err, tt.kind, tt.err)
		}
		if e.Path == root+"/dir/file" && e.SHA256 != sha256.Sum256([]byte("abc")) {
			t.Errorf("%+v", e)
		}
		if e.Type == baseline.Symlink && e.Link == "" {
			t.Errorf("%+v", e)
		}
	}
	for _, bad := range []string{"", "x", "/a\x00b"} {
		if _, err := fstree.Look(bad); err == nil {
			t.Errorf("%q is looked at", bad)
		}
	}
	before := open(t)
	for range 100 {
		_, _ = fstree.Look(root + "/dir/file")
		_, _ = fstree.Look(root + "/sparse")
		_, _ = fstree.Look(root + "/gone")
	}
	if after := open(t); after != before {
		t.Errorf("%d files are open, %d before", after, before)
	}
}
