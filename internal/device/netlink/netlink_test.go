package netlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guard bounds the waits for the kernel, which answers within microseconds.
const guard = 20 * time.Second

func open(t *testing.T) (*Conn, context.Context) {
	t.Helper()
	c, err := Open(unix.NETLINK_KOBJECT_UEVENT, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	t.Cleanup(cancel)
	return c, ctx
}

// provoke has the kernel send a message about the loopback interface with a mark of
// this test (Documentation/ABI/testing/sysfs-uevent).
func provoke(t *testing.T, mark string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can have the kernel send a message")
	}
	if err := os.WriteFile("/sys/class/net/lo/uevent", []byte("change 7abbb515-d766-459f-81b2-8c7a6ec5e0d5 WARD="+mark), 0); err != nil {
		t.Skip("the kernel cannot be asked for a message: ", err)
	}
}

// await receives until a message with the mark comes; others of the machine are
// passed over.
func await(t *testing.T, ctx context.Context, c *Conn, mark string) string {
	t.Helper()
	for {
		m, err := receive(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(m, "WARD="+mark+"\x00") {
			return m
		}
	}
}

func receive(ctx context.Context, c *Conn) (string, error) {
	var buf [8 << 10]byte
	n, err := c.Receive(ctx, buf[:])
	return string(buf[:n]), err
}

// Verifies: SR-099
func TestTheKernelIsHeard(t *testing.T) {
	c, ctx := open(t)
	mark := fmt.Sprint("heard", os.Getpid())
	provoke(t, mark)
	m := await(t, ctx, c, mark)
	if !strings.HasPrefix(m, "change@/devices/virtual/net/lo\x00") {
		t.Errorf("heard %q", m)
	}
}

// What another process sends to the socket is not taken for the kernel's, even by root.
//
// Verifies: SR-099
func TestOthersAreNotTheKernel(t *testing.T) {
	c, ctx := open(t)
	var to unix.Sockaddr
	if err := c.raw.Control(func(fd uintptr) { to, _ = unix.Getsockname(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	mark := fmt.Sprint("others", os.Getpid())
	if err := unix.Sendto(fd, []byte("add@/devices/forged\x00SYNTH_ARG_WARD="+mark+"\x00"), 0, to); err != nil {
		t.Skip("this user may not send to a uevent socket at all: ", err)
	}
	provoke(t, mark)
	if m := await(t, ctx, c, mark); !strings.HasPrefix(m, "change@/devices/virtual/net/lo\x00") {
		t.Errorf("another process was taken for the kernel: %q", m)
	}
}

func TestFromKernel(t *testing.T) {
	cred := func(pid int32, uid uint32) []byte { return unix.UnixCredentials(&unix.Ucred{Pid: pid, Uid: uid}) }
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}
	for name, row := range map[string]struct {
		from unix.Sockaddr
		oob  []byte
		want bool
	}{
		"the kernel":           {kernel, cred(0, 0), true},
		"another address":      {&unix.SockaddrNetlink{Pid: 7, Groups: 1}, cred(0, 0), false},
		"no address":           {nil, cred(0, 0), false},
		"a process":            {kernel, cred(7, 0), false},
		"a user":               {kernel, cred(0, 7), false},
		"no credentials":       {kernel, nil, false},
		"damaged credentials":  {kernel, cred(0, 0)[:9], false},
		"something else in it": {kernel, unix.UnixRights(0), false},
	} {
		if got := fromKernel(row.from, row.oob); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Messages that found no room are told as lost, and the socket goes on.
//
// Verifies: SR-099
func TestLostMessagesAreTold(t *testing.T) {
	c, ctx := open(t)
	if err := c.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) }); err != nil {
		t.Fatal(err)
	}
	mark := fmt.Sprint("lost", os.Getpid())
	for range 50 {
		provoke(t, mark)
	}
	for {
		_, err := receive(ctx, c)
		if errors.Is(err, ErrLost) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	after := mark + "after"
	for ctx.Err() == nil {
		provoke(t, after)
		m, err := receive(ctx, c)
		if err == nil && strings.Contains(m, "WARD="+mark) {
			return
		}
	}
	t.Error("nothing is heard behind the loss")
}

func TestReceiveEnds(t *testing.T) {
	c, _ := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for {
		_, err := receive(ctx, c)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := receive(t.Context(), c); err != nil {
				ended <- err
				return
			}
		}
	}()
	_ = c.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("a closed one ends with %v", err)
		}
	case <-time.After(guard):
		t.Error("a closed one goes on waiting")
	}
}
