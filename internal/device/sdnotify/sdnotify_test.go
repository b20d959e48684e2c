package sdnotify

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// listen stands for the service manager at an address.
func listen(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestStates(t *testing.T) {
	dir, err := os.MkdirTemp("", "notify") // socket paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, address := range []string{filepath.Join(dir, "notify"), "@ward-sdnotify-test-" + strconv.Itoa(os.Getpid())} {
		manager, n := listen(t, address), New(address)
		for _, row := range []struct {
			send func() error
			want string
		}{
			{n.Ready, "READY=1"},
			{func() error { return n.Status("boot affirmed,\nlink up") }, "STATUS=boot affirmed, link up"},
			{n.Watchdog, "WATCHDOG=1"},
			{n.Stopping, "STOPPING=1"},
		} {
			if err := row.send(); err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			b := make([]byte, 256)
			got, err := manager.Read(b)
			if err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			if string(b[:got]) != row.want {
				t.Errorf("%s: got %q, want %q", address, b[:got], row.want)
			}
		}
	}
}

func TestWithoutManager(t *testing.T) {
	var none *Notifier
	for _, n := range []*Notifier{none, New("")} {
		if err := n.Ready(); err != nil {
			t.Errorf("nobody listens: %v", err)
		}
	}
	if err := New(filepath.Join(t.TempDir(), "gone")).Ready(); err == nil {
		t.Error("a manager that does not answer gave no error")
	}
}

func TestEnvironmentIsTakenAndCleared(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "@x")
	t.Setenv("WATCHDOG_USEC", "30000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	n, interval := Environment()
	if n.address != "@x" || interval != 30*time.Second {
		t.Errorf("got %q, %v", n.address, interval)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if _, ok := os.LookupEnv(name); ok {
			t.Errorf("%s is left for children", name)
		}
	}
}

func TestWatchdogInterval(t *testing.T) {
	for _, row := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"1000000", "", time.Second},
		{"1000000", "7", time.Second},
		{"1000000", "8", 0},
		{"-1", "7", 0},
		{"99999999999999999999", "7", 0},
		{"soon", "7", 0},
	} {
		if got := watchdog(row.usec, row.pid, 7); got != row.want {
			t.Errorf("watchdog(%q, %q) = %v, want %v", row.usec, row.pid, got, row.want)
		}
	}
}
