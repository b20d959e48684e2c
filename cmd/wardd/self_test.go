package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/agent/localapi"
	"ward/internal/trust/finding"
)

// running is a wardd of its own program file.
type running struct {
	t       *testing.T
	dir     string
	program string
	cmd     *exec.Cmd
	log     bytes.Buffer
	client  *localapi.Client
}

// alone starts wardd from a copy of a program, on a device with nothing.
func alone(t *testing.T, wardd string) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "ward")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &running{t: t, dir: dir, program: filepath.Join(dir, "wardd"), client: localapi.NewClient(filepath.Join(dir, "s"))}
	text, err := os.ReadFile(wardd)
	for _, err := range []error{
		err, os.WriteFile(r.program, text, 0o755), os.WriteFile(r.file("wardd.toml"), fmt.Appendf(nil, bareConfig, dir), 0o644), os.Mkdir(r.file("state"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *running) file(name string) string { return filepath.Join(r.dir, name) }

func (r *running) start() {
	r.t.Helper()
	r.cmd = exec.Command(r.program, "-config", r.file("wardd.toml"))
	r.cmd.Stderr = &r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.kill)
	r.until("it judged its boot", func(s localapi.Status) bool { return s.Verdict.Tier == "none" && s.Verdict.Reason == "" })
}

// kill ends it at once; a second time it does nothing.
func (r *running) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func (r *running) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) until(what string, ok func(localapi.Status) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var seen localapi.Status
	for {
		s, err := r.client.Status(ctx)
		if err == nil {
			if seen = s; ok(s) {
				return
			}
		}
		if ctx.Err() != nil {
			r.t.Fatalf("not told: %s; %v, findings %+v, incidents %+v\n%s", what, err, seen.Findings, seen.Incidents, &r.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// holds says whether a condition or an incident is told with a detail.
func holds(s localapi.Status, code finding.Code, detail string) bool {
	for _, c := range s.Findings {
		if c.Code == code && strings.Contains(c.Detail, detail) {
			return true
		}
	}
	for _, f := range s.Incidents {
		if f.Code == code && strings.Contains(f.Detail, detail) {
			return true
		}
	}
	return false
}

// What is done to a real wardd is told by it.
//
// Verifies: SR-108
func TestDaemonTellsWhatIsDoneToIt(t *testing.T) {
	wardd := filepath.Join(build(t), "wardd")

	t.Run("halted", func(t *testing.T) {
		t.Parallel()
		r := alone(t, wardd)
		r.start()
		r.signal(syscall.SIGSTOP)
		time.Sleep(11 * time.Second) // longer than a busy device explains
		r.signal(syscall.SIGCONT)
		r.until("that it was halted", func(s localapi.Status) bool { return holds(s, finding.SelfStarved, "it was halted by a signal for ") })
	})

	t.Run("replaced", func(t *testing.T) {
		t.Parallel()
		r := alone(t, wardd)
		r.start()
		if err := os.WriteFile(r.file("other"), []byte("another"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(r.file("other"), r.program); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(r.file("wardd.toml"), []byte("version = 2\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		r.signal(syscall.SIGCONT) // it looks at once, and not in some minutes
		r.until("that its program was replaced", func(s localapi.Status) bool {
			return holds(s, finding.SelfExecutable, "another lies in its place") && holds(s, finding.SelfConfig, "changed since the start")
		})
	})

	t.Run("traced", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("wardd is not dumpable: only root can trace it")
		}
		r := alone(t, wardd)
		r.start()
		asked, done := make(chan func() error), make(chan error)
		go func() { // a tracer is a thread; one that ended would take the children that it started with it
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for f := range asked {
				done <- f()
			}
		}()
		defer close(asked)
		do := func(what string, f func() error) {
			t.Helper()
			asked <- f
			if err := <-done; err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		pid := r.cmd.Process.Pid
		do("trace it", func() error { return unix.PtraceSeize(pid) })
		r.until("that it is traced", func(s localapi.Status) bool { return holds(s, finding.SelfTraced, "") })
		do("write to its code", func() error {
			if err := unix.PtraceInterrupt(pid); err != nil {
				return err
			}
			if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
				return err
			}
			at := textOf(t, pid)
			word := make([]byte, 8)
			if _, err := unix.PtracePeekText(pid, at, word); err != nil {
				return err
			}
			binary.NativeEndian.PutUint64(word, binary.NativeEndian.Uint64(word)) // what stands there
			if _, err := unix.PtracePokeText(pid, at, word); err != nil {
				return err
			}
			return unix.PtraceDetach(pid)
		})
		r.until("that its code was written to, and that it is not traced", func(s localapi.Status) bool {
			return holds(s, finding.SelfText, "KiB are not the file's") && !holds(s, finding.SelfTraced, "")
		})
	})

	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		r := alone(t, wardd)
		r.start()
		r.until("it was not killed yet", func(s localapi.Status) bool { return !holds(s, finding.SelfKilled, "") })
		r.kill()
		r.start()
		r.until("that it was killed", func(s localapi.Status) bool { return holds(s, finding.SelfKilled, "before session 2") })
		r.signal(syscall.SIGTERM)
		_ = r.cmd.Wait()
		r.start()
		r.until("of no second death", func(s localapi.Status) bool {
			return s.Link.Session == 3 && !holds(s, finding.SelfKilled, "before session 3")
		})
	})
}

// textOf is where the code of a process begins.
func textOf(t *testing.T, pid int) uintptr {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, " r-xp ") {
			var at uintptr
			if _, err := fmt.Sscanf(line, "%x-", &at); err != nil {
				t.Fatal(err)
			}
			return at
		}
	}
	t.Fatal("no code is mapped")
	return 0
}
