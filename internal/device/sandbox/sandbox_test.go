package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary runs itself again as the process that gives up privileges,
// because nothing that is given up comes back.
func TestMain(m *testing.M) {
	switch os.Getenv("SANDBOX_ROLE") {
	case "drop":
		os.Exit(dropAndTell())
	case "tell":
		os.Exit(tell())
	}
	os.Exit(m.Run())
}

// told is what the second process says.
type told struct {
	Before, After Report
	Error         string
	Chroot        []string // what each thread got when it tried to change its root
	Executed      Report   // the report of a program that it started afterwards
}

func dropAndTell() int {
	const threads = 4
	var said told
	said.Before, _ = Read()
	start, done := make(chan bool), sync.WaitGroup{}
	said.Chroot = make([]string, threads)
	for i := range threads {
		ready := make(chan bool)
		done.Add(1)
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			ready <- true
			<-start
			said.Chroot[i] = errorText(unix.Chroot("/"))
		}()
		<-ready
	}
	after, err := Drop()
	said.After, said.Error = after, errorText(err)
	close(start)
	done.Wait()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{"SANDBOX_ROLE=tell"}
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &said.Executed)
	}
	if err != nil {
		said.Error += " then: " + err.Error()
	}
	return print(said)
}

func tell() int {
	r, err := Read()
	if err != nil {
		return 1
	}
	return print(r)
}

func print(v any) int {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		return 1
	}
	return 0
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// run starts the second process as root (in a user namespace of its own where
// the tests do not run as root) or as a user without any privilege.
func run(t *testing.T, attributes *syscall.SysProcAttr) told {
	t.Helper()
	// The program lies where every user may start it.
	dir, err := os.MkdirTemp("", "sandbox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "program")
	text, err := os.ReadFile(os.Args[0])
	for _, err := range []error{err, os.WriteFile(program, text, 0o755), os.Chmod(dir, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program)
	cmd.Env = []string{"SANDBOX_ROLE=drop"}
	cmd.SysProcAttr = attributes
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run the second process: %v: %s", err, stderr.String())
	}
	var said told
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("read what it said, %q: %v", out, err)
	}
	if said.Error != "" {
		t.Errorf("Drop: %s", said.Error)
	}
	return said
}

func asRoot() *syscall.SysProcAttr {
	if os.Geteuid() == 0 {
		return nil
	}
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

func asNobody() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// Verifies: SR-016
func TestRootGivesUpEverythingButItsName(t *testing.T) {
	said := run(t, asRoot())
	if said.Before.Effective == 0 {
		t.Fatalf("the second process held nothing to give up: %+v", said.Before)
	}
	after := said.After
	if held := after.Effective | after.Permitted | after.Inheritable | after.Ambient | after.Bounding; held != 0 {
		t.Errorf("still held: %v", held.Names())
	}
	if !after.NoNewPrivs || after.Dumpable || after.Threads < 5 {
		t.Errorf("flags over all threads: %+v", after)
	}
	if got := after.Privileges(); !slices.Equal(got, []string{"runs as root"}) {
		t.Errorf("privileges that are left: %q", got)
	}
	for i, got := range said.Chroot {
		if got != unix.EPERM.Error() {
			t.Errorf("thread %d changed its root: %q", i, got)
		}
	}
	if said.Executed.Effective|said.Executed.Permitted != 0 {
		t.Errorf("a program started afterwards holds %v", said.Executed.Effective.Names())
	}
}

// Verifies: SR-016
func TestUserWithoutPrivilegeLosesTheWaysToGainOne(t *testing.T) {
	said := run(t, asNobody())
	if said.Before.UID == 0 || said.Before.Effective != 0 {
		t.Fatalf("the second process began with privileges: %+v", said.Before)
	}
	if got := said.Before.Privileges(); len(got) == 0 {
		t.Error("before Drop nothing was reported, though a set-uid program could be run")
	}
	if got := said.After.Privileges(); len(got) != 0 {
		t.Errorf("privileges that are left: %q", got)
	}
	if !said.Executed.NoNewPrivs {
		t.Error("a program started afterwards may gain privileges")
	}
}

func TestStatusText(t *testing.T) {
	const good = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000001\nCapEff:\t0000000000200000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	r := Report{NoNewPrivs: true}
	if err := r.add(good); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal((r.Permitted|r.Effective).Names(), []string{"cap_chown", "cap_sys_admin"}) || !r.NoNewPrivs {
		t.Errorf("got %+v", r)
	}
	if err := r.add(strings.Replace(good, "NoNewPrivs:\t1", "NoNewPrivs:\t0", 1)); err != nil || r.NoNewPrivs {
		t.Errorf("one thread without no_new_privs: %v, %+v", err, r)
	}
	for name, bad := range map[string]string{
		"empty": "", "a line missing": strings.Replace(good, "CapAmb", "Cap", 1), "no number": strings.Replace(good, "CapEff:\t00", "CapEff:\tzz", 1),
	} {
		if err := (&Report{}).add(bad); err == nil {
			t.Errorf("%s: no error, so a missing line would read as no privilege", name)
		}
	}
}

func TestNames(t *testing.T) {
	if got := Set(1<<40 | 1<<41 | 1<<63).Names(); !slices.Equal(got, []string{"cap_checkpoint_restore", "cap_41", "cap_63"}) {
		t.Errorf("got %q", got)
	}
}

func TestProgramThatLinksCIsToldSo(t *testing.T) {
	if err := explain(syscall.ENOTSUP); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("got %v", err)
	}
	if err := explain(0); err != nil {
		t.Errorf("got %v", err)
	}
	if err := explain(syscall.EPERM); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
}
