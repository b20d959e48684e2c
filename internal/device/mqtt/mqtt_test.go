package mqtt_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"ward/internal/device/mqtt"
	"ward/internal/device/mqtt/mqtttest"
)

// world is a broker's and a client's credentials under one authority.
type world struct {
	ca     authority
	server *tls.Config
	client *tls.Config
}

func newWorld(t testing.TB) world {
	ca := newAuthority(t)
	return world{
		ca: ca,
		server: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ca.issue(t, "broker", time.Now().Add(time.Hour))},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool,
		},
		client: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ca.issue(t, "pump-1", time.Now().Add(time.Hour))},
			RootCAs: ca.pool, ServerName: "broker",
		},
	}
}

func connect(t testing.TB, w world, b *mqtttest.Broker, change func(*mqtt.Options)) *mqtt.Client {
	t.Helper()
	o := mqtt.Options{Broker: b.URL(), ClientID: "pump-1", TLS: w.client}
	if change != nil {
		change(&o)
	}
	c, err := mqtt.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the TPM is gone")
}

// Verifies: SR-011
func TestRefusals(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	changed := func(c *tls.Config, change func(*tls.Config)) *tls.Config {
		c = c.Clone()
		change(c)
		return c
	}
	expired := w.ca.issue(t, "broker", time.Now().Add(-time.Hour))
	broken := w.client.Certificates[0]
	broken.PrivateKey = brokenKey{broken.PrivateKey.(crypto.Signer)}
	connack := func(code byte) func(net.Conn, packets.ControlPacket) {
		return func(c net.Conn, _ packets.ControlPacket) { c.Write([]byte{0x20, 2, 0, code}) }
	}
	for _, c := range []struct {
		name   string
		server *tls.Config
		client *tls.Config
		handle func(net.Conn, packets.ControlPacket)
		cause  mqtt.Cause
	}{
		{"broker of another authority", other.server, w.client, nil, mqtt.ServerUntrusted},
		{"broker of another name", w.server, changed(w.client, func(c *tls.Config) { c.ServerName = "elsewhere" }), nil, mqtt.ServerName},
		{"broker's certificate expired", changed(w.server, func(c *tls.Config) { c.Certificates = []tls.Certificate{expired} }), w.client, nil, mqtt.ServerUntrusted},
		{"broker speaks TLS 1.2 only", changed(w.server, func(c *tls.Config) { c.MinVersion, c.MaxVersion = 0, tls.VersionTLS12 }), w.client, nil, mqtt.ServerUntrusted},
		{"client without certificate", w.server, changed(w.client, func(c *tls.Config) { c.Certificates = nil }), nil, mqtt.Refused},
		{"client of another authority", w.server, changed(w.client, func(c *tls.Config) { c.Certificates = other.client.Certificates }), nil, mqtt.Refused},
		{"client whose key fails", w.server, changed(w.client, func(c *tls.Config) { c.Certificates = []tls.Certificate{broken} }), nil, mqtt.OwnKey},
		{"not authorised", w.server, w.client, connack(5), mqtt.Refused},
		{"client id refused", w.server, w.client, connack(2), mqtt.Refused},
		{"broker not ready", w.server, w.client, connack(3), mqtt.Unreachable},
		{"broker hangs up", w.server, w.client, func(c net.Conn, _ packets.ControlPacket) { c.Close() }, mqtt.Refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := startBroker(t, c.server, c.handle)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := mqtt.Connect(ctx, mqtt.Options{Broker: b.URL(), ClientID: "pump-1", TLS: c.client})
			var e *mqtt.ConnectError
			if !errors.As(err, &e) || e.Cause != c.cause {
				t.Errorf("%v, want cause %q", err, c.cause)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("error of more than one line: %q", err)
			}
		})
	}
	t.Run("broker without TLS", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "HTTP/1.0 400 Bad Request\r\n\r\n")
			io.Copy(io.Discard, conn)
		}()
		_, err = mqtt.Connect(t.Context(), mqtt.Options{Broker: "tls://" + l.Addr().String(), ClientID: "pump-1", TLS: w.client})
		var e *mqtt.ConnectError
		if !errors.As(err, &e) || e.Cause != mqtt.ServerUntrusted {
			t.Errorf("%v, want server untrusted", err)
		}
	})
	closed := startBroker(t, w.server, nil)
	closed.Stop()
	_, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: closed.URL(), ClientID: "pump-1", TLS: w.client})
	var e *mqtt.ConnectError
	if !errors.As(err, &e) || e.Cause != mqtt.Unreachable {
		t.Errorf("nobody listens: %v, want unreachable", err)
	}
}

// Verifies: SR-011
func TestNothingLessThanTheContract(t *testing.T) {
	w := newWorld(t)
	b := startBroker(t, w.server, nil)
	for name, o := range map[string]mqtt.Options{
		"no TLS configuration": {Broker: b.URL()},
		"no roots":             {Broker: b.URL(), TLS: &tls.Config{Certificates: w.client.Certificates}},
		"empty roots":          {Broker: b.URL(), TLS: &tls.Config{Certificates: w.client.Certificates, RootCAs: x509.NewCertPool()}},
		"no verification":      {Broker: b.URL(), TLS: &tls.Config{RootCAs: w.ca.pool, InsecureSkipVerify: true}},
		"tcp":                  {Broker: "tcp://127.0.0.1:1883", TLS: w.client},
		"no port":              {Broker: "tls://127.0.0.1", TLS: w.client},
		"a password":           {Broker: "tls://user:pass@127.0.0.1:8883", TLS: w.client},
	} {
		o.ClientID = "pump-1"
		if c, err := mqtt.Connect(t.Context(), o); err == nil {
			c.Close()
			t.Errorf("%s: connected", name)
		}
	}
	low := w.client.Clone()
	low.MinVersion, low.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	c, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: b.URL(), ClientID: "pump-1", TLS: low})
	if err != nil {
		t.Fatalf("TLS 1.3 is not enforced over a lower configuration: %v", err)
	}
	c.Close()
}

// Verifies: SR-014
func TestConnectPacket(t *testing.T) {
	w := newWorld(t)
	b := startBroker(t, w.server, nil)
	connect(t, w, b, func(o *mqtt.Options) {
		o.Will = &mqtt.Will{Topic: "ward/v1/acme/pump-1/up/status", Payload: []byte(`{"state":"lost"}`), Retain: true}
		o.KeepAlive = 20 * time.Second
	})
	p := b.Received()[0].(*packets.ConnectPacket)
	if p.ProtocolVersion != 4 || p.ClientIdentifier != "pump-1" || !p.CleanSession || p.Keepalive != 20 ||
		!p.WillFlag || !p.WillRetain || p.WillQos != 1 || p.WillTopic != "ward/v1/acme/pump-1/up/status" || string(p.WillMessage) != `{"state":"lost"}` {
		t.Errorf("CONNECT: %+v", p)
	}
}

func TestPublishAndSubscribe(t *testing.T) {
	w := newWorld(t)
	refuse := false
	b := startBroker(t, w.server, func(conn net.Conn, p packets.ControlPacket) {
		if s, ok := p.(*packets.SubscribePacket); ok && refuse {
			conn.Write([]byte{0x90, 3, byte(s.MessageID >> 8), byte(s.MessageID), 0x80})
			return
		}
		mqtttest.Obey(conn, p)
		if m, ok := p.(*packets.PublishPacket); ok {
			m.Write(conn) // sends everything back
		}
	})
	c := connect(t, w, b, nil)
	if err := c.Subscribe(t.Context(), "ward/v1/acme/pump-1/down/receipt"); err != nil {
		t.Fatal(err)
	}
	refuse = true
	if err := c.Subscribe(t.Context(), "ward/v1/acme/pump-2/down/receipt"); !errors.Is(err, mqtt.ErrNotPermitted) {
		t.Errorf("refused subscription: %v, want ErrNotPermitted", err)
	}
	if err := c.Publish(t.Context(), "a/b", true, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if m := <-c.Messages(); m.Topic != "a/b" || string(m.Payload) != "hello" || !m.Retained {
		t.Errorf("back came %+v", m)
	}
	if err := c.Publish(t.Context(), "a/b", false, make([]byte, mqtt.MaxPayload+1)); !errors.Is(err, mqtt.ErrTooLarge) {
		t.Errorf("large payload: %v, want ErrTooLarge", err)
	}
	if err := c.Publish(t.Context(), "a/b", false, bytes.Repeat([]byte("x"), mqtt.MaxPayload)); err != nil {
		t.Errorf("payload at the bound: %v", err)
	}
	if m := <-c.Messages(); len(m.Payload) != mqtt.MaxPayload {
		t.Errorf("back came %d bytes", len(m.Payload))
	}
	b.Drop()
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the lost connection was not noticed")
	}
	if err := c.Err(); !errors.Is(err, mqtt.ErrClosed) {
		t.Errorf("after the loss: %v", err)
	}
	if err := c.Publish(t.Context(), "a/b", false, nil); !errors.Is(err, mqtt.ErrClosed) {
		t.Errorf("publish after the loss: %v", err)
	}
}

// A broker is not trusted: what it sends must neither grow the memory nor end
// the process.
func TestHostileBroker(t *testing.T) {
	w := newWorld(t)
	large := append([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 1<<20)...)
	qos2 := []byte{0x34, 7, 0, 1, 'a', 0, 1, 'x', 'y'}
	for name, answer := range map[string]func(id uint16) []byte{
		"256 MiB message":                func(uint16) []byte { return large },
		"message over the bound":         func(uint16) []byte { return publish(mqtt.MaxPayload + 2048) },
		"topic longer than its message":  func(uint16) []byte { return []byte{0x30, 4, 0xff, 0xff, 'a', 'b'} },
		"topic that leaves no packet id": func(uint16) []byte { return []byte{0x32, 4, 0, 2, 'a', 'b'} },
		"message without a topic":        func(uint16) []byte { return []byte{0x30, 1, 0} },
		"message with QoS 2":             func(uint16) []byte { return qos2 },
		"two answers to one filter":      func(id uint16) []byte { return []byte{0x90, 4, byte(id >> 8), byte(id), 1, 1} },
		"unsubscribe acknowledgement":    func(id uint16) []byte { return []byte{0xb0, 2, byte(id >> 8), byte(id)} },
		"reserved type":                  func(uint16) []byte { return []byte{0x00, 0x00} },
		"length that never ends":         func(uint16) []byte { return []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff} },
		"acknowledgement with content":   func(id uint16) []byte { return []byte{0x40, 9, byte(id >> 8), byte(id), 0, 0, 0, 0, 0, 0, 0} },
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, w.server, func(conn net.Conn, p packets.ControlPacket) {
				if s, ok := p.(*packets.SubscribePacket); ok {
					conn.Write(answer(s.MessageID))
					return
				}
				mqtttest.Obey(conn, p)
			})
			c := connect(t, w, b, nil)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := c.Subscribe(t.Context(), "a"); err == nil {
				t.Error("subscribed")
			}
			select {
			case <-c.Done():
			case <-time.After(5 * time.Second):
				t.Fatal("the connection stands")
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
				t.Errorf("%d bytes were reserved", grown)
			}
		})
	}
}

func publish(n int) []byte {
	b := []byte{0x30}
	b = binary.AppendUvarint(b, uint64(n+3))
	b = append(b, 0, 1, 'a')
	return append(b, make([]byte, n)...)
}

func TestFullQueue(t *testing.T) {
	w := newWorld(t)
	flood := func(conn net.Conn, p packets.ControlPacket) {
		mqtttest.Obey(conn, p)
		if _, ok := p.(*packets.SubscribePacket); ok {
			for range 100 {
				conn.Write(publish(10))
			}
		}
	}
	c := connect(t, w, startBroker(t, w.server, flood), func(o *mqtt.Options) { o.Queue = 10 })
	if err := c.Subscribe(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if c.Dropped() == 90 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if c.Dropped() != 90 || len(c.Messages()) != 10 {
		t.Errorf("%d dropped, %d wait", c.Dropped(), len(c.Messages()))
	}

	b := startBroker(t, w.server, flood)
	c = connect(t, w, b, func(o *mqtt.Options) { o.Queue, o.Backpressure = 10, true })
	if err := c.Subscribe(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		select {
		case <-c.Messages():
		case <-time.After(5 * time.Second):
			t.Fatalf("message %d did not come", i)
		}
	}
	b.Drop() // while the queue is full
	for end := time.After(5 * time.Second); c.Err() == nil; {
		select {
		case <-c.Done():
		case <-c.Messages():
		case <-end:
			t.Fatal("a full queue hides the loss of the connection")
		}
	}
	if c.Dropped() != 0 {
		t.Errorf("%d dropped in spite of backpressure", c.Dropped())
	}
}
