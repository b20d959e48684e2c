package mqtt_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/device/mqtt/mqtttest"
)

// accept answers a request for a websocket as RFC 6455, section 4.2.2 asks.
func accept(r *http.Request, protocol, more string) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return fmt.Sprintf("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n%s\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), protocol, more)
}

// frame is a websocket frame from a server.
func frame(first byte, announced uint64, content []byte) []byte {
	b := []byte{first}
	switch {
	case announced < 126:
		b = append(b, byte(announced))
	case announced < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(announced))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), announced)
	}
	return append(b, content...)
}

func binaryFrame(content ...byte) []byte { return frame(0x82, uint64(len(content)), content) }

// A server of the fleet's that was taken over, or that is no broker: what it
// sends in the place of a websocket, or in it, ends the connection with its
// cause, and reserves no memory.
//
// Verifies: SR-064
func TestHostileWebsocket(t *testing.T) {
	p := mqtttest.NewPKI(t)
	upgraded := func(then func(net.Conn)) func(net.Conn, *http.Request) {
		return func(c net.Conn, r *http.Request) { io.WriteString(c, accept(r, "mqtt", "")); then(c) }
	}
	sends := func(b []byte) func(net.Conn, *http.Request) {
		return upgraded(func(c net.Conn) { c.Write(b); io.Copy(io.Discard, c) })
	}
	floods := func(b []byte) func(net.Conn, *http.Request) {
		block := []byte(strings.Repeat(string(b), 1000))
		return upgraded(func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for n := 0; n < 100<<20; n += len(block) {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		})
	}
	say := func(answer string) func(net.Conn, *http.Request) {
		return func(c net.Conn, _ *http.Request) { io.WriteString(c, answer) }
	}
	for _, c := range []struct {
		name  string
		serve func(net.Conn, *http.Request)
		cause mqtt.Cause
		text  string
	}{
		{"no such path", say("HTTP/1.1 404 x\r\n\r\n"), mqtt.Protocol, "404 Not Found"},
		{"redirect", say("HTTP/1.1 302 x\r\nLocation: https://elsewhere/\r\n\r\n"), mqtt.Protocol, "302 Found"},
		{"a page", say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), mqtt.Protocol, "200 OK"},
		{"not for this device", say("HTTP/1.1 403 x\r\n\r\n"), mqtt.Refused, "403 Forbidden"},
		{"no broker behind it", say("HTTP/1.1 503 x\r\n\r\n"), mqtt.Unreachable, "503 Service Unavailable"},
		{"no HTTP", say("\x20\x02\x00\x00\r\n\r\n"), mqtt.Protocol, "no HTTP answer"},
		{"hangs up", say(""), mqtt.Refused, "EOF"},
		{"a head without end", func(c net.Conn, _ *http.Request) { endless(c, "HTTP/1.1 101 x\r\n", "X-Filler: ") }, mqtt.Protocol, "a head of more than 16384 bytes"},
		{"wrong accept", say("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"), mqtt.Protocol, "101"},
		{"another subprotocol", func(c net.Conn, r *http.Request) { io.WriteString(c, accept(r, "chat", "")) }, mqtt.Protocol, `websocket for "chat"`},
		{"compression unasked", func(c net.Conn, r *http.Request) {
			io.WriteString(c, accept(r, "mqtt", "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"))
		}, mqtt.Protocol, "extensions"},
		{"frame of 2^63 bytes", sends(frame(0x82, 1<<63, nil)), mqtt.Protocol, "read limit exceeded"},
		{"frame of 100 MiB", sends(frame(0x82, 100<<20, nil)), mqtt.Protocol, "read limit exceeded"},
		{"message without end in pieces", upgraded(func(c net.Conn) {
			go io.Copy(io.Discard, c)
			piece, first := make([]byte, 1<<14), byte(0x02)
			for {
				if _, err := c.Write(frame(first, uint64(len(piece)), piece)); err != nil {
					return
				}
				first = 0
			}
		}), mqtt.Protocol, ""},
		{"empty pieces without end", upgraded(func(c net.Conn) {
			go io.Copy(io.Discard, c)
			c.Write([]byte{0x02, 0})
			for {
				if _, err := c.Write(make([]byte, 2000)); err != nil {
					return
				}
			}
		}), mqtt.Protocol, "without content"},
		{"text", sends(frame(0x81, 4, []byte{0x20, 2, 0, 0})), mqtt.Protocol, "of text"},
		{"reserved type", sends(frame(0x83, 0, nil)), mqtt.Protocol, "bad opcode 3"},
		{"bad MASK", sends([]byte{0x82, 0x84, 1, 2, 3, 4, 0, 0, 0, 0}), mqtt.Protocol, "bad MASK"},
		{"compressed", sends(frame(0xc2, 4, []byte{0x20, 2, 0, 0})), mqtt.Protocol, "RSV1 set"},
		{"continues what never began", sends(frame(0x80, 4, []byte{0x20, 2, 0, 0})), mqtt.Protocol, "continuation after FIN"},
		{"begins in the middle", sends(append(frame(0x02, 1, []byte{0x20}), binaryFrame(2, 0, 0)...)), mqtt.Protocol, "data before FIN"},
		{"long ping", sends(frame(0x89, 126, make([]byte, 126))), mqtt.Protocol, "len > 125 for control"},
		{"ping in pieces", sends(frame(0x09, 0, nil)), mqtt.Protocol, "FIN not set on control"},
		{"pings in a flood", floods(frame(0x89, 4, []byte("ping"))), mqtt.Protocol, "without content"},
		{"pongs in a flood", floods(frame(0x8a, 0, nil)), mqtt.Protocol, "without content"},
		{"closes", sends(frame(0x88, 2, []byte{3, 233})), mqtt.Refused, "closed the websocket (1001)"},
		{"256 MiB message of MQTT", sends(binaryFrame(0x30, 0xff, 0xff, 0xff, 0x7f)), mqtt.Protocol, "message of 268435455 bytes"},
		{"CONNACK that never ends", sends(binaryFrame(0x20, 0xff, 0xff, 0xff, 0xff)), mqtt.Protocol, "length of more than 4 bytes"},
		{"CONNACK that never comes", sends(nil), mqtt.Unreachable, "deadline"},
		{"refuses in CONNACK", sends(binaryFrame(0x20, 2, 0, 5)), mqtt.Refused, "ot Authorized"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mqtttest.StartServer(t, p.Server(t), func(conn net.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				if r.URL.Path != "/mqtt" || r.Header.Get("Sec-WebSocket-Protocol") != "mqtt" || r.Header.Get("Sec-WebSocket-Extensions") != "" {
					t.Errorf("asked for %s with %v", r.URL, r.Header)
				}
				c.serve(conn, r)
			})
			patience := 20 * time.Second
			if c.cause == mqtt.Unreachable {
				patience = 500 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client := p.Client(t, "pump-1")
			var err error
			grown := allocated(func() {
				_, err = mqtt.Connect(ctx, mqtt.Options{Broker: b.WebsocketURL(), ClientID: "pump-1", TLS: client})
			})
			var e *mqtt.ConnectError
			if !errors.As(err, &e) || e.Cause != c.cause || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want cause %q with %q", err, c.cause, c.text)
			}
			if grown > 8<<20 {
				t.Errorf("%d bytes were reserved", grown)
			}
		})
	}
}

// A server that is well, and cuts its messages where it likes: a byte a frame,
// two packets in one, with pings between.
func TestWebsocketInPieces(t *testing.T) {
	p := mqtttest.NewPKI(t)
	packets := []byte{0x20, 2, 0, 0, 0x30, 6, 0, 1, 'a', 'h', 'o', 'w', 0x30, 4, 0, 1, 'a', '!'}
	for name, stream := range map[string][]byte{
		"all in one": binaryFrame(packets...),
		"a byte a message": func() (s []byte) {
			for _, c := range packets {
				s = append(append(s, binaryFrame(c)...), 0x82, 0)
			}
			return s
		}(),
		"one message in pieces, with pings": func() (s []byte) {
			for i, c := range packets {
				first := byte(0)
				switch i {
				case 0:
					first = 2
				case len(packets) - 1:
					first = 0x80
				}
				s = append(append(s, frame(first, 1, []byte{c})...), 0x89, 1, 'x')
			}
			return s
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			b := mqtttest.StartServer(t, p.Server(t), func(conn net.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				io.WriteString(conn, accept(r, "mqtt", ""))
				conn.Write(stream)
				io.Copy(io.Discard, conn)
			})
			c, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: b.WebsocketURL(), ClientID: "pump-1", TLS: p.Client(t, "pump-1")})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, want := range []string{"how", "!"} {
				select {
				case m := <-c.Messages():
					if string(m.Payload) != want {
						t.Errorf("got %q, want %q", m.Payload, want)
					}
				case <-c.Done():
					t.Fatal(c.Err())
				}
			}
		})
	}
}
