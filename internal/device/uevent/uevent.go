// Package uevent hears what the kernel says of its devices: what is plugged in and
// taken away, modules that come and go, errors of dm-verity. It takes the kernel's
// own multicast on a NETLINK_KOBJECT_UEVENT socket (netlink(7); lib/kobject_uevent.c
// and Documentation/ABI/testing/sysfs-uevent of the Linux source), not what udev
// makes of it, and needs no privilege. What was there before it listened is read
// from sysfs (Documentation/ABI/stable/sysfs-bus-usb).
package uevent

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ward/internal/device/netlink"
)

// kernelGroup is the multicast group of the kernel; group 2 is udev's.
const kernelGroup = 1

// ErrLost means that the kernel had more to say than the queue holds: messages are
// missing, and the devices should be looked at anew.
var ErrLost = netlink.ErrLost

// ErrForm: the bytes are no message of the kernel.
var ErrForm = errors.New("not a message of the kernel about a device")

// Conn hears the kernel. It is for one reader.
type Conn struct {
	c   *netlink.Conn
	buf [MaxSize]byte
}

// Open begins to listen.
func Open() (*Conn, error) {
	c, err := netlink.Open(unix.NETLINK_KOBJECT_UEVENT, kernelGroup)
	if err != nil {
		return nil, fmt.Errorf("listen to uevents: %w", err)
	}
	return &Conn{c: c}, nil
}

// Close ends it; a Receive that waits returns.
func (c *Conn) Close() error { return c.c.Close() }

// Receive waits for the next message until ctx ends. ErrLost and ErrForm are errors
// behind which the next call goes on; others are not.
func (c *Conn) Receive(ctx context.Context) (Message, error) {
	n, err := c.c.Receive(ctx, c.buf[:])
	if errors.Is(err, netlink.ErrLong) {
		return Message{}, fmt.Errorf("parse uevent: more than %d bytes: %w", MaxSize, ErrForm)
	}
	if err != nil {
		return Message{}, fmt.Errorf("hear uevents: %w", err)
	}
	return Parse(c.buf[:n])
}
