// Package mqtt is one connection to an MQTT broker (OASIS MQTT 3.1.1) over TLS
// 1.3 with mutual authentication, and the only importer of paho and of the
// websocket library: straight (tls://) or inside a websocket (wss://, section 6
// there and RFC 6455), and either way through an HTTP proxy that passes TLS on
// (CONNECT, RFC 9110, section 9.3.6). A Client lives as long as its connection:
// whoever wants another one connects anew. Nothing is stored: durability is the
// journal's, and a broker's acknowledgement proves nothing about the fleet. What
// a broker or a proxy sends is bounded before it is read, since neither is
// trusted.
package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// MaxPayload bounds a message's payload in both directions, in bytes.
const MaxPayload = 128 << 10

const (
	defaultKeepAlive    = 30 * time.Second
	defaultWriteTimeout = 10 * time.Second
	defaultQueue        = 64
	connectTimeout      = 30 * time.Second
	pingTimeout         = 10 * time.Second
	disconnectTime      = 500 * time.Millisecond
	qos                 = 1
	// protocolVersion is 3.1.1 in CONNECT; without it paho falls back to 3.1.
	protocolVersion = 4
)

// Errors of calls on a connection.
var (
	ErrClosed       = errors.New("the connection has ended")
	ErrNotPermitted = errors.New("the broker refuses the subscription")
	ErrTooLarge     = errors.New("the payload is too large")
	// ErrProtocol: this side ended the connection, because what the broker sent
	// breaks MQTT, the websocket protocol or their bounds here.
	ErrProtocol = errors.New("the broker breaks the protocol")
)

// Options describe one connection.
type Options struct {
	Broker   string      // tls://host:port or wss://host[:port]/path
	Proxy    string      // http://host:port that carries the connection; empty: none
	ClientID string      // the common name of the client's certificate
	TLS      *tls.Config // with RootCAs, and the client's certificate
	Will     *Will       // published by the broker when the connection ends without a farewell
	// KeepAlive is how long the connection may be silent; a broker that is
	// gone is noticed 10 s after that. 30 s if zero.
	KeepAlive    time.Duration
	WriteTimeout time.Duration // 10 s if zero
	Queue        int           // incoming messages that wait to be read, 64 if zero
	// Backpressure makes a full queue stop the connection's reading; else the
	// oldest message goes and is counted. With it, the reader of Messages must
	// not wait for this connection's own acknowledgements.
	Backpressure bool
	// MaxIncoming is how many messages may come in a minute; a broker that sends
	// more breaks the protocol. 0: any number.
	MaxIncoming int
	// MaxMessage bounds the payload of one that comes, in bytes; MaxPayload if zero.
	MaxMessage int
	Log        *slog.Logger
}

// Will is a last will; it is sent with QoS 1.
type Will struct {
	Topic   string
	Payload []byte
	Retain  bool
}

// Message is an incoming message.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool
}

// Client is one connection.
type Client struct {
	paho     paho.Client
	messages chan Message
	wait     bool
	dropped  atomic.Uint64
	log      *slog.Logger

	once sync.Once
	done chan struct{}
	err  error
}

// Connect connects to one broker. Its error, when the broker was tried, is a
// *ConnectError with a cause.
func Connect(ctx context.Context, o Options) (*Client, error) {
	way, err := parseWay(o.Broker, o.Proxy)
	if err != nil {
		return nil, err
	}
	config, err := tlsConfig(o.TLS, way.broker.Hostname())
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c := &Client{wait: o.Backpressure, log: o.Log, done: make(chan struct{}), messages: make(chan Message, orDefault(o.Queue, defaultQueue))}
	guarded, err := dial(ctx, way, config, o, c.end)
	if err != nil {
		cause, err := causeOfDial(err)
		return nil, way.failed(cause, err)
	}
	c.paho = paho.NewClient(c.options(o, way.broker, guarded))
	token := c.paho.Connect()
	select {
	case <-token.Done():
		err = token.Error()
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		cause, err := causeOfConnect(guarded.first(), err)
		guarded.Close()
		return nil, way.failed(cause, err)
	}
	return c, nil
}

// options translates to paho's. The connection is opened before, so that its
// errors are seen whole and no proxy of the environment is used.
func (c *Client) options(o Options, broker *url.URL, conn net.Conn) *paho.ClientOptions {
	p := paho.NewClientOptions().
		AddBroker(broker.String()).
		SetClientID(o.ClientID).
		SetProtocolVersion(protocolVersion).
		SetCleanSession(true).
		SetStore(paho.NewMemoryStore()).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(true).
		SetConnectTimeout(connectTimeout).
		SetKeepAlive(orDefault(o.KeepAlive, defaultKeepAlive)).
		SetPingTimeout(pingTimeout).
		SetWriteTimeout(orDefault(o.WriteTimeout, defaultWriteTimeout)).
		SetDefaultPublishHandler(c.receive).
		SetConnectionLostHandler(func(_ paho.Client, err error) { c.end(err) }).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return conn, nil })
	if o.Will != nil {
		p.SetBinaryWill(o.Will.Topic, o.Will.Payload, qos, o.Will.Retain)
	}
	return p
}

func (c *Client) receive(_ paho.Client, m paho.Message) {
	in := Message{Topic: m.Topic(), Payload: m.Payload(), Retained: m.Retained()}
	if c.wait {
		select {
		case c.messages <- in:
		case <-c.done:
		}
		return
	}
	// paho calls this from one goroutine, so the loop ends: only the reader
	// takes from the queue meanwhile.
	for {
		select {
		case c.messages <- in:
			return
		default:
		}
		select {
		case <-c.messages:
			c.dropped.Add(1)
		default:
		}
	}
}

func (c *Client) end(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.done)
	})
}

// Messages are the incoming messages, in order. It is never closed: watch Done.
func (c *Client) Messages() <-chan Message { return c.messages }

// Dropped counts the messages that had to go because the queue was full, the
// oldest first: the newest receipt covers those before it.
func (c *Client) Dropped() uint64 { return c.dropped.Load() }

// Done is closed when the connection has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the connection stands.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return fmt.Errorf("%w: %w", ErrClosed, c.err)
	default:
		return nil
	}
}

// Delivery is a message on its way; when Done is closed, the broker has
// acknowledged it or Err says why not.
type Delivery interface {
	Done() <-chan struct{}
	Error() error
}

// Send hands a message to the connection, with QoS 1, and does not wait for
// the broker's acknowledgement. Messages go in the order of the calls.
func (c *Client) Send(topic string, retain bool, payload []byte) (Delivery, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("publish to %s: %w: %d bytes, want at most %d", topic, ErrTooLarge, len(payload), MaxPayload)
	}
	if err := c.Err(); err != nil {
		return nil, fmt.Errorf("publish to %s: %w", topic, err)
	}
	return c.paho.Publish(topic, qos, retain, payload), nil
}

// Publish sends a message and waits for the broker's acknowledgement.
func (c *Client) Publish(ctx context.Context, topic string, retain bool, payload []byte) error {
	d, err := c.Send(topic, retain, payload)
	if err != nil {
		return err
	}
	return c.finish(ctx, d, "publish to "+topic)
}

// Subscribe subscribes to one filter with QoS 1. A broker that refuses it
// gives ErrNotPermitted (SUBACK 0x80, MQTT 3.1.1, section 3.9.3).
func (c *Client) Subscribe(ctx context.Context, filter string) error {
	token := c.paho.Subscribe(filter, qos, nil)
	if err := c.finish(ctx, token, "subscribe to "+filter); err != nil {
		return err
	}
	sub, ok := token.(*paho.SubscribeToken)
	if granted, answered := sub.Result()[filter]; !ok || !answered || granted > 2 {
		return fmt.Errorf("subscribe to %s: %w", filter, ErrNotPermitted)
	}
	return nil
}

func (c *Client) finish(ctx context.Context, d Delivery, what string) error {
	select {
	case <-d.Done():
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case <-c.done:
		return fmt.Errorf("%s: %w", what, c.Err())
	}
	if err := d.Error(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Close takes leave of the broker, which then does not publish the last will.
func (c *Client) Close() {
	c.end(errors.New("closed by this side"))
	c.paho.Disconnect(uint(disconnectTime.Milliseconds()))
}

// tlsConfig enforces what the contract allows: TLS 1.3, roots of our own, a
// server name that is checked, and a certificate of our own.
func tlsConfig(c *tls.Config, host string) (*tls.Config, error) {
	switch {
	case c == nil || c.RootCAs == nil || c.RootCAs.Equal(x509.NewCertPool()):
		return nil, errors.New("connect to broker: no root certificates are given, and the system's are never used")
	case c.InsecureSkipVerify:
		return nil, errors.New("connect to broker: the broker's certificate must be verified")
	}
	c = c.Clone()
	c.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	if c.ServerName == "" {
		c.ServerName = host
	}
	return c, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
