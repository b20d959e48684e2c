package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
	case "filter":
		os.Exit(filterAndTell())
	}
	os.Exit(m.Run())
}

// told is what the second process says.
type told struct {
	Before, After Report
	Error         string
	Chroot        []string // what each thread got when it tried to change its root
	Exec          string   // what it got when it tried to start a program
	Calls         map[string]string
	Read          string // what it read of the file that is root's alone, or why not
	Parent        string // what its parent, which is root's, executes, or why it is not told
	Watch         string // what it got when it asked to permit or deny what others open
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
	after, err := Drop(DACReadSearch, SysPtrace)
	said.After, said.Error = after, errorText(err)
	close(start)
	done.Wait()
	said.Exec = errorText(exec.Command(os.Args[0]).Run())
	said.Read = textOr(os.ReadFile(filepath.Join(filepath.Dir(os.Args[0]), "secret")))
	said.Parent = textOr(os.Readlink(fmt.Sprintf("/proc/%d/exe", os.Getppid())))
	_, err = unix.FanotifyInit(unix.FAN_CLASS_CONTENT, 0)
	said.Watch = errorText(err)
	return print(said)
}

func textOr[T ~string | ~[]byte](v T, err error) string {
	if err != nil {
		return err.Error()
	}
	return string(v)
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
func run(t *testing.T, role string, attributes *syscall.SysProcAttr) told {
	t.Helper()
	// The program lies where every user may start it.
	dir, err := os.MkdirTemp("", "sandbox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "program")
	text, err := os.ReadFile(os.Args[0])
	for _, err := range []error{err, os.WriteFile(program, text, 0o755), os.WriteFile(filepath.Join(dir, "secret"), []byte("root's"), 0o600), os.Chmod(dir, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program)
	cmd.Env = []string{"SANDBOX_ROLE=" + role}
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
		t.Errorf("%s: %s", role, said.Error)
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

// asNobody starts it as a user with the given capabilities, as wardd's unit does.
// Only root can give one.
func asNobody(t *testing.T, with ...Capability) *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		if len(with) > 0 {
			t.Skip("only root can give a capability")
		}
		return nil
	}
	a := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	for _, c := range with {
		a.AmbientCaps = append(a.AmbientCaps, uintptr(c))
	}
	return a
}

// refused is what the process gets for what it gave up.
var refused = unix.EPERM.Error()

// checkFlags checks what holds for every process behind Drop.
func checkFlags(t *testing.T, said told) {
	t.Helper()
	after := said.After
	if !after.NoNewPrivs || !after.Filtered || after.Dumpable || after.Threads < 5 {
		t.Errorf("flags over all threads: %+v", after)
	}
	for i, got := range said.Chroot {
		if got != refused {
			t.Errorf("thread %d changed its root: %q", i, got)
		}
	}
	if !strings.HasSuffix(said.Exec, refused) {
		t.Errorf("it started a program: %q", said.Exec)
	}
	if said.Watch != refused {
		t.Errorf("it may permit and deny what others open: %q", said.Watch)
	}
}

// Verifies: SR-016 SR-105
func TestRootGivesUpAllButWhatIsKeptAndItsName(t *testing.T) {
	said := run(t, "drop", asRoot())
	if said.Before.Effective == 0 || len(said.Before.Privileges()) == 0 {
		t.Fatalf("the second process held nothing to give up: %+v", said.Before)
	}
	checkFlags(t, said)
	after, kept := said.After, setOf([]Capability{DACReadSearch, SysPtrace})
	if held := after.Effective | after.Permitted | after.Bounding; held != kept || after.Inheritable|after.Ambient != 0 {
		t.Errorf("held: %v, inheritable %v, ambient %v", held.Names(), after.Inheritable.Names(), after.Ambient.Names())
	}
	if got := after.Privileges(DACReadSearch, SysPtrace); !slices.Equal(got, []string{"runs as root"}) {
		t.Errorf("privileges that are left: %q", got)
	}
	if got := after.Privileges(SysPtrace); !slices.Equal(got, []string{"runs as root", "holds cap_dac_read_search"}) {
		t.Errorf("what nobody expects to be held is told as %q", got)
	}
}

// Verifies: SR-016 SR-105
func TestUserWithoutPrivilegeLosesTheWaysToGainOne(t *testing.T) {
	said := run(t, "drop", asNobody(t))
	if said.Before.UID == 0 || said.Before.Effective != 0 {
		t.Fatalf("the second process began with privileges: %+v", said.Before)
	}
	if got := said.Before.Privileges(); len(got) == 0 {
		t.Error("before Drop nothing was reported, though a set-uid program could be run")
	}
	checkFlags(t, said)
	if got := said.After.Privileges(); len(got) != 0 {
		t.Errorf("privileges that are left: %q", got)
	}
	if got := said.After.Missing(DACReadSearch, SysPtrace).Names(); !slices.Equal(got, []string{"cap_dac_read_search", "cap_sys_ptrace"}) {
		t.Errorf("missing: %q", got)
	}
}

// The daemon as its unit starts it: a user of its own with four capabilities, of
// which two stay and do what they are kept for.
//
// Verifies: SR-105
func TestDaemonKeepsWhatReadsAndLosesWhatActs(t *testing.T) {
	four := []Capability{unix.CAP_SYS_ADMIN, DACReadSearch, SysPtrace, unix.CAP_AUDIT_READ}
	said := run(t, "drop", asNobody(t, four...))
	if said.Before.Effective != setOf(four) || said.Before.Ambient != setOf(four) {
		t.Fatalf("the second process began with %v", said.Before.Effective.Names())
	}
	checkFlags(t, said)
	after, kept := said.After, setOf([]Capability{DACReadSearch, SysPtrace})
	if after.Effective != kept || after.Permitted != kept || after.Inheritable|after.Ambient != 0 {
		t.Errorf("held: %v, permitted %v, inheritable %v, ambient %v", after.Effective.Names(), after.Permitted.Names(), after.Inheritable.Names(), after.Ambient.Names())
	}
	if got := after.Privileges(DACReadSearch, SysPtrace); len(got) != 0 {
		t.Errorf("privileges that are left: %q", got)
	}
	if missing := after.Missing(DACReadSearch, SysPtrace); missing != 0 {
		t.Errorf("missing: %q", missing.Names())
	}
	if said.Read != "root's" {
		t.Errorf("a file that is root's alone: %q", said.Read)
	}
	if !strings.HasPrefix(said.Parent, "/") {
		t.Errorf("what its parent executes: %q", said.Parent)
	}
}

func TestStatusText(t *testing.T) {
	const good = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000001\nCapEff:\t0000000000200000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	r := Report{NoNewPrivs: true, Filtered: true}
	if err := r.add(good); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal((r.Permitted|r.Effective).Names(), []string{"cap_chown", "cap_sys_admin"}) || !r.NoNewPrivs || !r.Filtered {
		t.Errorf("got %+v", r)
	}
	if err := r.add(strings.Replace(good, "NoNewPrivs:\t1", "NoNewPrivs:\t0", 1)); err != nil || r.NoNewPrivs {
		t.Errorf("one thread without no_new_privs: %v, %+v", err, r)
	}
	for name, unfiltered := range map[string]string{
		"one thread without a filter": strings.Replace(good, "Seccomp:\t2", "Seccomp:\t0", 1), "a kernel without filters": strings.Replace(good, "Seccomp:\t2\n", "", 1),
	} {
		r := Report{Filtered: true}
		if err := r.add(unfiltered); err != nil || r.Filtered {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
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
