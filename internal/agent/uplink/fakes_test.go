package uplink_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"ward/internal/agent/uplink"
	"ward/internal/contracttest"
	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/event"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
)

const boot = "2a1b3c4d-0000-4000-8000-000000000001"

// memory is a journal in memory that is its own recorder.
type memory struct {
	mu      sync.Mutex
	epoch   uint64
	records []event.Record
	acked   uint64
	changed chan struct{}
	fail    error
}

func newMemory() *memory { return &memory{epoch: 1, changed: make(chan struct{})} }

func (m *memory) Record(_ context.Context, e event.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	s := event.Stamp{Source: event.Source{Tenant: "acme", Device: "pump-1"}, Epoch: m.epoch, Sequence: uint64(len(m.records)) + 1, Boot: boot}
	if n := len(m.records); n > 0 {
		s.Prev = m.records[n-1].Hash
	}
	b, err := event.Encode(e, s)
	if err != nil {
		return err
	}
	m.records = append(m.records, event.Record{Epoch: m.epoch, Sequence: s.Sequence, Hash: chain.Next(b), Bytes: b})
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

func (m *memory) add(t testing.TB, n int) {
	t.Helper()
	for range n {
		if err := m.Record(t.Context(), event.Event{Type: event.DaemonStopped, Severity: finding.Info, Report: []byte(`{"session":3}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *memory) Read(_ context.Context, after uint64, limit int) ([]event.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	if after >= uint64(len(m.records)) {
		return nil, nil
	}
	rest := m.records[after:]
	return append([]event.Record(nil), rest[:min(limit, len(rest))]...), nil
}

func (m *memory) Wait(ctx context.Context, after uint64) error {
	for {
		m.mu.Lock()
		changed, n := m.changed, uint64(len(m.records))
		m.mu.Unlock()
		if n > after {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memory) Acknowledge(epoch, sequence uint64, head chain.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sequence > uint64(len(m.records)) || m.records[sequence-1].Hash != head {
		return fmt.Errorf("the head is not this journal's: %w", chain.ErrFork)
	}
	m.acked = max(m.acked, sequence)
	return nil
}

// forget goes back to what was confirmed up to a record.
func (m *memory) forget(sequence uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked = sequence
}

func (m *memory) Acknowledged() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acked
}

// findings lists what was recorded about the link since record n.
func (m *memory) findings(n int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, r := range m.records[n:] {
		d, err := event.Parse(r.Bytes)
		if err != nil {
			panic(err)
		}
		switch {
		case d.Finding != nil:
			out = append(out, strings.TrimPrefix(d.Type, "ward.finding.")+" "+string(d.Finding.Code))
		case strings.HasPrefix(d.Type, "ward.link."):
			out = append(out, d.Type)
		}
	}
	return out
}

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

// message is what went over the wire.
type message struct {
	kind    presence.Kind
	retain  bool
	payload []byte
}

// net is brokers and a fleet behind them.
type net struct {
	t     testing.TB
	key   *ecdsa.PrivateKey
	epoch uint64 // that receipts are for

	mu        sync.Mutex
	refuse    map[string]error // by broker: why a connection fails
	noAck     bool             // the broker acknowledges nothing
	noReceipt bool             // the fleet answers nothing
	noSub     bool             // the broker refuses the subscription to receipts
	noAsk     bool             // and that to challenges
	slow      time.Duration    // how long the broker takes to acknowledge a part
	flying    int              // parts that it has not acknowledged
	mostParts int              // how many there were at most
	assembler evidence.Assembler
	documents [][]byte // of evidence, as they arrived
	got       []message
	conns     []*conn
	dials     []string
	dialled   []time.Time    // when
	slowDial  time.Duration  // how long a dial takes
	onDial    func()         // called once when a dial has succeeded, if not nil
	seen      map[uint64]int // how often each record arrived
	last      uint64         // the fleet's last record, in order
	head      chain.Hash
}

func newNet(t testing.TB) *net {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &net{t: t, key: key, epoch: 1, refuse: make(map[string]error), seen: make(map[uint64]int)}
}

func (n *net) connect(_ context.Context, o mqtt.Options) (uplink.Publisher, error) {
	n.mu.Lock()
	slow := n.slowDial
	n.mu.Unlock()
	time.Sleep(slow)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials, n.dialled = append(n.dials, o.Broker), append(n.dialled, time.Now())
	if err := n.refuse[o.Broker]; err != nil {
		return nil, &mqtt.ConnectError{Broker: o.Broker, Cause: causes[err], Err: err}
	}
	c := &conn{net: n, options: o, messages: make(chan mqtt.Message, 64), done: make(chan struct{})}
	n.conns = append(n.conns, c)
	if n.onDial != nil {
		n.onDial()
		n.onDial = nil
	}
	return c, nil
}

var (
	errDown      = errors.New("no route to host")
	errUntrusted = errors.New("certificate signed by unknown authority")
	errName      = errors.New("certificate is valid for another name")
	errRefused   = errors.New("bad certificate")
	errProxy     = errors.New("the proxy refuses: 407")
	errOther     = errors.New("the server answers 404")
	causes       = map[error]mqtt.Cause{errProxy: mqtt.ProxyRefused, errOther: mqtt.Protocol, errDown: mqtt.Unreachable, errUntrusted: mqtt.ServerUntrusted, errName: mqtt.ServerName, errRefused: mqtt.Refused}
)

func (n *net) set(broker string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse[broker] = err
}

// current is the newest connection.
func (n *net) current() *conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.conns) == 0 {
		n.t.Fatal("there has been no connection")
	}
	return n.conns[len(n.conns)-1]
}

// statuses lists the states that were published.
func (n *net) statuses() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, m := range n.got {
		if m.kind == presence.State {
			s, err := presence.Parse(m.payload)
			if err != nil || !m.retain {
				n.t.Errorf("status %s: %v, retained %t", m.payload, err, m.retain)
			}
			out = append(out, s.State)
		}
	}
	return out
}

// take is the fleet: it accepts what is next and answers with a receipt.
func (n *net) take(c *conn, m message) {
	if m.kind == presence.Evidence {
		d, err := n.assembler.Add(m.payload)
		if err != nil {
			n.t.Errorf("evidence: %v", err)
		}
		if d != nil {
			n.documents = append(n.documents, d)
		}
		return
	}
	var sequence uint64
	var hash, prev chain.Hash
	switch m.kind {
	case presence.Event:
		d, err := event.Parse(m.payload)
		if err != nil {
			n.t.Errorf("event: %v", err)
			return
		}
		sequence, hash, prev = d.Sequence, chain.Next(m.payload), d.Prev
	case presence.ShedEvent:
		s, err := presence.ParseShed(m.payload)
		if err != nil {
			n.t.Errorf("shed: %v", err)
			return
		}
		sequence, hash, prev = s.Sequence, s.Hash, n.head
	default:
		return
	}
	n.seen[sequence]++
	if n.noReceipt || sequence != n.last+1 {
		return
	}
	if prev != n.head {
		n.t.Errorf("record %d does not follow", sequence)
	}
	n.last, n.head = sequence, hash
	answer := n.receipt(sequence, hash)
	if err := contracttest.Check(answer.Topic, answer.Payload); err != nil {
		n.t.Error(err)
	}
	c.push(answer)
}

func (n *net) receipt(sequence uint64, head chain.Hash) mqtt.Message {
	return n.sign(receipt.Receipt{Tenant: "acme", Device: "pump-1", Epoch: n.epoch, Sequence: sequence, Head: head, Time: time.Now()}, n.key)
}

func (n *net) sign(r receipt.Receipt, key *ecdsa.PrivateKey) mqtt.Message {
	b, err := receipt.Sign(r, key)
	if err != nil {
		n.t.Fatal(err)
	}
	return mqtt.Message{Topic: "ward/v1/acme/pump-1/down/receipt", Payload: b}
}

// conn is one connection.
type conn struct {
	net      *net
	options  mqtt.Options
	messages chan mqtt.Message
	filters  []string
	once     sync.Once
	done     chan struct{}
}

type delivery struct{ done chan struct{} }

func (d delivery) Done() <-chan struct{} { return d.done }
func (d delivery) Error() error          { return nil }

// push queues a message as device/mqtt does: when the queue is full, the oldest
// goes.
func (c *conn) push(m mqtt.Message) {
	for {
		select {
		case c.messages <- m:
			return
		default:
		}
		select {
		case <-c.messages:
		default:
		}
	}
}

func (c *conn) Send(topic string, retain bool, payload []byte) (mqtt.Delivery, error) {
	if err := c.Err(); err != nil {
		return nil, err
	}
	tenant, device, kind, err := presence.ParseTopic(topic)
	if err != nil || tenant != "acme" || device != "pump-1" || len(payload) > presence.MaxPayload {
		c.net.t.Errorf("message on %s with %d bytes: %v", topic, len(payload), err)
	}
	if err := contracttest.Check(topic, payload); err != nil {
		c.net.t.Error(err)
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	d := delivery{make(chan struct{})}
	if c.net.noAck {
		return d, nil
	}
	if kind == presence.Evidence && c.net.slow > 0 {
		c.net.flying++
		c.net.mostParts = max(c.net.mostParts, c.net.flying)
		time.AfterFunc(c.net.slow, func() {
			c.net.mu.Lock()
			defer c.net.mu.Unlock()
			c.net.flying--
			close(d.done)
		})
	} else {
		close(d.done)
	}
	m := message{kind, retain, payload}
	c.net.got = append(c.net.got, m)
	c.net.take(c, m)
	return d, nil
}

func (c *conn) Publish(ctx context.Context, topic string, retain bool, payload []byte) error {
	d, err := c.Send(topic, retain, payload)
	if err != nil {
		return err
	}
	select {
	case <-d.Done():
		return nil
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *conn) Subscribe(_ context.Context, filter string) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.filters = append(c.filters, filter)
	if c.net.noSub && filter == "ward/v1/acme/pump-1/down/receipt" || c.net.noAsk && filter == "ward/v1/acme/pump-1/down/challenge" {
		return fmt.Errorf("subscribe: %w", mqtt.ErrNotPermitted)
	}
	return nil
}

func (c *conn) Messages() <-chan mqtt.Message { return c.messages }
func (c *conn) Done() <-chan struct{}         { return c.done }
func (c *conn) Close()                        { c.once.Do(func() { close(c.done) }) }

func (c *conn) Err() error {
	select {
	case <-c.done:
		return mqtt.ErrClosed
	default:
		return nil
	}
}

// credentials are there, or not yet.
type credentials struct {
	mu   sync.Mutex
	none bool
}

func (c *credentials) TLS(ctx context.Context) (*tls.Config, error) {
	for {
		c.mu.Lock()
		none := c.none
		c.mu.Unlock()
		if !none {
			return &tls.Config{MinVersion: tls.VersionTLS13}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func config(t testing.TB, m *memory, n *net) uplink.Config {
	keys, err := dsse.NewKeyring(n.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return uplink.Config{
		Brokers: []string{"tls://a:8883", "tls://b:8883"}, ServerName: "broker", Tenant: "acme", Device: "pump-1", Epoch: 1,
		Birth: func() presence.Status {
			return presence.Status{Boot: boot, Session: 3, Release: "4.2.0", Version: "0.1", Capabilities: []string{"ima"}}
		},
		Receipts: func() *dsse.Keyring { return keys }, Journal: m, Recorder: m, Credentials: &credentials{}, Connect: n.connect,
	}
}
