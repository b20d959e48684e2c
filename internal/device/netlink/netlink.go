// Package netlink hears what the kernel tells everybody who listens: the multicast
// groups of netlink(7). It takes messages of the kernel alone, as their address and
// credentials show, and says when the kernel had more to say than was taken. Nothing
// can reach such a socket from a network.
package netlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// queue is how many bytes may wait in the kernel; it gives what net.core.rmem_max
// allows.
const queue = 1 << 20

// Errors of Receive behind which the next call goes on.
var (
	// ErrLost: messages found no room in the queue and are missing.
	ErrLost = errors.New("messages of the kernel were lost")
	// ErrLong: a message was longer than the buffer.
	ErrLong = errors.New("a message is longer than the buffer")
)

// Conn is a socket that hears a group. It is for one reader.
type Conn struct {
	file *os.File
	raw  syscall.RawConn
	oob  [256]byte // one control message of 12 bytes with its head
}

// Open begins to listen to a group, counted from 1, of a protocol (NETLINK_…).
func Open(protocol, group int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	c := &Conn{file: os.NewFile(uintptr(fd), "netlink")}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, queue) // a smaller one is told by ErrLost
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (group - 1)})
	}
	if err == nil {
		c.raw, err = c.file.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink socket: %w", err), c.file.Close())
	}
	return c, nil
}

// Close ends it; a Receive that waits returns os.ErrClosed.
func (c *Conn) Close() error { return c.file.Close() }

// Receive waits for the next message of the kernel until ctx ends, and returns its
// length in buf. What anybody else sends is passed over.
func (c *Conn) Receive(ctx context.Context, buf []byte) (int, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, flags, kernel, err := c.read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // ctx has ended, or that of a call before
			if err := c.file.SetReadDeadline(time.Time{}); err != nil {
				return 0, fmt.Errorf("receive: %w", err)
			}
		case errors.Is(err, unix.ENOBUFS):
			return 0, ErrLost
		case err != nil:
			return 0, fmt.Errorf("receive: %w", err)
		case !kernel:
		case flags&unix.MSG_TRUNC != 0:
			return 0, ErrLong
		default:
			return n, nil
		}
	}
}

func (c *Conn) read(buf []byte) (n, flags int, kernel bool, err error) {
	waited := c.raw.Read(func(fd uintptr) bool {
		var control int
		var from unix.Sockaddr
		n, control, flags, from, err = unix.Recvmsg(int(fd), buf, c.oob[:], 0)
		if err == nil {
			kernel = fromKernel(from, c.oob[:control])
		}
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	switch {
	case errors.Is(waited, os.ErrDeadlineExceeded):
		err = waited
	case waited != nil:
		err = errors.Join(os.ErrClosed, waited)
	}
	return n, flags, kernel, err
}

// fromKernel says whether the kernel itself sent a message: address 0 and, of the
// sender's credentials, process 0 and user 0.
func fromKernel(from unix.Sockaddr, oob []byte) bool {
	if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for i := range messages {
		if cred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return cred.Pid == 0 && cred.Uid == 0
		}
	}
	return false
}
