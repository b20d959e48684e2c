package fstree_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ward/internal/device/fstree"
	"ward/internal/trust/baseline"
)

// line is a node in short.
func line(n *fstree.Node) string {
	s := fmt.Sprintf("%c %q", max(n.Type, '?'), n.Path)
	if n.Barrier != fstree.None {
		s += " " + n.Barrier.String()
	}
	if n.Err != nil {
		s += " !"
	}
	return s
}

// walk goes through a tree and gives each node to see, if any.
func walk(t testing.TB, root string, o fstree.Options, see func(*fstree.Walk, *fstree.Node)) []string {
	t.Helper()
	w, err := fstree.Open(root, o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var paths []string
	for {
		n, err := w.Next()
		if errors.Is(err, io.EOF) {
			return paths
		}
		if err != nil {
			t.Fatal(err)
		}
		if see != nil {
			see(w, n)
		}
		paths = append(paths, strings.Clone(n.Path))
	}
}

// differ says where two lists part.
func differ(got, want []string) string {
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			return fmt.Sprintf("at %d: got %.300q, want %.300q", i, got[min(i, len(got)):min(i+3, len(got))], want[min(i, len(want)):min(i+3, len(want))])
		}
	}
	return "the same"
}

// tree makes a tree of folders and files with names of all kinds.
func tree(t testing.TB, seed uint64, entries int) (root string, paths []string) {
	t.Helper()
	root = t.TempDir()
	r := rand.New(rand.NewPCG(seed, 7))
	names := []string{"a", "a b", "a-b", "a.b", "a0", "b", "\xff\xfe", "new\nline", "é", " ", "...", "\x01", "\\", "*", "A"}
	folders := []string{""}
	paths = []string{"/"}
	for range entries {
		name := names[r.IntN(len(names))] + strings.Repeat("x", r.IntN(3))
		path := folders[r.IntN(len(folders))] + "/" + name
		if _, err := os.Lstat(root + path); err == nil {
			continue
		}
		if r.IntN(3) == 0 {
			if err := os.Mkdir(root+path, 0o755); err != nil {
				t.Fatal(err)
			}
			folders = append(folders, path)
		} else if err := os.WriteFile(root+path, []byte(path), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	slices.SortFunc(paths, baseline.ComparePaths)
	return root, paths
}

// Verifies: SR-081
func TestWalkHasTheOrderOfABaseline(t *testing.T) {
	for seed := range uint64(6) {
		root, want := tree(t, seed, 300)
		got := walk(t, root, fstree.Options{}, func(w *fstree.Walk, n *fstree.Node) {
			if n.Err != nil {
				t.Errorf("%q: %v", n.Path, n.Err)
			}
			if n.Type == baseline.File {
				if sum, err := w.SHA256(1 << 20); err != nil || sum != sha256.Sum256([]byte(n.Path)) {
					t.Errorf("%q: %x, %v", n.Path, sum, err)
				}
			}
		})
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %s", seed, differ(got, want))
		}
	}
}

// A walk that was broken off at any path goes on behind it, also where that path
// is gone.
//
// Verifies: SR-082
func TestWalkGoesOnFromAnyPath(t *testing.T) {
	root, all := tree(t, 99, 150)
	for i, from := range all {
		if got := walk(t, root, fstree.Options{From: from}, nil); !slices.Equal(got, all[i+1:]) {
			t.Fatalf("from %q: %s", from, differ(got, all[i+1:]))
		}
		gone := strings.TrimSuffix(from, "/") + "/~gone/x"
		if info, err := os.Lstat(root + from); err == nil && !info.IsDir() {
			gone = from + "~"
		}
		want := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return baseline.ComparePaths(p, gone) <= 0 })
		if got := walk(t, root, fstree.Options{From: gone}, nil); !slices.Equal(got, want) {
			t.Fatalf("from %q: %s", gone, differ(got, want))
		}
	}
}

// Verifies: SR-081 SR-084
func TestWalkSaysWhatEachThingIs(t *testing.T) {
	root := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.WriteFile(root+"/file", []byte("abc"), 0o640))
	check(os.Chmod(root+"/file", 0o640))
	check(os.WriteFile(root+"/suid", nil, 0o755))
	check(unix.Chmod(root+"/suid", 0o4755))
	check(os.Symlink("/", root+"/loop"))
	check(os.Symlink("nowhere\nelse", root+"/dangling"))
	check(unix.Mkfifo(root+"/fifo", 0o600))
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	check(err)
	defer unix.Close(s)
	check(unix.Bind(s, &unix.SockaddrUnix{Name: root + "/socket"}))
	want := []string{`d "/"`, `l "/dangling"`, `p "/fifo"`, `f "/file"`, `l "/loop"`, `s "/socket"`, `f "/suid"`}
	if os.Geteuid() == 0 {
		check(unix.Mknod(root+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		check(unix.Mknod(root+"/block", unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))))
		check(os.Chown(root+"/suid", 12, 34))
		check(unix.Chmod(root+"/suid", 0o4755))
		check(unix.Setxattr(root+"/suid", "security.capability", capability, 0))
		want = []string{`d "/"`, `b "/block"`, `l "/dangling"`, `p "/fifo"`, `f "/file"`, `l "/loop"`, `c "/null"`, `s "/socket"`, `f "/suid"`}
	}
	var got []string
	walk(t, root, fstree.Options{}, func(w *fstree.Walk, n *fstree.Node) {
		got = append(got, line(n))
		if n.Type == baseline.File || n.Type == baseline.Directory {
			check(w.Attributes())
		} else if _, err := w.SHA256(1); !errors.Is(err, fstree.ErrIrregular) {
			t.Errorf("%s: the content is read: %v", n.Path, err)
		}
		switch n.Path {
		case "/file":
			if n.Mode != 0o640 || n.Size != 3 || n.UID != uint32(os.Geteuid()) {
				t.Errorf("%+v", n)
			}
		case "/dangling":
			if n.Link != "nowhere\nelse" {
				t.Errorf("%+v", n)
			}
		case "/block":
			if (n.Device != baseline.Device{Major: 259, Minor: 70000}) {
				t.Errorf("%+v", n)
			}
		case "/suid":
			if n.Mode != 0o4755 || os.Geteuid() == 0 && (n.UID != 12 || n.GID != 34 || len(n.Xattrs) == 0 || n.Xattrs[0].Name != "security.capability" || !slices.Equal(n.Xattrs[0].Value, capability)) {
				t.Errorf("%+v", n)
			}
		}
	})
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// capability is CAP_NET_BIND_SERVICE, permitted and effective (struct vfs_cap_data, revision 2).
var capability = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// A tree deeper than PATH_MAX is walked by steps from folder to folder, with few of
// them open, and to a bound.
//
// Verifies: SR-084
func TestDeepTree(t *testing.T) {
	root := t.TempDir()
	const depth = 2500
	name := strings.Repeat("n", 20)
	dir, err := unix.Open(root, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(dir, name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkdirat(dir, "z", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(dir, name, unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(dir)
		dir = next
	}
	_ = unix.Close(dir)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	var found, deep, most int
	got := walk(t, root, fstree.Options{}, func(_ *fstree.Walk, n *fstree.Node) {
		switch {
		case errors.Is(n.Err, fstree.ErrTooDeep):
			deep++
		case n.Err != nil:
			t.Fatalf("%d bytes of path: %v", len(n.Path), n.Err)
		default:
			found++
		}
		if len(n.Path)%64 == 0 {
			most = max(most, open(t))
		}
	})
	if deep == 0 || found < 4000 || found+deep != len(got) {
		t.Errorf("%d found, %d too deep, %d in all", found, deep, len(got))
	}
	if most > 60 {
		t.Errorf("%d files are open at once", most)
	}
	if !slices.IsSortedFunc(got, baseline.ComparePaths) {
		t.Error("out of order")
	}
}

// open counts this process's open files.
func open(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Of a folder with very many names few are held at once.
//
// Verifies: SR-081
func TestLargeFolderInBoundedMemory(t *testing.T) {
	const files = 200_000
	root, err := os.MkdirTemp("/dev/shm", "ward")
	if err != nil {
		root = t.TempDir()
	}
	defer os.RemoveAll(root)
	dir, err := unix.Open(root, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	for i := range files {
		if err := unix.Mknodat(dir, fmt.Sprintf("a-rather-long-name-of-a-file-%06d", i*7919%files), unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
	w, err := fstree.Open(root, fstree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, most, last := live(), int64(0), ""
	for i := 0; ; i++ {
		n, err := w.Next()
		if errors.Is(err, io.EOF) {
			if i != files+1 {
				t.Errorf("%d nodes", i)
			}
			break
		}
		if err != nil || n.Err != nil {
			t.Fatal(err, n.Err)
		}
		if baseline.ComparePaths(last, n.Path) >= 0 {
			t.Fatalf("%q behind %q", n.Path, last)
		}
		last = strings.Clone(n.Path)
		if i%10_000 == 0 {
			most = max(most, live()-before)
		}
	}
	t.Logf("%d names: %d KiB live at most", files, most>>10)
	if most > 4<<20 {
		t.Errorf("%d bytes are held for %d names", most, files)
	}
}

// A file costs no memory: what is read of it lies in buffers that stay.
//
// Verifies: SR-081
func TestNoAllocationForAFile(t *testing.T) {
	root := t.TempDir()
	const files = 400
	for i := range files {
		if err := os.WriteFile(fmt.Sprintf("%s/%04d", root, i), make([]byte, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w, err := fstree.Open(root, fstree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	step := func() {
		n, err := w.Next()
		if err != nil || n.Err != nil {
			t.Fatal(err, n.Err)
		}
		if n.Type == baseline.File {
			if _, err := w.SHA256(1 << 20); err != nil {
				t.Fatal(err)
			}
			if err := w.Attributes(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 50 {
		step()
	}
	if n := testing.AllocsPerRun(300, step); n != 0 {
		t.Errorf("%v allocations for a file", n)
	}
}

// Files that come and go while the tree is walked are told or passed over, in order.
//
// Verifies: SR-084
func TestTreeThatChangesUnderTheWalk(t *testing.T) {
	root, _ := tree(t, 5, 400)
	r := rand.New(rand.NewPCG(1, 2))
	var all []string
	_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, _ error) error {
		all = append(all, path)
		return nil
	})
	var last string
	walk(t, root, fstree.Options{}, func(w *fstree.Walk, n *fstree.Node) {
		if again := n.Err != nil && n.Type == baseline.Directory; !again && last != "" && baseline.ComparePaths(last, n.Path) >= 0 {
			t.Errorf("%q behind %q", n.Path, last)
		}
		last = strings.Clone(n.Path)
		path := all[1+r.IntN(len(all)-1)]
		switch r.IntN(3) {
		case 0:
			_ = os.RemoveAll(path)
		case 1:
			_ = os.Rename(path, all[r.IntN(len(all))]+"~")
		case 2:
			_ = os.Mkdir(path+"~", 0o755)
		}
		if n.Type == baseline.File && n.Err == nil {
			if _, err := w.SHA256(1 << 20); err != nil && !errors.Is(err, fstree.ErrVanished) && !errors.Is(err, fstree.ErrChanging) && !errors.Is(err, fstree.ErrIrregular) {
				t.Error(err)
			}
		}
	})
}

func TestPaceEndsTheWalk(t *testing.T) {
	root, all := tree(t, 3, 100)
	stop := errors.New("stop")
	left := 60
	w, err := fstree.Open(root, fstree.Options{Pace: func(int) error {
		if left--; left < 0 {
			return stop
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var last string
	for {
		n, err := w.Next()
		if err != nil {
			if !errors.Is(err, stop) {
				t.Error(err)
			}
			break
		}
		last = strings.Clone(n.Path)
	}
	i := slices.Index(all, last)
	if got := walk(t, root, fstree.Options{From: last}, nil); i < 0 || !slices.Equal(got, all[i+1:]) {
		t.Errorf("behind %q: %q", last, got)
	}
}
