// Package audit hears the kernel's audit: who logged in, who failed to, who took
// other rights. It takes the multicast group AUDIT_NLGRP_READLOG of a NETLINK_AUDIT
// socket (netlink(7); kernel/audit.c of the Linux source), beside auditd where there
// is one and without sending anything. CAP_AUDIT_READ is needed when it is opened, and
// not afterwards. The fields are those of the audit documentation's field dictionary.
package audit

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ward/internal/device/netlink"
)

// ErrLost means that records are missing: the kernel had more to say than was taken.
var ErrLost = netlink.ErrLost

// Conn hears the audit. It is for one reader.
type Conn struct {
	c   *netlink.Conn
	buf [MaxSize]byte
}

// Open begins to listen. The error says what is missing: CAP_AUDIT_READ, or audit in
// the kernel. A kernel whose audit is switched off (audit=0) says nothing.
func Open() (*Conn, error) {
	c, err := netlink.Open(unix.NETLINK_AUDIT, unix.AUDIT_NLGRP_READLOG)
	switch {
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("hear the kernel's audit: CAP_AUDIT_READ is missing: %w", err)
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return nil, fmt.Errorf("hear the kernel's audit: this kernel has none (CONFIG_AUDIT): %w", err)
	case err != nil:
		return nil, fmt.Errorf("hear the kernel's audit: %w", err)
	}
	return &Conn{c: c}, nil
}

// Close ends it; a Receive that waits returns.
func (c *Conn) Close() error { return c.c.Close() }

// Receive waits for the next record that matters until ctx ends; heard is called for
// every record, also those that do not matter. ErrLost and ErrForm are errors behind
// which the next call goes on; others are not.
func (c *Conn) Receive(ctx context.Context, heard func()) (Record, error) {
	for {
		n, err := c.c.Receive(ctx, c.buf[:])
		if errors.Is(err, netlink.ErrLong) {
			return Record{}, fmt.Errorf("parse audit record: more than %d bytes: %w", MaxSize, ErrForm)
		}
		if err != nil {
			return Record{}, fmt.Errorf("hear the kernel's audit: %w", err)
		}
		heard()
		if r, ok, err := Parse(c.buf[:n]); ok || err != nil {
			return r, err
		}
	}
}
