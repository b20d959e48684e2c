package uplink_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	gonet "net"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"ward/internal/agent/uplink"
	"ward/internal/device/mqtt"
	"ward/internal/device/mqtt/mqtttest"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
)

const down = "ward/v1/acme/pump-1/down/"

// message is a PUBLISH of a broker, header and all.
func publish(topic string, flags byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	b = append(b, topic...)
	if flags>>1&3 > 0 {
		b = append(b, 0, 7)
	}
	b = append(b, payload...)
	return append(binary.AppendUvarint([]byte{0x30 | flags}, uint64(len(b))), b...)
}

// fleetBroker is an honest broker with an honest fleet behind it.
func fleetBroker(n *net) mqtttest.Handler {
	return func(conn gonet.Conn, p packets.ControlPacket) {
		mqtttest.Obey(conn, p)
		m, ok := p.(*packets.PublishPacket)
		if !ok {
			return
		}
		if _, _, kind, _ := presence.ParseTopic(m.TopicName); kind != presence.Event {
			return
		}
		d, err := event.Parse(m.Payload)
		if err != nil {
			n.t.Errorf("event: %v", err)
			return
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if d.Sequence == n.last+1 && d.Prev == n.head {
			n.last, n.head = d.Sequence, chain.Next(m.Payload)
		}
		if n.last > 0 {
			conn.Write(publish(down+"receipt", 0, n.receipt(n.last, n.head).Payload))
		}
	}
}

// A broker in other hands, or one that is broken: nothing that it does frees a
// record, takes memory or keeps the device from its work; what is wrong is a
// finding, and not one for every message; and when an honest broker is back,
// everything goes up.
//
// Verifies: SR-067
func TestHostileBroker(t *testing.T) {
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// attack is what a broker sends when the device has asked for receipts.
	type attack func(conn gonet.Conn, n *net, m *memory)
	send := func(times int, message func(n *net, m *memory) []byte) attack {
		return func(conn gonet.Conn, n *net, m *memory) {
			b := message(n, m)
			go func() {
				block, n := b, 1
				if len(b) < 1<<10 {
					block, n = bytes.Repeat(b, min(times, 100)), 100
				}
				for sent := 0; sent < times; sent += n {
					if _, err := conn.Write(block); err != nil {
						return
					}
				}
			}()
		}
	}
	signed := func(change func(r *receipt.Receipt), key *ecdsa.PrivateKey) func(n *net, m *memory) []byte {
		return func(n *net, m *memory) []byte {
			m.mu.Lock()
			r := receipt.Receipt{Tenant: "acme", Device: "pump-1", Epoch: 2, Sequence: 10, Head: m.records[9].Hash, Time: time.Now()}
			m.mu.Unlock()
			change(&r)
			if key == nil {
				key = n.key
			}
			b, err := receipt.Sign(r, key)
			if err != nil {
				n.t.Error(err)
			}
			return publish(down+"receipt", 0, b)
		}
	}
	raw := func(b []byte) func(*net, *memory) []byte { return func(*net, *memory) []byte { return b } }
	same := func(*receipt.Receipt) {}
	const invalid, foreign, protocol = "incident link.receipt-invalid", "incident link.receipt-foreign-head", "raised link.protocol"
	for _, c := range []struct {
		name   string
		attack attack
		handle func(p packets.ControlPacket, conn gonet.Conn) bool // true: answered
		want   []string                                            // at least these; empty: nothing
		known  bool                                                // record 12 was confirmed before
	}{
		{name: "forged receipts", attack: send(50, signed(same, stranger)), want: []string{invalid}},
		{name: "receipts of another device", attack: send(50, signed(func(r *receipt.Receipt) { r.Device = "pump-2" }, nil)), want: []string{invalid}},
		{name: "receipts of another tenant", attack: send(50, signed(func(r *receipt.Receipt) { r.Tenant = "other" }, nil)), want: []string{invalid}},
		{name: "receipts of an older head", attack: send(50, signed(same, nil)), known: true},
		{name: "receipts of an earlier epoch", attack: send(50, signed(func(r *receipt.Receipt) { r.Epoch = 1 }, nil))},
		{name: "receipts of a later epoch", attack: send(50, signed(func(r *receipt.Receipt) { r.Epoch = 3 }, nil)), want: []string{foreign}},
		{name: "receipts of another head", attack: send(50, signed(func(r *receipt.Receipt) { r.Head[0]++ }, nil)), want: []string{foreign}},
		{name: "receipts of records to come", attack: send(50, signed(func(r *receipt.Receipt) { r.Sequence = 5000 }, nil)), want: []string{foreign}},
		{name: "flood of forged receipts", attack: send(50_000, signed(same, stranger)), want: []string{invalid, protocol}},
		{name: "flood of questions", attack: send(50_000, raw(publish(down+"challenge", 0, []byte("?")))), want: []string{"incident link.challenge-invalid", protocol}},
		{name: "flood to be acknowledged", attack: send(50_000, raw(publish(down+"receipt", 2, make([]byte, 1000)))), want: []string{protocol}},
		{name: "flood of large messages", attack: send(20_000, raw(publish(down+"receipt", 0, make([]byte, 8<<10)))), want: []string{protocol}},
		{name: "message over the bound", attack: send(1, raw(publish(down+"receipt", 0, make([]byte, 10<<10)))), want: []string{protocol}},
		{name: "100 MiB announced and sent", attack: send(100, raw(append([]byte{0x30, 0x80, 0x80, 0x80, 0x32}, make([]byte, 1<<20)...))), want: []string{protocol}},
		{name: "QoS 2", attack: send(1, raw(publish(down+"receipt", 4, []byte("x")))), want: []string{protocol}},
		{name: "QoS 3", attack: send(1, raw(publish(down+"receipt", 6, []byte("x")))), want: []string{protocol}},
		{name: "retained garbage", attack: send(1, raw(publish(down+"receipt", 1, bytes.Repeat([]byte{0xff}, 8<<10)))), want: []string{invalid}},
		{name: "other topics", attack: send(50, raw(publish("ward/v1/acme/pump-2/down/receipt", 0, []byte("x")))), want: []string{invalid}},
		{name: "a topic of control characters", attack: send(50, raw(publish("\x00\x1b[2J\n", 0, []byte("x")))), want: []string{invalid}},
		{name: "PUBLISH that lies about its topic", attack: send(1, raw([]byte{0x30, 4, 0xff, 0xff, 'a', 'b'})), want: []string{protocol}},
		{name: "acknowledgements of what was never sent", attack: send(500, raw([]byte{0x40, 2, 0xff, 0xfe})), want: nil},
		{name: "SUBACK refuses", handle: func(p packets.ControlPacket, conn gonet.Conn) bool {
			if s, ok := p.(*packets.SubscribePacket); ok {
				conn.Write([]byte{0x90, 3, byte(s.MessageID >> 8), byte(s.MessageID), 0x80})
				return true
			}
			return false
		}, want: []string{"raised link.subscribe-refused", "raised link.challenge-refused"}},
		{name: "SUBACK for two", handle: func(p packets.ControlPacket, conn gonet.Conn) bool {
			if s, ok := p.(*packets.SubscribePacket); ok {
				conn.Write([]byte{0x90, 4, byte(s.MessageID >> 8), byte(s.MessageID), 1, 1})
				return true
			}
			return false
		}, want: []string{protocol}},
		{name: "CONNACK without end", handle: func(p packets.ControlPacket, conn gonet.Conn) bool {
			if _, ok := p.(*packets.ConnectPacket); ok {
				go func() {
					for {
						if _, err := conn.Write([]byte{0x20, 0xff, 0xff, 0xff, 0xff, 0xff}); err != nil {
							return
						}
					}
				}()
				return true
			}
			return false
		}, want: []string{protocol}},
		{name: "slow loris", handle: func(p packets.ControlPacket, conn gonet.Conn) bool {
			if _, ok := p.(*packets.SubscribePacket); ok {
				go func() {
					for _, b := range publish(down+"receipt", 0, make([]byte, 1000)) {
						if _, err := conn.Write([]byte{b}); err != nil {
							return
						}
						time.Sleep(100 * time.Millisecond)
					}
				}()
				return true
			}
			return false
		}, want: []string{"raised link.down"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "slow loris" {
				t.Parallel() // waits for half a minute
			}
			p := mqtttest.NewPKI(t)
			n, m := newNet(t), newMemory()
			n.epoch, m.epoch = 2, 2
			m.add(t, 20)
			if c.known {
				m.acked = 12
			}
			confirmed := m.acked
			before := m.len()
			broker := mqtttest.StartBroker(t, p.Server(t), func(conn gonet.Conn, p packets.ControlPacket) {
				if c.handle != nil && c.handle(p, conn) {
					return
				}
				mqtttest.Obey(conn, p)
				if s, ok := p.(*packets.SubscribePacket); ok && c.attack != nil && s.Topics[0] == down+"receipt" {
					c.attack(conn, n, m)
				}
			})
			var alive atomic.Int64
			config := config(t, m, n)
			config.Brokers, config.ServerName, config.Credentials, config.Connect = []string{broker.URL()}, mqtttest.ServerName, fixed{p.Client(t, "pump-1")}, nil
			config.Epoch, config.LastRetry, config.Alive = 2, time.Second, func() { alive.Add(1) }
			config.Attester, config.Challenges = &tpm{size: 100}, config.Receipts
			start := live()
			most := make(chan uint64, 1)
			watching := background(t, func(ctx context.Context) { most <- heap(ctx) })
			u := uplink.New(config)
			stop := background(t, func(ctx context.Context) { _ = u.Run(ctx) })
			defer func() { stop() }()

			tell := func() string { return fmt.Sprintf("%v, %+v", m.findings(before), u.Status()) }
			until(t, "what is wrong is a finding", func() bool {
				got := m.findings(before)
				for _, w := range c.want {
					if !slices.Contains(got, w) {
						return false
					}
				}
				return true
			}, tell)
			m.add(t, 100) // the others' work goes on
			if len(c.want) == 0 {
				until(t, "the events have gone up in spite of it", func() bool { return u.Status().Sent >= uint64(before) }, tell)
				time.Sleep(500 * time.Millisecond) // nothing else happens
			}
			watching()
			if got := <-most; got > start+16<<20 {
				t.Errorf("the heap grew from %d to %d bytes", start, got)
			} else {
				t.Logf("the heap grew by %d KiB at most", (int64(got)-int64(start))>>10)
			}
			if m.Acknowledged() != confirmed {
				t.Errorf("%d records were freed, want %d", m.Acknowledged(), confirmed)
			}
			if alive.Load() == 0 {
				t.Error("no progress was told")
			}
			got := slices.DeleteFunc(m.findings(before), func(f string) bool { return f == "ward.link.connected" || f == "ward.boot.verdict" })
			if len(got) > len(c.want)+3 || len(c.want) == 0 && len(got) > 0 {
				t.Errorf("recorded %v, want %v", got, c.want)
			}
			t.Logf("recorded %v", got)

			broker.Handle(fleetBroker(n))
			n.mu.Lock()
			if c.known {
				n.last, n.head = 12, m.records[11].Hash
			}
			n.mu.Unlock()
			broker.Drop()
			until(t, "an honest broker gets everything", func() bool { return m.Acknowledged() == uint64(m.len()) }, tell)
			for _, packet := range broker.Received() {
				switch s := packet.(type) {
				case *packets.SubscribePacket:
					if len(s.Topics) != 1 || s.Topics[0] != down+"receipt" && s.Topics[0] != down+"challenge" || s.Qoss[0] != 1 {
						t.Errorf("subscribed to %q with QoS %v", s.Topics, s.Qoss)
					}
				case *packets.ConnectPacket, *packets.PublishPacket, *packets.PubackPacket, *packets.PingreqPacket, *packets.DisconnectPacket:
				default:
					t.Errorf("sent %T", s)
				}
			}
		})
	}
}

// heap is the most that the heap held, as collections found it, until ctx ended.
func heap(ctx context.Context) (most uint64) {
	for ctx.Err() == nil {
		most = max(most, live())
		time.Sleep(20 * time.Millisecond)
	}
	return most
}

// live is what a collection leaves.
func live() uint64 {
	runtime.GC()
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

var _ uplink.Publisher = (*mqtt.Client)(nil)
