// Package sdnotify tells the service manager how the daemon is: ready, alive,
// stopping, and a line of status. It speaks the datagram protocol of
// sd_notify(3), and does nothing where no service manager listens.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notifier sends states to the service manager. A nil Notifier, and one
// without an address, sends nothing and reports no error.
type Notifier struct {
	address string
}

// New returns a Notifier for an address as NOTIFY_SOCKET holds it: a path, or
// an abstract name that begins with @. An empty address sends nothing.
func New(address string) *Notifier { return &Notifier{address: address} }

// Environment returns the Notifier and the watchdog interval that the service
// manager gave this process, and removes them from the environment so that no
// child inherits them. The interval is zero when no watchdog waits for this
// process.
func Environment() (*Notifier, time.Duration) {
	n := New(os.Getenv("NOTIFY_SOCKET"))
	interval := watchdog(os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"), os.Getpid())
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name)
	}
	return n, interval
}

func watchdog(usec, pid string, self int) time.Duration {
	if pid != "" && pid != strconv.Itoa(self) {
		return 0
	}
	n, err := strconv.ParseUint(usec, 10, 43) // some hundred days of microseconds
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Microsecond
}

// Ready says that start-up is over.
func (n *Notifier) Ready() error { return n.send("READY=1") }

// Status gives one line for people; line breaks become spaces.
func (n *Notifier) Status(line string) error {
	return n.send("STATUS=" + strings.Join(strings.FieldsFunc(line, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
}

// Watchdog says that the daemon still makes progress. Callers ask every role
// first.
func (n *Notifier) Watchdog() error { return n.send("WATCHDOG=1") }

// Stopping says that a clean stop has begun.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

func (n *Notifier) send(state string) error {
	if n == nil || n.address == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}
