package ingest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"sync"
	"testing"
	"time"

	"ward/internal/agent/uplink"
	"ward/internal/contracttest"
	"ward/internal/fleet/ingest"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

const boot = "2a1b3c4d-0000-4000-8000-000000000001"

// record makes the next record of a device's chain.
func record(t testing.TB, device string, epoch, sequence uint64, prev chain.Hash, detail string) event.Record {
	t.Helper()
	f := finding.New(finding.IMAUnknownFile, detail)
	b, err := event.Encode(
		event.Event{Type: event.FindingIncident, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Severity: f.Severity, Finding: &f},
		event.Stamp{Source: event.Source{Tenant: "acme", Device: device}, Epoch: epoch, Sequence: sequence, Boot: boot, Prev: prev})
	if err != nil {
		t.Fatal(err)
	}
	return event.Record{Epoch: epoch, Sequence: sequence, Hash: chain.Next(b), Bytes: b}
}

// device is a device's journal with its uplink.
type device struct {
	t testing.TB

	mu      sync.Mutex
	records []event.Record
	acked   uint64
	changed chan struct{}
	link    *uplink.Uplink
	config  uplink.Config
}

func newDevice(t testing.TB, broker string, tlsConfig *tls.Config, receipts *dsse.Keyring) *device {
	d := &device{t: t, changed: make(chan struct{})}
	d.config = uplink.Config{
		Brokers: []string{broker}, ServerName: "broker", Tenant: "acme", Device: "pump-1", Epoch: 1,
		Birth: func() presence.Status {
			return presence.Status{Boot: boot, Session: 3, Release: "4.2.0", Version: "0.1", Capabilities: []string{"ima"}}
		},
		Receipts: func() *dsse.Keyring { return receipts }, Journal: d, Recorder: d, Credentials: fixed{tlsConfig},
	}
	return d
}

// run runs the uplink until the returned function is called.
func (d *device) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	d.link = uplink.New(d.config)
	go func() { done <- d.link.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				d.t.Error(err)
			}
		})
	}
	d.t.Cleanup(stop)
	return stop
}

func (d *device) add(n int) {
	for range n {
		d.mu.Lock()
		var prev chain.Hash
		if k := len(d.records); k > 0 {
			prev = d.records[k-1].Hash
		}
		d.records = append(d.records, record(d.t, "pump-1", 1, uint64(len(d.records))+1, prev, "something ran"))
		close(d.changed)
		d.changed = make(chan struct{})
		d.mu.Unlock()
	}
}

// Record keeps the link's own events out of the journal: the tests count.
func (d *device) Record(context.Context, event.Event) error { return nil }

func (d *device) Read(_ context.Context, after uint64, limit int) ([]event.Record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rest := d.records[min(after, uint64(len(d.records))):]
	return append([]event.Record(nil), rest[:min(limit, len(rest))]...), nil
}

func (d *device) Wait(ctx context.Context, after uint64) error {
	for {
		d.mu.Lock()
		changed, n := d.changed, uint64(len(d.records))
		d.mu.Unlock()
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

func (d *device) Acknowledge(_, sequence uint64, head chain.Hash) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sequence > uint64(len(d.records)) || d.records[sequence-1].Hash != head {
		return errors.New("foreign head")
	}
	d.acked = max(d.acked, sequence)
	return nil
}

func (d *device) Acknowledged() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acked
}

type fixed struct{ config *tls.Config }

func (f fixed) TLS(context.Context) (*tls.Config, error) { return f.config.Clone(), nil }

func receiptKey(t testing.TB) (*ecdsa.PrivateKey, *dsse.Keyring) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := dsse.NewKeyring(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, ring
}

// fleet is a running ingest and what it told.
type fleet struct {
	t    testing.TB
	mu   sync.Mutex
	got  []ingest.Received
	stop func()
}

func startFleet(t testing.TB, c ingest.Config) *fleet {
	t.Helper()
	i, err := ingest.New(c)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := i.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	read := make(chan struct{})
	go func() {
		defer close(read)
		for r := range i.Messages() {
			if r.Kind == ingest.KindEvent {
				if err := contracttest.Check(r.Topic, r.Raw); err != nil {
					t.Error(err)
				}
			}
			f.mu.Lock()
			f.got = append(f.got, r)
			f.mu.Unlock()
		}
	}()
	var once sync.Once
	f.stop = func() { once.Do(func() { cancel(); <-done; <-read }) }
	t.Cleanup(f.stop)
	until(t, "the fleet listens", func() bool { return i.Connected() })
	return f
}

func (f *fleet) received(kind ingest.Kind) []ingest.Received {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []ingest.Received
	for _, r := range f.got {
		if r.Kind == kind {
			out = append(out, r)
		}
	}
	return out
}

// codes are the fleet's own findings.
func (f *fleet) codes() []finding.Code {
	var out []finding.Code
	for _, r := range f.received(ingest.KindFinding) {
		out = append(out, r.Finding.Code)
	}
	return out
}

func (f *fleet) states() []string {
	var out []string
	for _, r := range f.received(ingest.KindStatus) {
		out = append(out, r.Status.State)
	}
	return out
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 20 s: %s", what)
}
