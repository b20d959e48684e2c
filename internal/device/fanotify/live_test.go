package fanotify_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/device/fanotify"
)

// guard is how long a test waits for what must come.
const guard = 20 * time.Second

// inside is set in the process that has a mount namespace of its own.
const inside = "WARD_FANOTIFY_INSIDE"

// TestMain runs all tests in a mount namespace of their own, where there is the right
// to: the kernel takes it away with whatever they mounted.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdout, c.Stderr, c.Stdin = os.Stdout, os.Stderr, os.Stdin
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		os.Exit(ended.ExitCode())
	case err != nil:
		os.Exit(m.Run()) // no namespaces here: the tests that need them say so
	}
}

func needMounts(t *testing.T) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("only root can mark file systems, and mount some of its own")
	}
}

func mount(t *testing.T, source, point, kind string, flags uintptr, data string) {
	t.Helper()
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, point, kind, flags, data); err != nil {
		t.Fatalf("mount %s at %s: %v", kind, point, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(point, unix.MNT_DETACH) })
}

// ext4 mounts a fresh ext4 from an image file.
func ext4(t *testing.T, point string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 16<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", image)
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", "loop", image, point)
	t.Cleanup(func() { run(t, "umount", point) })
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// listener gathers what a watch tells about the paths beneath a folder.
type listener struct {
	t      *testing.T
	watch  *fanotify.Watch
	mu     sync.Mutex
	events []fanotify.Event
}

// listen opens a watch and follows it until the test ends.
func listen(t *testing.T) *listener {
	t.Helper()
	w, err := fanotify.Open()
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{t: t, watch: w}
	l.follow()
	return l
}

func (l *listener) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.watch.Follow(ctx, l.take) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("follow: %v", err)
		}
		if err := l.watch.Close(); err != nil {
			l.t.Errorf("close: %v", err)
		}
	})
}

func (l *listener) take(e fanotify.Event) {
	if e.File != nil {
		e.File.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) < 100_000 {
		l.events = append(l.events, e)
	}
}

// find looks for an event without waiting.
func (l *listener) find(fits func(fanotify.Event) bool) (fanotify.Event, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if fits(e) {
			return e, true
		}
	}
	return fanotify.Event{}, false
}

// wait waits for an event.
func (l *listener) wait(what string, fits func(fanotify.Event) bool) fanotify.Event {
	l.t.Helper()
	for end := time.Now().Add(guard); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if e, ok := l.find(fits); ok {
			return e
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var seen strings.Builder
	for _, e := range l.events[:min(len(l.events), 40)] {
		fmt.Fprintf(&seen, "\n\t%04x %q by %+v %v", e.What, e.Path, e.Origin, e.Err)
	}
	l.t.Fatalf("%s does not come; blind %+v; came %d:%s", what, l.watch.Blind(), len(l.events), seen.String())
	return fanotify.Event{}
}

func at(what fanotify.What, path string) func(fanotify.Event) bool {
	return func(e fanotify.Event) bool { return e.What&what != 0 && e.Path == path }
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Verifies: SR-086
func TestChangesAreToldWithPathAndWriter(t *testing.T) {
	needMounts(t)
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			if kind == "ext4" {
				ext4(t, dir)
			} else {
				mount(t, "x", dir, "tmpfs", 0, "")
			}
			for _, name := range []string{"a", "b"} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			l := listen(t)
			odd := filepath.Join(dir, "a", "line\nbreak \xff \\012")
			write(t, odd, "1")
			l.wait("the file's creation", at(fanotify.Created, odd))
			e := l.wait("the file's content", at(fanotify.Written, odd))
			exe, _ := os.Executable()
			if o := e.Origin; o.PID != os.Getpid() || o.Exe != exe || o.UID != 0 || o.Started <= 0 {
				t.Errorf("written by %+v, want pid %d, %s", o, os.Getpid(), exe)
			}
			if e.Volatile != (kind == "tmpfs") || e.Folder {
				t.Errorf("%+v", e)
			}
			moved := filepath.Join(dir, "b", "moved")
			if err := os.Rename(odd, moved); err != nil {
				t.Fatal(err)
			}
			l.wait("the old name", at(fanotify.Deleted, odd))
			l.wait("the new name", at(fanotify.Created, moved))
			if err := os.Chmod(moved, 0o4755); err != nil {
				t.Fatal(err)
			}
			l.wait("the mode", at(fanotify.Attributes, moved))
			if err := os.Chmod(filepath.Join(dir, "b"), 0o700); err != nil {
				t.Fatal(err)
			}
			if e := l.wait("the folder's mode", at(fanotify.Attributes, filepath.Join(dir, "b"))); !e.Folder {
				t.Errorf("%+v", e)
			}
			if err := os.RemoveAll(filepath.Join(dir, "b")); err != nil {
				t.Fatal(err)
			}
			l.wait("the end of the folder", at(fanotify.Deleted, filepath.Join(dir, "b")))
		})
	}
}

// A writer that ended before anybody looked has no name, and nobody else's.
func TestWriterThatHasEnded(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(t.TempDir(), "m")
	mount(t, "x", dir, "tmpfs", 0, "")
	w, err := fanotify.Open()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "f")
	run(t, "/bin/sh", "-c", "echo 1 > "+file)
	l := &listener{t: t, watch: w}
	l.follow()
	if e := l.wait("the file", at(fanotify.Written, file)); e.Origin.Exe != "" || e.Origin.UID != 0 || e.Origin.Cgroup != "" {
		t.Errorf("written by %+v", e.Origin)
	}
}

// Verifies: SR-086
func TestProgramsRunFromMemoryAreTold(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(t.TempDir(), "m")
	mount(t, "x", dir, "tmpfs", 0, "")
	l := listen(t)
	program := filepath.Join(dir, "program")
	run(t, "cp", "/bin/true", program)
	run(t, program)
	if e := l.wait("the program", at(fanotify.Executed, program)); !e.Volatile {
		t.Errorf("%+v", e)
	}
	// The interpreter of a script alone is told: the script is a file that it reads.
	script := filepath.Join(dir, "script")
	write(t, script, "exit 0\n")
	run(t, "/bin/sh", script)
	last := filepath.Join(dir, "last")
	run(t, "cp", "/bin/true", last)
	run(t, last)
	l.wait("the program behind the script", at(fanotify.Executed, last))
	if _, told := l.find(at(fanotify.Executed, script)); told {
		t.Error("the script is told as executed: docs/runtime.md says that it is not")
	}
}

func TestBindMountIsToldAtItsFileSystem(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	whole, part := filepath.Join(dir, "whole"), filepath.Join(dir, "p")
	mount(t, "x", whole, "tmpfs", 0, "")
	if err := os.Mkdir(filepath.Join(whole, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, filepath.Join(whole, "sub"), part, "", unix.MS_BIND, "")
	l := listen(t)
	write(t, filepath.Join(part, "f"), "1")
	l.wait("the file, at the mount that shows all of its file system", at(fanotify.Written, filepath.Join(whole, "sub", "f")))
}

// An overlay gives its files handles only with nfs_export; without, its content is
// told and the rest named as a blind spot.
func TestOverlay(t *testing.T) {
	needMounts(t)
	for _, row := range []struct {
		title, options string
		blind          bool
	}{{"with handles", ",nfs_export=on,index=on", false}, {"without", ",nfs_export=off", true}} {
		t.Run(row.title, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			mount(t, "x", dir, "tmpfs", 0, "")
			for _, name := range []string{"lower", "upper", "work"} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write(t, filepath.Join(dir, "lower", "f"), "0")
			over := filepath.Join(dir, "over")
			if err := os.Mkdir(over, 0o755); err != nil {
				t.Fatal(err)
			}
			data := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work%s", dir, dir, dir, row.options)
			if err := unix.Mount("o", over, "overlay", 0, data); err != nil {
				t.Skip("no overlay here: ", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(over, unix.MNT_DETACH) })
			l := listen(t)
			write(t, filepath.Join(over, "f"), "1")
			l.wait("the content", at(fanotify.Written|fanotify.Modified, filepath.Join(over, "f")))
			var found bool
			for _, b := range l.watch.Blind() {
				found = found || b.Mount == over && b.Type == "overlay" && strings.Contains(b.Reason, "only content and programs")
			}
			if found != row.blind {
				t.Errorf("blind %+v", l.watch.Blind())
			}
		})
	}
}

// Verifies: SR-086
func TestOverflowIsTold(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(t.TempDir(), "m")
	mount(t, "x", dir, "tmpfs", 0, "")
	w, err := fanotify.Open()
	if err != nil {
		t.Fatal(err)
	}
	const files = 20_000
	for i := range files {
		fd, err := unix.Open(filepath.Join(dir, fmt.Sprint(i)), unix.O_CREAT|unix.O_RDONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	l := &listener{t: t, watch: w}
	l.follow()
	l.wait("the overflow", func(e fanotify.Event) bool { return e.What == fanotify.Overflow })
	created := 0
	l.mu.Lock()
	for _, e := range l.events {
		if e.What&fanotify.Created != 0 && filepath.Dir(e.Path) == dir {
			created++
		}
	}
	l.mu.Unlock()
	if created == 0 || created >= files {
		t.Errorf("%d of %d creations were told beside the overflow", created, files)
	}
	t.Logf("%d of %d creations told, then the overflow", created, files)
	after := filepath.Join(dir, "after")
	write(t, after, "1")
	l.wait("a change behind the overflow", at(fanotify.Written, after))
}

// What is written through memory is not told when it is written.
func TestMappedWritesAreSilentUntilTheyEnd(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(t.TempDir(), "m")
	mount(t, "x", dir, "tmpfs", 0, "")
	file := filepath.Join(dir, "f")
	write(t, file, strings.Repeat("a", 4096))
	l := listen(t)
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd) // the mapping holds the file open for writing
	mem[0] = 'b'
	mark := filepath.Join(dir, "mark")
	write(t, mark, "1")
	l.wait("the mark", at(fanotify.Written, mark))
	if e, told := l.find(at(fanotify.Written|fanotify.Modified, file)); told {
		t.Errorf("told while it is mapped: %+v", e)
	}
	if err := unix.Munmap(mem); err != nil {
		t.Fatal(err)
	}
	l.wait("the end of the mapping", at(fanotify.Written, file))
}

// A file system that is mounted later is marked while there is the right to, else
// named. This test gives up the process's capabilities, so it runs alone in a
// process of its own.
//
// Verifies: SR-086
func TestWithoutPrivilegesEventsGoOnAndNewMountsAreBlind(t *testing.T) {
	needMounts(t)
	const alone = "WARD_FANOTIFY_ALONE"
	if dir := os.Getenv(alone); dir != "" {
		withoutPrivileges(t, dir)
		return
	}
	dir := filepath.Join(t.TempDir(), "m")
	mount(t, "x", dir, "tmpfs", 0, "")
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	c.Env = append(os.Environ(), alone+"="+dir)
	ready := filepath.Join(dir, "ready")
	out := &strings.Builder{}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(guard); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(ready); err == nil || time.Now().After(end) {
			break
		}
	}
	late := filepath.Join(t.TempDir(), "late")
	mount(t, "y", late, "tmpfs", 0, "")
	write(t, filepath.Join(dir, "mounted"), late)
	if err := c.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func withoutPrivileges(t *testing.T, dir string) {
	w, err := fanotify.Open()
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{t: t, watch: w}
	keep := uint32(1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_SYS_PTRACE)
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, ptr(&head), ptr(&data[0]), 0); errno != 0 {
		t.Fatal("give up capabilities: ", errno)
	}
	l.follow()
	write(t, filepath.Join(dir, "ready"), "1")
	e := l.wait("a change by another process", at(fanotify.Written, filepath.Join(dir, "mounted")))
	if e.Origin.PID != os.Getppid() || e.Origin.Exe == "" {
		t.Errorf("written by %+v, want pid %d", e.Origin, os.Getppid())
	}
	late, err := os.ReadFile(filepath.Join(dir, "mounted"))
	if err != nil {
		t.Fatal(err)
	}
	l.wait("the new mount as a blind spot", func(e fanotify.Event) bool {
		return e.What == fanotify.Mounts && slices.ContainsFunc(w.Blind(), func(b fanotify.Blind) bool {
			return b.Mount == string(late) && b.Type == "tmpfs" && strings.Contains(b.Reason, "given up the privilege")
		})
	})
}

func TestLateMountIsMarkedWithPrivilege(t *testing.T) {
	needMounts(t)
	l := listen(t)
	late := filepath.Join(t.TempDir(), "late")
	mount(t, "x", late, "tmpfs", 0, "")
	file := filepath.Join(late, "f")
	for end := time.Now().Add(guard); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		write(t, file, "1")
		if _, ok := l.find(at(fanotify.Written, file)); ok {
			return
		}
	}
	t.Fatalf("nothing of %s is told; blind %+v", late, l.watch.Blind())
}

// A watch does not keep what it watches from being unmounted.
func TestNothingIsHeldMounted(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(t.TempDir(), "m")
	mount(t, "x", dir, "tmpfs", 0, "")
	l := listen(t)
	file := filepath.Join(dir, "f")
	write(t, file, "1")
	l.wait("the file", at(fanotify.Written, file))
	var err error
	for end := time.Now().Add(guard); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = unix.Unmount(dir, 0); err == nil {
			return
		}
	}
	t.Error("unmount: ", err)
}

// Follow ends at once when it is asked to, and may be called again.
func TestFollowEndsAndBeginsAgain(t *testing.T) {
	needMounts(t)
	w, err := fanotify.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- w.Follow(ctx, func(e fanotify.Event) {
				if e.File != nil {
					e.File.Close()
				}
			})
		}()
		time.Sleep(10 * time.Millisecond)
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(guard):
			t.Fatal("it goes on")
		}
	}
}

// A group that cannot be read any more is told, and the following ends.
func TestDeadGroups(t *testing.T) {
	needMounts(t)
	w, err := fanotify.Open()
	if err != nil {
		t.Fatal(err)
	}
	fanotify.Spoil(w)
	var told []fanotify.Event
	err = w.Follow(t.Context(), func(e fanotify.Event) { told = append(told, e) })
	dead := 0
	for _, e := range told {
		if e.Dead {
			dead++
		}
	}
	if err == nil || dead != 2 || len(told) > 5 {
		t.Errorf("%v, told %+v", err, told)
	}
}

func TestWithoutPrivilegeNothingOpens(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("this process may open it")
	}
	if w, err := fanotify.Open(); err == nil || !strings.Contains(err.Error(), "CAP_SYS_ADMIN") {
		t.Errorf("%v, %v", w, err)
	}
}

// TestCapture writes the golden bytes anew: WARD_CAPTURE=1 go test -run TestCapture.
func TestCapture(t *testing.T) {
	needMounts(t)
	if os.Getenv("WARD_CAPTURE") == "" {
		t.Skip("the bytes under testdata are written on request alone")
	}
	dir := filepath.Join(t.TempDir(), "m")
	capture := func(name string, execs bool, act func()) {
		w, err := fanotify.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		fanotify.Capture(w, execs)
		act()
		b := fanotify.Capture(w, execs)
		n := int(binary.NativeEndian.Uint32(b))
		text := fmt.Sprintf("# %s, as Linux gave it\n", name)
		for i := 0; i < n; i += 16 {
			text += fmt.Sprintf("% x\n", b[i:min(i+16, n)])
		}
		write(t, filepath.Join("testdata", name+".hex"), text)
	}
	tmp, disk := filepath.Join(dir, "tmp"), filepath.Join(dir, "disk")
	mount(t, "x", tmp, "tmpfs", 0, "")
	ext4(t, disk)
	run(t, "cp", "/bin/true", filepath.Join(tmp, "true"))
	sub := filepath.Join(disk, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	capture("tmpfs-create", false, func() {
		if err := unix.Mknod(filepath.Join(tmp, "a\nb"), unix.S_IFIFO|0o600, 0); err != nil {
			t.Fatal(err)
		}
	})
	capture("ext4-attrib", false, func() { _ = os.Chmod(sub, 0o700) })
	capture("exec", true, func() { run(t, filepath.Join(tmp, "true")) })
}
