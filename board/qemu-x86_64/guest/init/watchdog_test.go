package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/device/sdnotify"
	"ward/internal/lab/control"
)

// The supervisor waits for every child of its process, so it runs in one of its
// own: the test binary again. A third is the service.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "-role" {
		switch os.Args[2] {
		case "service":
			os.Exit(serve(os.Args[3]))
		default:
			os.Exit(superviseFor(os.Args[2], os.Args[3]))
		}
	}
	os.Exit(m.Run())
}

// interval is the watchdog's in these tests; what feeds it does so far more often.
const interval = 2 * time.Second

// serve is a service. It lives for ever, in its own way.
func serve(how string) int {
	manager, promised := sdnotify.Environment()
	if promised != interval && how != "plain" {
		fmt.Println("promised", promised)
		return 9
	}
	switch how {
	case "feed", "hang", "halt":
		if err := errors.Join(manager.Ready(), manager.Watchdog()); err != nil {
			fmt.Println(err)
			return 8
		}
	case "unready", "plain": // nothing at all
	}
	for n := 0; ; n++ {
		switch {
		case how == "halt" && n == 3:
			if err := unix.Kill(os.Getpid(), unix.SIGSTOP); err != nil {
				return 7
			}
		case how == "feed", n < 3 && how != "unready":
			_ = manager.Watchdog()
		}
		time.Sleep(interval / 40)
	}
}

// supervised is what the supervisor's process says in the end.
type supervised struct {
	Services []control.Service
	Status   map[string]string // of each service's process, by the line's name
	PIDs     []int             // of the service, in order
	Others   int               // of the service beside it, which must live on
}

// superviseFor runs two services, one that promised signs of life and one that
// did not, until the first was started twice or a while has gone.
func superviseFor(how, folder string) int {
	s := newSupervisor()
	s.notify, s.patience = folder, patience{start: 2 * interval, abort: interval / 2}
	four := serviceTable[1].caps
	const nobody = 65534
	s.start([]service{
		{name: "other", argv: []string{os.Args[0], "-role", "service", "plain"}, uid: nobody, gid: nobody},
		{name: "daemon", argv: []string{os.Args[0], "-role", "service", how}, uid: nobody, gid: nobody, caps: four, watchdog: interval},
	})
	var said supervised
	end := time.Now().Add(time.Minute)
	if how == "feed" {
		end = time.Now().Add(5 * interval / 2)
	}
	for time.Now().Before(end) {
		time.Sleep(interval / 40)
		if how == "unready" { // somebody else speaks for it
			if c, err := net.Dial("unixgram", filepath.Join(folder, "daemon.notify")); err == nil {
				_, _ = c.Write([]byte("WATCHDOG=1"))
				c.Close()
			}
		}
		list := s.list()
		if pid := list[1].PID; pid != 0 && !slices.Contains(said.PIDs, pid) {
			said.PIDs = append(said.PIDs, pid)
		}
		if len(said.PIDs) > 1 {
			break
		}
	}
	said.Services = s.list()
	said.Status = make(map[string]string)
	for _, r := range said.Services {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID))
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			said.Status[r.Name+" "+name] = value
		}
		_ = unix.Kill(r.PID, unix.SIGKILL)
	}
	out := os.NewFile(3, "answer")
	if err := json.NewEncoder(out).Encode(said); err != nil {
		return 1
	}
	return 0
}

// supervise runs the supervisor over a service that behaves in a way.
func supervise(t *testing.T, how string) (said supervised, console string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root starts services as other users")
	}
	dir, err := os.MkdirTemp("", "init")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, answer := filepath.Join(dir, "program"), filepath.Join(dir, "answer")
	text, err := os.ReadFile(os.Args[0])
	for _, err := range []error{err, os.WriteFile(program, text, 0o755), os.Chmod(dir, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(answer)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(program, "-role", how, filepath.Join(dir, "run"))
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = time.Second // the services hold its output open
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run the supervisor: %v: %s", err, out)
	}
	b, err := os.ReadFile(answer)
	if err == nil {
		err = json.Unmarshal(b, &said)
	}
	if err != nil || len(said.Services) != 2 {
		t.Fatalf("the supervisor said %q: %v: %s", b, err, out)
	}
	return said, string(out)
}

// A daemon that hangs or is halted is ended and started again, and nothing else
// is touched: not the service beside it, not the device.
//
// Verifies: SR-107
func TestDaemonWithoutSignsOfLifeIsStartedAgainAlone(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ how, ended string }{
		{"hang", "gave no sign of life for 2s and was ended: "},
		{"halt", "gave no sign of life for 2s and was ended: ended by killed"}, // a halted process takes no other signal
		{"unready", "gave no sign of life for 4s and was ended: "},             // and what another process says for it does not count
	} {
		t.Run(row.how, func(t *testing.T) {
			t.Parallel()
			said, console := supervise(t, row.how)
			other, daemon := said.Services[0], said.Services[1]
			if daemon.Starts != 2 || daemon.Missed != 1 || !strings.HasPrefix(daemon.LastExit, row.ended) {
				t.Errorf("the daemon: %+v\n%s", daemon, console)
			}
			if other.Starts != 1 || other.PID == 0 || other.Missed != 0 {
				t.Errorf("the service beside it: %+v", other)
			}
			if !strings.Contains(console, "daemon gave no sign of life for ") {
				t.Errorf("the console does not say why: %s", console)
			}
		})
	}
}

// A daemon that says that it lives is left alone.
//
// Verifies: SR-107
func TestDaemonThatSaysItLivesIsLeftAlone(t *testing.T) {
	t.Parallel()
	said, console := supervise(t, "feed")
	if daemon := said.Services[1]; daemon.Starts != 1 || daemon.Missed != 0 || daemon.PID == 0 {
		t.Errorf("the daemon: %+v\n%s", daemon, console)
	}
}

// The daemon begins with four capabilities and can gain no other; every other
// service has none, and can gain none.
//
// Verifies: SR-105 SR-107
func TestServicesHoldWhatTheirRowsSay(t *testing.T) {
	t.Parallel()
	said, _ := supervise(t, "feed")
	const four, none = "0000002000280004", "0000000000000000"
	for _, name := range []string{"CapEff", "CapPrm", "CapBnd", "CapAmb"} {
		if got := said.Status["daemon "+name]; got != four {
			t.Errorf("the daemon's %s: %s, want %s", name, got, four)
		}
		if got := said.Status["other "+name]; got != none {
			t.Errorf("the %s of a service beside it: %s", name, got)
		}
	}
	for _, svc := range serviceTable {
		if svc.name != "wardd" && (len(svc.caps) > 0 || svc.watchdog > 0) {
			t.Errorf("service %s has capabilities or a watchdog", svc.name)
		}
	}
}
