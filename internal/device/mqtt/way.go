package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// Schemes of a broker's address.
const (
	straight    = "tls"
	inWebsocket = "wss"
	// websocketPort is where wss lies when the address names no port.
	websocketPort = "443"
)

// way is how a broker is reached.
type way struct {
	broker *url.URL
	proxy  *url.URL // nil: none
}

func parseWay(broker, proxy string) (way, error) {
	b, err := url.Parse(broker)
	if err != nil {
		return way{}, fmt.Errorf("parse broker address: %w", err)
	}
	plain := broker == straight+"://"+b.Host && b.Port() != ""
	if web := broker == inWebsocket+"://"+b.Host+b.EscapedPath(); b.Hostname() == "" || !plain && !web {
		return way{}, fmt.Errorf("parse broker address %q: want tls://host:port or wss://host/path", b.Redacted())
	}
	if proxy == "" {
		return way{broker: b}, nil
	}
	p, err := url.Parse(proxy)
	if err != nil || proxy != "http://"+p.Host || p.Hostname() == "" || p.Port() == "" {
		return way{}, errors.New("parse proxy address: want http://host:port")
	}
	return way{broker: b, proxy: p}, nil
}

// target is the broker's host and port.
func (w way) target() string {
	if port := w.broker.Port(); port != "" {
		return w.broker.Host
	}
	return net.JoinHostPort(w.broker.Hostname(), websocketPort)
}

func (w way) failed(cause Cause, err error) *ConnectError {
	e := &ConnectError{Broker: w.target(), Cause: cause, Err: err}
	if w.proxy != nil {
		e.Proxy = w.proxy.Host
	}
	return e
}

// dial opens the connection: TCP, to the proxy if there is one, which is asked
// for the way to the broker; TLS with the broker itself; the websocket; and the
// guard over all. ended is told once, when the connection can no longer be read.
func dial(ctx context.Context, w way, config *tls.Config, o Options, ended func(error)) (*guard, error) {
	first := w.target()
	if w.proxy != nil {
		first = w.proxy.Host
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", first)
	if err != nil {
		return nil, err
	}
	inner, err := w.open(ctx, conn, config, orDefault(o.WriteTimeout, defaultWriteTimeout))
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &guard{Conn: inner, ended: ended, most: o.MaxIncoming, frame: frame{most: o.MaxMessage}}, nil
}

// open does what comes after TCP; write bounds each write into a websocket.
func (w way) open(ctx context.Context, conn net.Conn, config *tls.Config, write time.Duration) (net.Conn, error) {
	if w.proxy != nil {
		if err := within(ctx, conn, func() error { return openProxy(conn, w.target()) }); err != nil {
			return nil, fmt.Errorf("ask the proxy %s for %s: %w", w.proxy.Host, w.target(), err)
		}
	}
	config, own := watchSigner(config)
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		if failure := own.Load(); failure != nil {
			return nil, signError{*failure}
		}
		return nil, err
	}
	if w.broker.Scheme == straight {
		return secure, nil
	}
	var inner net.Conn
	err := within(ctx, secure, func() (err error) {
		inner, err = upgrade(secure, w.broker, write)
		return err
	})
	return inner, err
}

// within does an exchange on a connection and gives it up when ctx ends: the
// error is then ctx's.
func within(ctx context.Context, conn net.Conn, exchange func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := exchange()
	if !stop() {
		return fmt.Errorf("no answer: %w", ctx.Err())
	}
	return err
}
