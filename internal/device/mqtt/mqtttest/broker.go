package mqtttest

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Handler answers one packet of a connection.
type Handler func(conn net.Conn, p packets.ControlPacket)

// Broker is a broker that does what a test wants of it.
type Broker struct {
	listener net.Listener
	// accepted sees a connection before any packet is read; false ends it. Nil
	// for none.
	accepted func(net.Conn) bool

	mu       sync.Mutex
	handle   Handler
	conns    []net.Conn
	received []packets.ControlPacket
}

// StartBroker starts one; its handler answers every packet, nil is Obey. Without
// a configuration it speaks no TLS.
func StartBroker(t testing.TB, config *tls.Config, handle Handler) *Broker {
	t.Helper()
	return start(t, config, handle, nil)
}

// StartServer starts one that has accepted connections handled from their first
// byte on, with nothing of MQTT.
func StartServer(t testing.TB, config *tls.Config, serve func(net.Conn)) *Broker {
	t.Helper()
	return start(t, config, nil, func(c net.Conn) bool { serve(c); return false })
}

func start(t testing.TB, config *tls.Config, handle Handler, accepted func(net.Conn) bool) *Broker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	b := &Broker{listener: l, accepted: accepted}
	b.Handle(handle)
	go b.serve()
	t.Cleanup(b.Stop)
	return b
}

// Handle changes the handler for what comes next.
func (b *Broker) Handle(h Handler) {
	if h == nil {
		h = Obey
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handle = h
}

// Address is its host and port.
func (b *Broker) Address() string { return b.listener.Addr().String() }

// URL is its address for MQTT.
func (b *Broker) URL() string { return "tls://" + b.Address() }

// WebsocketURL is its address for websockets.
func (b *Broker) WebsocketURL() string { return "wss://" + b.Address() + "/mqtt" }

func (b *Broker) serve() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.conns = append(b.conns, conn)
		b.mu.Unlock()
		go b.converse(conn)
	}
}

func (b *Broker) converse(conn net.Conn) {
	defer conn.Close()
	if b.accepted != nil && !b.accepted(conn) {
		return
	}
	for {
		p, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.received = append(b.received, p)
		handle := b.handle
		b.mu.Unlock()
		handle(conn, p)
	}
}

// Received are the packets that came so far.
func (b *Broker) Received() []packets.ControlPacket {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]packets.ControlPacket(nil), b.received...)
}

// Drop cuts every connection.
func (b *Broker) Drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
}

// Stop stops listening and cuts every connection.
func (b *Broker) Stop() {
	_ = b.listener.Close()
	b.Drop()
}

// Obey admits everybody and acknowledges everything.
func Obey(conn net.Conn, p packets.ControlPacket) {
	switch p := p.(type) {
	case *packets.ConnectPacket:
		send(conn, 0x20, 2, 0, 0)
	case *packets.SubscribePacket:
		send(conn, 0x90, 3, byte(p.MessageID>>8), byte(p.MessageID), 1)
	case *packets.PublishPacket:
		send(conn, 0x40, 2, byte(p.MessageID>>8), byte(p.MessageID))
	case *packets.PingreqPacket:
		send(conn, 0xd0, 0)
	}
}

func send(w io.Writer, b ...byte) { _, _ = w.Write(b) }
