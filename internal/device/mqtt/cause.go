package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"ward/internal/trust/serverauth"
)

// Cause says why a connection did not come about.
type Cause uint8

// Causes.
const (
	// Unreachable: no connection, or the broker is not ready.
	Unreachable Cause = iota + 1
	// ServerUntrusted: the broker's certificate does not chain to the roots, or
	// is expired, revoked, weak or not for a server, or the broker does not speak
	// TLS 1.3. serverauth.Explain says which.
	ServerUntrusted
	// ServerName: the broker's certificate is for another name.
	ServerName
	// Refused: the broker ended the connection during authentication.
	Refused
	// OwnKey: this side could not sign for the handshake.
	OwnKey
	// ProxyRefused: the proxy answered, and did not open the way to the broker.
	ProxyRefused
	// Protocol: the server is the fleet's, and does not speak as a broker must.
	Protocol
)

func (c Cause) String() string {
	switch c {
	case Unreachable:
		return "unreachable"
	case ServerUntrusted:
		return "server untrusted"
	case ServerName:
		return "other server name"
	case Refused:
		return "refused"
	case OwnKey:
		return "own key fails"
	case ProxyRefused:
		return "refused by the proxy"
	case Protocol:
		return "protocol broken"
	}
	return "unknown"
}

// ConnectError is a connection that did not come about.
type ConnectError struct {
	Broker string // host and port
	Proxy  string // host and port of the proxy on the way, if any
	Cause  Cause
	Err    error
}

func (e *ConnectError) Error() string {
	if e.Proxy != "" {
		return fmt.Sprintf("connect to broker %s through proxy %s: %s: %s", e.Broker, e.Proxy, e.Cause, e.Err)
	}
	return fmt.Sprintf("connect to broker %s: %s: %s", e.Broker, e.Cause, e.Err)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// Answered says that the broker refused in its CONNACK (MQTT 3.1.1, section
// 3.2.2.3): the TLS connection, with the client's certificate, stood.
func (e *ConnectError) Answered() bool {
	for _, code := range []error{
		packets.ErrorRefusedServerUnavailable, packets.ErrorRefusedBadUsernameOrPassword, packets.ErrorRefusedNotAuthorised,
		packets.ErrorRefusedIDRejected, packets.ErrorRefusedBadProtocolVersion,
	} {
		if errors.Is(e.Err, code) {
			return true
		}
	}
	return false
}

// OtherID says that the broker refused for the client id alone.
func (e *ConnectError) OtherID() bool { return errors.Is(e.Err, packets.ErrorRefusedIDRejected) }

// broken is an ErrProtocol that says what was sent.
func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrProtocol, fmt.Errorf(format, args...))
}

// signError marks an error of the client's own key.
type signError struct{ error }

func (e signError) Unwrap() error { return e.error }

// causeOfDial sorts an error of the way to the broker, up to where MQTT begins.
func causeOfDial(err error) (Cause, error) {
	var proxy *proxyError
	var upgrade *upgradeError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Unreachable, err
	case errors.As(err, &proxy):
		return ProxyRefused, err
	case errors.As(err, &upgrade):
		return upgrade.cause(), err
	}
	return causeOfHandshake(err), err
}

// causeOfHandshake sorts an error of the TCP connection or the TLS handshake.
// Package serverauth says more of it.
func causeOfHandshake(err error) Cause {
	if sign := (signError{}); errors.As(err, &sign) {
		return OwnKey
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unreachable
	}
	switch serverauth.Explain(err).Step {
	case serverauth.Reach:
		return Unreachable
	case serverauth.Name:
		return ServerName
	case serverauth.Admission:
		return Refused
	}
	return ServerUntrusted
}

// causeOfConnect sorts an error after the handshake, while the broker's
// CONNACK was awaited: in TLS 1.3 a refused client certificate shows only
// then. onWire is what the connection itself ended with, which paho drops.
func causeOfConnect(onWire, err error) (Cause, error) {
	var network *net.OpError
	switch {
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return Unreachable, err
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised),
		errors.Is(err, packets.ErrorRefusedIDRejected), errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return Refused, err
	}
	if onWire == nil || errors.Is(onWire, net.ErrClosed) {
		onWire = err
	}
	switch {
	case errors.Is(onWire, ErrProtocol):
		return Protocol, onWire
	case errors.As(onWire, &network) && network.Op == "remote error",
		errors.Is(onWire, io.EOF), errors.Is(onWire, syscall.ECONNRESET), errors.Is(onWire, syscall.EPIPE):
		return Refused, onWire
	}
	return Unreachable, onWire
}
