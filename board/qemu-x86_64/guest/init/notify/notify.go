// Package notify is the init's end of sd_notify(3): a datagram socket for each
// service that promised signs of life.
package notify

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Socket is where one service says how it is. It belongs to the service's
// user, and only what the service's own process sends counts.
type Socket struct {
	conn *net.UnixConn
	file string
}

// Open opens the socket of a service, which runs as a user, in a folder of root's.
func Open(folder, name string, uid, gid uint32) (*Socket, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(folder, name+".notify")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: file, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	n := &Socket{conn: conn, file: file}
	if err := errors.Join(n.passCredentials(), os.Chmod(file, 0o600), os.Chown(file, int(uid), int(gid))); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// passCredentials has the kernel say who sent a message, unix(7).
func (n *Socket) passCredentials() error {
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	return errors.Join(err, failed)
}

// Environment is what the service is told.
func (n *Socket) Environment(interval time.Duration) []string {
	return []string{"NOTIFY_SOCKET=" + n.file, "WATCHDOG_USEC=" + strconv.FormatInt(interval.Microseconds(), 10)}
}

// Follow tells of each sign of life of process pid, until the socket is closed.
func (n *Socket) Follow(pid int, alive chan<- struct{}) {
	message, control := make([]byte, 512), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		length, extra, _, _, err := n.conn.ReadMsgUnix(message, control)
		if err != nil {
			return
		}
		if !sentBy(pid, control[:extra]) {
			continue
		}
		for _, line := range bytes.Split(message[:length], []byte{'\n'}) {
			switch string(line) {
			case "READY=1", "WATCHDOG=1", "STOPPING=1":
				select {
				case alive <- struct{}{}:
				default: // one waits already
				}
			}
		}
	}
}

func sentBy(pid int, control []byte) bool {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}
	for _, m := range messages {
		if who, err := unix.ParseUnixCredentials(&m); err == nil {
			return int(who.Pid) == pid
		}
	}
	return false
}

// Close ends what follows it and removes the socket.
func (n *Socket) Close() {
	_ = n.conn.Close()
	_ = os.Remove(n.file)
}
