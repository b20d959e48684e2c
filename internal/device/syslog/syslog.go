// Package syslog is one connection to a syslog server over TLS (RFC 5425), version
// 1.3 alone, with the certificates that the caller gives. A Conn lives as long as
// its connection: whoever wants another one connects anew. Syslog has no
// acknowledgement: Send says that the kernel has taken a message, and nothing says
// that the server has stored it. What was sent shortly before a connection's end may
// be lost; LossTime bounds how long before.
package syslog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/format/syslog"
	"ward/internal/trust/serverauth"
)

const (
	// connectTimeout bounds the connection with its handshake, in which the TPM signs.
	connectTimeout = 30 * time.Second
	// writeTimeout bounds one message; a server that does not read is as good as gone.
	writeTimeout = 10 * time.Second
	// userTimeout is how long the other side's kernel may take to acknowledge what
	// was sent (TCP_USER_TIMEOUT, tcp(7)) before the connection ends.
	userTimeout = 20 * time.Second
	// Keep-alive notices within some 25 s that a silent server is gone.
	keepIdle, keepInterval, keepCount = 10 * time.Second, 5 * time.Second, 3
	// LossTime: what was sent longer ago than this when a connection ends has reached
	// the server's kernel. What its syslog did with it nobody can tell.
	LossTime = userTimeout + writeTimeout
	// earlyEnd is how soon after its begin a connection ends that a server does not
	// want: in TLS 1.3 a refusal comes after the handshake.
	earlyEnd = 3 * time.Second
	// alertTime is how long a failed write waits for the server's own words.
	alertTime = time.Second
	// maxSpoken bounds what a server may say, in bytes. Syslog servers say nothing.
	maxSpoken = 64 << 10
)

// ErrClosed: this side closed the connection.
var ErrClosed = errors.New("the connection was closed")

// Cause says why a connection did not come about, or ended.
type Cause uint8

// Causes.
const (
	// Unreachable: no connection, or it broke.
	Unreachable Cause = iota + 1
	// Untrusted: the server's certificate was refused, or the server does not speak
	// TLS 1.3. serverauth.Explain says which.
	Untrusted
	// Refused: the server refused this device.
	Refused
	// EarlyEnd: the server ended the connection right after the handshake and gave no
	// reason. Some refuse in this way.
	EarlyEnd
	// OwnKey: this side could not sign for the handshake.
	OwnKey
)

func (c Cause) String() string {
	return [...]string{"unknown", "unreachable", "server untrusted", "refused", "ended at once", "own key fails"}[min(c, OwnKey)]
}

// Error is a connection that did not come about or ended.
type Error struct {
	Address string // host and port
	Cause   Cause
	Err     error
}

func (e *Error) Error() string {
	return fmt.Sprintf("syslog server %s: %s: %s", e.Address, e.Cause, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Conn is one connection. Send is for one goroutine at a time.
type Conn struct {
	address string
	conn    *tls.Conn
	begun   time.Time

	once sync.Once
	done chan struct{}
	err  error
}

// Connect connects to "host:port". The TLS settings must have roots, and a name for
// the server's certificate if that is not the host; TLS 1.3 is demanded whatever they
// say. An error of the server or the network is an *Error.
func Connect(ctx context.Context, address string, config *tls.Config) (*Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("connect to syslog server: %w", err)
	}
	switch {
	case config == nil || config.RootCAs == nil || config.RootCAs.Equal(x509.NewCertPool()):
		return nil, errors.New("connect to syslog server: no root certificates are given, and the system's are never used")
	case config.InsecureSkipVerify:
		return nil, errors.New("connect to syslog server: its certificate must be verified")
	}
	config = config.Clone()
	config.MinVersion, config.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	if config.ServerName == "" {
		config.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: config, NetDialer: &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount},
		Control:         giveUp,
	}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &Error{address, causeOf(err), err}
	}
	c := &Conn{address: address, conn: conn.(*tls.Conn), begun: time.Now(), done: make(chan struct{})}
	go c.listen()
	return c, nil
}

// giveUp has the kernel end a connection whose other side acknowledges nothing.
func giveUp(_, _ string, raw syscall.RawConn) error {
	var err error
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
	return errors.Join(controlErr, err)
}

// listen waits for the end of the connection: a server says nothing else.
func (c *Conn) listen() {
	_, err := io.CopyN(io.Discard, c.conn, maxSpoken)
	if err == nil {
		err = fmt.Errorf("the server says more than %d bytes: it is no syslog server", maxSpoken)
	}
	cause := causeOf(err)
	if cause == Unreachable && time.Since(c.begun) < earlyEnd {
		cause = EarlyEnd
	}
	c.end(&Error{c.address, cause, err})
}

func (c *Conn) end(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.done)
		c.conn.Close()
	})
}

// Send writes one message, in its frame.
func (c *Conn) Send(message []byte) error {
	if err := c.Err(); err != nil {
		return err
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // an error shows at the write
	if _, err := c.conn.Write(syslog.Frame(message)); err != nil {
		select {
		case <-c.done: // what the server said tells more than that writing failed
		case <-time.After(alertTime):
			c.end(&Error{c.address, Unreachable, err})
		}
		return c.Err()
	}
	return nil
}

// Done is closed when the connection has ended; Err then says why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is nil while the connection stands.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close ends the connection in order: what was sent goes out before.
func (c *Conn) Close() { c.end(ErrClosed) }

// causeOf sorts an error of the connection or the handshake.
func causeOf(err error) Cause {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Unreachable
	case strings.Contains(err.Error(), ownKey):
		return OwnKey
	}
	switch serverauth.Explain(err).Step {
	case serverauth.Reach:
		return Unreachable
	case serverauth.Admission:
		return Refused
	}
	return Untrusted
}

// ownKey is what crypto/tls says of a key that does not sign; it keeps the text alone.
const ownKey = "tls: failed to sign handshake"
