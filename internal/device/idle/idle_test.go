package idle_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/device/idle"
)

// class is the scheduling policy of a thread, the 41st field of proc_pid_stat(5).
func class(t *testing.T, tid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(tid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return f[38]
}

// The thread alone is in the idle classes, and is gone afterwards.
//
// Verifies: SR-083
func TestRunsOnAnIdleThreadOfItsOwn(t *testing.T) {
	stop := errors.New("stop")
	tid := 0
	err := idle.Run(func(err error) { t.Errorf("refused: %v", err) }, func() error {
		tid = unix.Gettid()
		if c := class(t, tid); c != strconv.Itoa(unix.SCHED_IDLE) {
			t.Errorf("policy %s", c)
		}
		if p, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, 0, 0); errno != 0 || p>>13 != 3 {
			t.Errorf("disk class %d, %v", p>>13, errno)
		}
		before := idle.CPU()
		for begun := time.Now(); time.Since(begun) < 20*time.Millisecond; {
		}
		if idle.CPU() <= before {
			t.Error("no time of the processor is told")
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Error(err)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		n, _ := strconv.Atoi(thread.Name())
		for range 1000 {
			if n != tid {
				break
			}
			if _, err := os.Stat("/proc/self/task/" + thread.Name()); err != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if b, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/stat"); err == nil && n == tid {
			t.Errorf("the idle thread is still there: %s", b)
		}
	}
}
