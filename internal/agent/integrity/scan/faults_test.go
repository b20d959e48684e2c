package scan_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/agent/integrity/scan"
	"ward/internal/device/bootclock"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

// Faults of a disk and of a tree: each is told, none is taken for a pass, and none
// keeps the rest from being looked at.
//
// Verifies: SR-084
func TestBadInput(t *testing.T) {
	files := map[string]string{"a": "a", "b/big": strings.Repeat("x", 512<<10), "b/c": "c", "z": "z"}
	for _, tt := range []struct {
		name string
		edit func(t *testing.T, s *scene)
		want []string
	}{
		{"an I/O error in the middle of a file", func(_ *testing.T, s *scene) {
			s.config = func(c *scan.Config) {
				c.Read = func(fd int, b []byte, at int64) (int, error) {
					if at > 0 {
						return 0, unix.EIO
					}
					return unix.Pread(fd, b, at)
				}
			}
		}, []string{"incident file.unreadable /b/big", "raised files.differ files", "scan scheduled differs"}},
		{"a file that is written to all the time", func(_ *testing.T, s *scene) {
			s.config = func(c *scan.Config) {
				turn := byte(0)
				c.Read = func(fd int, b []byte, at int64) (int, error) {
					if at == 128<<10 {
						turn++
						f, err := os.OpenFile(s.root+"/b/big", os.O_WRONLY, 0)
						if err != nil {
							return 0, err
						}
						defer f.Close()
						if _, err := f.WriteAt([]byte{turn}, 0); err != nil {
							return 0, err
						}
						stamp := unix.NsecToTimespec(int64(turn))
						_ = unix.UtimesNanoAt(unix.AT_FDCWD, s.root+"/b/big", []unix.Timespec{stamp, stamp}, 0)
					}
					return unix.Pread(fd, b, at)
				}
			}
		}, []string{"incident file.unreadable /b/big", "raised files.differ files", "scan scheduled differs"}},
		{"a sparse file of a terabyte", func(t *testing.T, s *scene) {
			if err := os.Truncate(s.root+"/b/big", 1<<40); err != nil {
				t.Skip(err)
			}
			s.config = func(c *scan.Config) {
				c.Read = func(fd int, b []byte, at int64) (int, error) {
					if len(b) > 1<<10 {
						panic("a file of another size is read")
					}
					return unix.Pread(fd, b, at)
				}
			}
		}, []string{"incident file.changed /b/big", "raised files.differ files", "scan scheduled differs"}},
		{"a new sparse file of a terabyte", func(t *testing.T, s *scene) {
			plant(t, s.root, map[string]string{"b/huge": ""})
			if err := os.Truncate(s.root+"/b/huge", 1<<40); err != nil {
				t.Skip(err)
			}
		}, []string{"incident file.new /b/huge", "raised files.differ files", "scan scheduled differs"}},
		{"pipes in the place of files", func(t *testing.T, s *scene) {
			for _, name := range []string{"/a", "/b/big"} {
				if err := errors.Join(os.Remove(s.root+name), unix.Mkfifo(s.root+name, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
		}, []string{"incident file.changed /a", "incident file.changed /b/big", "raised files.differ files", "scan scheduled differs"}},
		{"a link in the place of a folder", func(t *testing.T, s *scene) {
			if err := errors.Join(os.Rename(s.root+"/b", s.root+"/y"), os.Symlink("y", s.root+"/b")); err != nil {
				t.Fatal(err)
			}
		}, []string{"incident file.changed /b", "incident file.missing /b/big", "incident file.missing /b/c", "incident file.new /y", "raised files.differ files", "scan scheduled differs"}},
		{"links in a loop", func(t *testing.T, s *scene) {
			if err := errors.Join(os.Symlink(".", s.root+"/b/self"), os.Symlink("../b", s.root+"/b/up")); err != nil {
				t.Fatal(err)
			}
		}, []string{"incident file.new /b/self", "incident file.new /b/up", "raised files.differ files", "scan scheduled differs"}},
		{"no root", func(_ *testing.T, s *scene) { s.root += "/none" }, []string{"raised scan.interrupted scan", "scan scheduled failed"}},
		{"a baseline that is cut while the daemon runs", func(t *testing.T, s *scene) {
			s.files = cut(t, s.root)
		}, []string{"raised scan.interrupted scan", "scan scheduled failed"}},
		{"a file system that is mounted over a folder of the release", func(_ *testing.T, s *scene) {
			mount(s.t, "none", s.root+"/b", "tmpfs")
		}, []string{"incident file.missing /b/big", "incident file.missing /b/c", "raised files.differ files", "scan scheduled differs"}},
		{"proc mounted over a folder of the release", func(_ *testing.T, s *scene) {
			mount(s.t, "none", s.root+"/b", "proc")
		}, []string{"scan scheduled clean"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, files, func(s *scene) { tt.edit(t, s) }, func(s *scene) {
				pass(9 * time.Minute)
				s.want(tt.want...)
			})
		})
	}
}

func mount(t *testing.T, source, target, fstype string) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, 0, ""); err != nil {
		t.Skipf("mount %s: %v", fstype, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// cut is a baseline whose file is damaged behind the index's back.
func cut(t *testing.T, root string) *baseline.Index {
	b := text(t, root, nil)
	digest, err := baseline.Digest(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(b)
	x, err := baseline.LoadIndex(bytes.NewReader(kept), int64(len(kept)), digest)
	if err != nil {
		t.Fatal(err)
	}
	kept[len(kept)-3] ^= 1
	return x
}

// A folder that may not be read is told once, and nothing in it as missing.
//
// Verifies: SR-084
func TestFolderThatCannotBeRead(t *testing.T) {
	root := t.TempDir()
	plant(t, root, map[string]string{"a": "", "b/c/d": "", "b/e": "", "z": ""})
	want := text(t, root, nil)
	if err := errors.Join(os.Chmod(filepath.Dir(root), 0o755), os.Chmod(root+"/b", 0o711), os.Chmod(root+"/b/c", 0)); err != nil {
		t.Fatal(err)
	}
	done := make(chan []string, 1)
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with its rights
		if os.Geteuid() == 0 {
			const nobody = 65534
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				done <- []string{errno.Error()}
				return
			}
		}
		r, err := baseline.NewReader(bytes.NewReader(want))
		var said []string
		if err == nil {
			p := scan.Pass{Root: root, Want: r}
			p.Tell = func(d diff.Difference, _ bool) { said = append(said, d.Kind.String()+" "+strings.Clone(d.Path)) }
			err = p.Run()
		}
		if err != nil {
			said = append(said, err.Error())
		}
		done <- said
	}()
	if got := <-done; !slices.Equal(got, []string{"changed /b", "unreadable /b"}) {
		t.Errorf("%q", got)
	}
}

// The memory of a scan is the same for a tree of 200,000 files.
//
// Verifies: SR-081
func TestMemoryOfALargeTree(t *testing.T) {
	const files = 200_000
	root, err := os.MkdirTemp("/dev/shm", "ward")
	if err != nil {
		root = t.TempDir()
	}
	defer os.RemoveAll(root)
	var out bytes.Buffer
	w, err := baseline.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	var info unix.Stat_t
	add := func(path string, kind baseline.Type, sum [32]byte) {
		if err == nil {
			err = unix.Lstat(root+path, &info)
		}
		if err == nil {
			err = w.Write(baseline.Entry{Path: path, Type: kind, Mode: uint16(info.Mode & 0o7777), UID: info.Uid, GID: info.Gid, SHA256: sum})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	sum, _ := baseline.Digest(strings.NewReader(""))
	add("/", baseline.Directory, [32]byte{})
	for i := range files {
		if i%1000 == 0 {
			dir := fmt.Sprintf("/folder%03d", i/1000)
			if err := os.Mkdir(root+dir, 0o755); err != nil {
				t.Fatal(err)
			}
			add(dir, baseline.Directory, [32]byte{})
		}
		path := fmt.Sprintf("/folder%03d/a-file-of-some-package-%06d", i/1000, i)
		if err := unix.Mknod(root+path, unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
		add(path, baseline.File, sum)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	r, err := baseline.NewReader(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	before, most, turn := live(), int64(0), 0
	p := scan.Pass{Root: root, Want: r, Tell: func(d diff.Difference, _ bool) { t.Errorf("%+v", d) }}
	p.Step = func(string, *scan.Counts, []scan.Mount) {
		if turn++; turn%20_000 == 0 {
			most = max(most, live()-before)
		}
	}
	if err := p.Run(); err != nil || p.Counts.Files != files {
		t.Errorf("%+v, %v", p.Counts, err)
	}
	t.Logf("%d KiB live at most", most>>10)
	if most > 4<<20 {
		t.Errorf("%d bytes are held", most)
	}
	runtime.KeepAlive(out)
}

// campaign, in the environment, makes this program one scan that is to be killed.
const campaign = "WARD_SCAN_CAMPAIGN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(campaign); dir != "" {
		killed(dir)
		return
	}
	os.Exit(m.Run())
}

// killed scans dir/root and writes each event as a line, with the sync of a journal.
func killed(dir string) {
	b, err := os.ReadFile(dir + "/baseline")
	if err != nil {
		panic(err)
	}
	digest, err := baseline.Digest(bytes.NewReader(b))
	if err != nil {
		panic(err)
	}
	files, err := baseline.LoadIndex(bytes.NewReader(b), int64(len(b)), digest)
	if err != nil {
		panic(err)
	}
	told, err := os.OpenFile(dir+"/told", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	seen := map[string]bool{}
	for lines := bufio.NewScanner(told); lines.Scan(); {
		seen[lines.Text()] = true
	}
	policy := watch.Default()
	policy.Scan.CPUPercent, policy.Scan.ReadKiBPerSecond = 100, 2048
	ctx, cancel := context.WithCancel(context.Background())
	s := scan.New(scan.Config{
		Root: dir + "/root", State: dir + "/scan.json", Boot: "one", Keep: time.Millisecond,
		Now:   bootclock.Now,
		Files: func() *baseline.Index { return files }, Policy: func() watch.Policy { return policy },
		First: func(_ context.Context, subject string, f finding.Finding) bool {
			return !seen["incident "+string(f.Code)+" "+subject]
		},
		Recorder: recorder(func(e event.Event) error {
			if _, err := io.WriteString(told, say(e)+"\n"); err != nil {
				return err
			}
			if e.Type == event.IntegrityScan {
				cancel()
			}
			return nil
		}),
	})
	s.Ask(false)
	if err := s.Run(ctx); err != nil {
		panic(err)
	}
}

type recorder func(event.Event) error

func (r recorder) Record(_ context.Context, e event.Event) error { return r(e) }

// A scan that is killed at any moment goes on, tells each difference, and each once.
//
// Verifies: SR-082
func TestKills(t *testing.T) {
	dir := t.TempDir()
	files, want := map[string]string{}, []string{}
	for i := range 300 {
		files[fmt.Sprintf("d%02d/f%03d", i%17, i)] = strings.Repeat("x", 8<<10)
	}
	plant(t, dir+"/root", files)
	if err := os.WriteFile(dir+"/baseline", text(t, dir+"/root", nil), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 300; i += 5 {
		name := fmt.Sprintf("d%02d/f%03d", i%17, i)
		plant(t, dir+"/root", map[string]string{name: strings.Repeat("y", 8<<10)})
		want = append(want, "incident file.changed /"+name)
	}
	r := rand.New(rand.NewPCG(3, 4))
	kills, deadline := 0, time.Now().Add(2*time.Minute)
	for {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), campaign+"="+dir)
		var text bytes.Buffer
		cmd.Stderr = &text
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(30+r.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if err == nil {
			break
		}
		if text.Len() > 0 {
			t.Fatalf("%v: %s", err, text.String())
		}
		if kills++; time.Now().After(deadline) {
			t.Fatal("the scan makes no way between its kills")
		}
	}
	b, err := os.ReadFile(dir + "/told")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(b)), "\n")
	ends := got[max(len(got)-2, 0):]
	if !slices.Equal(ends, []string{"raised files.differ files", "scan asked differs"}) {
		t.Errorf("at the end: %q", ends)
	}
	got = got[:len(got)-len(ends)]
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("told %d, want %d: %q", len(got), len(want), got)
	}
	t.Logf("%d kills", kills)
}
