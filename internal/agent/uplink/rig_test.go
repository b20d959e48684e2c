package uplink_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ward/internal/agent/journal"
	"ward/internal/agent/uplink"
	"ward/internal/device/mqtt"
	"ward/internal/device/mqtt/mqtttest"
	"ward/internal/fleet/ingest"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

// rig is the whole way: a journal on the disk, the uplink, real brokers and the
// fleet's ingest, which keeps what it accepted in a file.
type rig struct {
	t   testing.TB
	pki *mqtttest.PKI

	journal *journal.Journal
	config  uplink.Config
	link    *uplink.Uplink
	events  string // the fleet's file
	fleet   ingest.Config
	stopUp  func()
	stopDn  func()

	mu     sync.Mutex
	onWire int // events that went to a broker
}

// newRig makes one; the uplink uses the addresses in their order, and the fleet
// listens at one broker.
func newRig(t testing.TB, p *mqtttest.PKI, addresses []string, fleetAt string, change func(*uplink.Config)) *rig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	receipts, err := dsse.NewKeyring(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	begun := time.Now()
	j, err := journal.Open(journal.Config{
		Dir: t.TempDir(), Source: event.Source{Tenant: "acme", Device: "pump-1"}, Boot: boot,
		Monotonic: func() time.Duration { return time.Since(begun) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, pki: p, journal: j, events: filepath.Join(dir, "events")}
	r.config = uplink.Config{
		Brokers: addresses, ServerName: mqtttest.ServerName, Tenant: "acme", Device: "pump-1", Epoch: j.Epoch(),
		Birth:    func() presence.Status { return presence.Status{Boot: boot, Session: 3, Version: "0.1"} },
		Receipts: func() *dsse.Keyring { return receipts }, Journal: j, Recorder: j, Credentials: fixed{p.Client(t, "pump-1")}, KeepAlive: time.Second, LastRetry: 2 * time.Second, Connect: r.connect,
	}
	if change != nil {
		change(&r.config)
	}
	r.fleet = ingest.Config{
		Broker: fleetAt, TLS: p.Client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: key,
		StateFile: filepath.Join(dir, "state"), EventsFile: r.events,
	}
	running := background(t, func(ctx context.Context) { _ = j.Run(ctx) })
	t.Cleanup(func() {
		r.stopUp()
		r.stopDn()
		running()
		_ = j.Close()
	})
	r.listen()
	r.up()
	return r
}

// background runs something until the returned function is called.
func background(t testing.TB, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }()
	return func() { cancel(); <-done }
}

// counted counts the events that go out.
type counted struct {
	uplink.Publisher
	r *rig
}

func (c counted) Send(topic string, retain bool, payload []byte) (mqtt.Delivery, error) {
	if _, _, kind, _ := presence.ParseTopic(topic); kind == presence.Event {
		c.r.mu.Lock()
		c.r.onWire++
		c.r.mu.Unlock()
	}
	return c.Publisher.Send(topic, retain, payload)
}

func (r *rig) connect(ctx context.Context, o mqtt.Options) (uplink.Publisher, error) {
	c, err := mqtt.Connect(ctx, o)
	if err != nil {
		return nil, err
	}
	return counted{c, r}, nil
}

// up starts the uplink.
func (r *rig) up() {
	r.link = uplink.New(r.config)
	r.stopUp = background(r.t, func(ctx context.Context) {
		if err := r.link.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
}

// listen starts the fleet.
func (r *rig) listen() {
	r.t.Helper()
	i, err := ingest.New(r.fleet)
	if err != nil {
		r.t.Fatal(err)
	}
	r.stopDn = background(r.t, func(ctx context.Context) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range i.Messages() {
			}
		}()
		if err := i.Run(ctx); err != nil {
			r.t.Error(err)
		}
		<-done
	})
}

// record records events, every tenth of them grave, so that it is on the disk at
// once.
func (r *rig) record(n int) {
	r.t.Helper()
	for i := range n {
		f := finding.New(finding.LinkDown, fmt.Sprintf("event %d", i))
		if i%10 == 9 {
			f = finding.New(finding.IMAUnknownFile, fmt.Sprintf("event %d", i))
		}
		if err := r.journal.Record(r.t.Context(), event.Event{Type: event.FindingIncident, Subject: "test", Severity: f.Severity, Finding: &f}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// healed waits until the fleet has confirmed all that was recorded.
func (r *rig) healed() {
	r.t.Helper()
	until(r.t, "the fleet has confirmed everything", func() bool {
		s := r.journal.Status()
		return s.Sequence > 0 && s.Acknowledged == s.Sequence
	}, func() string { return fmt.Sprintf("%+v\n%+v", r.journal.Status(), r.link.Status()) })
}

// check reads what the fleet has accepted: every record of the journal once, in
// order, byte for byte.
func (r *rig) check() (events, duplicates int) {
	r.t.Helper()
	b, err := os.ReadFile(r.events)
	if err != nil {
		r.t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	var head chain.Hash
	var sequence uint64
	for lines.Scan() {
		e, err := event.Parse(lines.Bytes())
		if err != nil {
			r.t.Fatalf("behind record %d at the fleet: %v", sequence, err)
		}
		if e.Sequence != sequence+1 || e.Prev != head {
			r.t.Fatalf("behind record %d at the fleet comes %d, with %s before it, want %s", sequence, e.Sequence, e.Prev, head)
		}
		sequence, head = e.Sequence, chain.Next(lines.Bytes())
	}
	if s := r.journal.Status(); sequence != s.Sequence || head != s.Head {
		r.t.Fatalf("the fleet ends with record %d and %s, the journal with %d and %s", sequence, head, s.Sequence, s.Head)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(sequence), r.onWire - int(sequence)
}

// until waits as long as a broken test may last, not as long as a good one does.
func until(t testing.TB, what string, ok func() bool, more func() string) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in time: %s: %s", what, more())
}
