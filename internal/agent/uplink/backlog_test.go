package uplink_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ward/internal/agent/uplink"
	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/event"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
)

// deep is a journal with many records that nobody keeps: each is made when it is
// read.
type deep struct {
	records uint64
	acked   atomic.Uint64
	done    chan struct{} // closed when all are confirmed
}

// hashOf is a record's, made up: nothing here follows the chain.
func (d *deep) hashOf(sequence uint64) (h chain.Hash) {
	binary.BigEndian.PutUint64(h[:], sequence)
	return h
}

func (d *deep) Read(_ context.Context, after uint64, limit int) (out []event.Record, _ error) {
	for s := after + 1; s <= d.records && len(out) < limit; s++ {
		out = append(out, event.Record{Epoch: 1, Sequence: s, Hash: d.hashOf(s), Bytes: make([]byte, 700)})
	}
	return out, nil
}

func (d *deep) Wait(ctx context.Context, after uint64) error {
	if after < d.records {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (d *deep) Acknowledge(_, sequence uint64, head chain.Hash) error {
	if head != d.hashOf(sequence) {
		return fmt.Errorf("record %d has another hash", sequence)
	}
	d.acked.Store(max(d.acked.Load(), sequence))
	if sequence == d.records {
		close(d.done)
	}
	return nil
}

func (d *deep) Acknowledged() uint64 { return d.acked.Load() }

func (d *deep) Record(context.Context, event.Event) error { return nil }

// drain is a broker that acknowledges at once, with a fleet behind it that confirms
// every 1000th record and the last.
type drain struct {
	journal  *deep
	key      *ecdsa.PrivateKey
	messages chan mqtt.Message
	ended    chan struct{}
	once     sync.Once

	sent uint64
	look func(sent uint64)
}

var acknowledged = func() delivery {
	d := delivery{make(chan struct{})}
	close(d.done)
	return d
}()

func (c *drain) Send(topic string, _ bool, _ []byte) (mqtt.Delivery, error) {
	if _, _, kind, err := presence.ParseTopic(topic); err != nil || kind != presence.Event {
		return acknowledged, err
	}
	c.sent++
	c.look(c.sent)
	if c.sent%1000 == 0 || c.sent == c.journal.records {
		b, err := receipt.Sign(receipt.Receipt{Tenant: "acme", Device: "pump-1", Epoch: 1, Sequence: c.sent, Head: c.journal.hashOf(c.sent), Time: time.Now()}, c.key)
		if err != nil {
			return nil, err
		}
		c.messages <- mqtt.Message{Topic: presence.Topic("acme", "pump-1", presence.Receipt), Payload: b}
	}
	return acknowledged, nil
}

func (c *drain) Publish(context.Context, string, bool, []byte) error { return nil }
func (c *drain) Subscribe(context.Context, string) error             { return nil }
func (c *drain) Messages() <-chan mqtt.Message                       { return c.messages }
func (c *drain) Done() <-chan struct{}                               { return c.ended }
func (c *drain) Err() error                                          { return mqtt.ErrClosed }
func (c *drain) Close()                                              { c.once.Do(func() { close(c.ended) }) }

// BenchmarkBacklog sends what has waited until the fleet has confirmed all of it,
// and says the greatest live heap on the way.
func BenchmarkBacklog(b *testing.B) {
	for _, waiting := range []uint64{1_000, 1_000_000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(float64(liveWhileSending(b, waiting)), "live-B")
			}
		})
	}
}

func liveWhileSending(b *testing.B, waiting uint64) (most uint64) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	keys, err := dsse.NewKeyring(key.Public())
	if err != nil {
		b.Fatal(err)
	}
	d := &deep{records: waiting, done: make(chan struct{})}
	conn := &drain{journal: d, key: key, messages: make(chan mqtt.Message, 64), ended: make(chan struct{})}
	conn.look = func(sent uint64) {
		if sent%(waiting/10) != 0 {
			return
		}
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		most = max(most, s.HeapAlloc)
	}
	c := uplink.Config{
		Brokers: []string{"tls://a:8883"}, DailyBytes: 1 << 40, ServerName: "broker", Tenant: "acme", Device: "pump-1", Epoch: 1,
		Birth:    func() presence.Status { return presence.Status{Boot: boot, Session: 3, Version: "0.1"} },
		Receipts: func() *dsse.Keyring { return keys }, Journal: d, Recorder: d, Credentials: &credentials{},
		Connect: func(context.Context, mqtt.Options) (uplink.Publisher, error) { return conn, nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- uplink.New(c).Run(ctx) }()
	<-d.done
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	return most
}
