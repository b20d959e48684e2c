package ingest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/fleet/ingest"
	"ward/internal/format/dsse"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
	"ward/internal/trust/verdict"
)

// Events go up once, in order, and are freed by receipts; a reader that knows
// nothing of Ward sees the same bytes, and every message keeps its schema.
//
// Verifies: SR-010, SR-014, SR-022, SR-063
func TestDeviceToFleet(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	sub := broker.subscribe(t)
	key, ring := receiptKey(t)
	events := filepath.Join(t.TempDir(), "events")
	f := startFleet(t, ingest.Config{Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: key, EventsFile: events})
	d := newDevice(t, broker.url(), p.client(t, "pump-1"), ring)
	d.add(300)
	stop := d.run()
	until(t, "300 confirmed", func() bool { return d.Acknowledged() == 300 })
	d.add(1)
	begun := time.Now()
	until(t, "one more confirmed", func() bool { return d.Acknowledged() == 301 })
	t.Logf("one event was confirmed after %s", time.Since(begun))
	stop()
	until(t, "farewell", func() bool { return slices.Contains(f.states(), presence.Offline) })

	got := f.received(ingest.KindEvent)
	if len(got) != 301 {
		t.Fatalf("%d events at the fleet", len(got))
	}
	for i, r := range got {
		if !bytes.Equal(r.Raw, d.records[i].Bytes) || r.Device != "pump-1" || r.Tenant != "acme" || r.Held || r.At.IsZero() {
			t.Fatalf("event %d: %+v", i, r)
		}
	}
	if s := f.states(); fmt.Sprint(s) != "[online offline]" || len(f.codes()) != 0 {
		t.Errorf("states %v, findings %v", s, f.codes())
	}
	stored, err := os.ReadFile(events)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range bytes.Split(bytes.TrimSpace(stored), []byte("\n")) {
		if !bytes.Equal(l, d.records[i].Bytes) {
			t.Fatalf("line %d of the events file: %s", i, l)
		}
	}
	until(t, "farewell at mosquitto_sub", func() bool { return strings.Contains(strings.Join(sub.lines(), "\n"), `"state":"offline"`) })
	checkWire(t, sub.lines(), d, ring)
}

// checkWire compares what mosquitto_sub saw with the records, and opens what came
// down; that all of it keeps the contract is checked when the reader ends.
func checkWire(t *testing.T, lines []string, d *device, ring *dsse.Keyring) {
	t.Helper()
	count := make(map[string]int)
	for _, l := range lines {
		topic, payload, _ := strings.Cut(l, " ")
		kind := topic[strings.LastIndexByte(topic, '/')+1:]
		if kind == "receipt" {
			if _, err := receipt.Verify([]byte(payload), ring, "acme", "pump-1"); err != nil {
				t.Errorf("receipt on the wire: %v", err)
			}
		}
		if kind == "event" && payload != string(d.records[count[kind]].Bytes) {
			t.Errorf("mosquitto_sub saw %s as event %d", payload, count[kind])
		}
		count[kind]++
	}
	if count["event"] != len(d.records) || count["status"] != 2 || count["receipt"] == 0 {
		t.Errorf("mosquitto_sub saw %v", count)
	}
}

// Verifies: SR-014, SR-022
func TestSilence(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	f := startFleet(t, ingest.Config{Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet"})
	will, err := presence.Encode(presence.Status{State: presence.Lost, Tenant: "acme", Device: "pump-1", Boot: boot, Session: 4, Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	birth, err := presence.Encode(presence.Status{State: presence.Online, Tenant: "acme", Device: "pump-1", Boot: boot, Session: 4, Epoch: 1, WorryAfterSeconds: 1, Time: &now})
	if err != nil {
		t.Fatal(err)
	}
	topic := presence.Topic("acme", "pump-1", presence.State)
	o := mqtt.Options{Broker: broker.url(), ClientID: "pump-1", TLS: p.client(t, "pump-1"), Will: &mqtt.Will{Topic: topic, Payload: will, Retain: true}}
	first, err := mqtt.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Publish(t.Context(), topic, true, birth); err != nil {
		t.Fatal(err)
	}
	until(t, "worry", func() bool { return fmt.Sprint(f.codes()) == "[link.silence]" })
	second, err := mqtt.Connect(t.Context(), o) // takes the connection over: the first ends without a farewell
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	until(t, "last will", func() bool { return fmt.Sprint(f.codes()) == "[link.silence link.silence]" })
	if s := f.states(); fmt.Sprint(s) != "[online lost]" {
		t.Errorf("states %v", s)
	}
	late := startFleet(t, ingest.Config{Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet-2"})
	until(t, "retained last will", func() bool { return fmt.Sprint(late.codes()) == "[link.silence]" })
	if r := late.received(ingest.KindStatus); !r[0].Retained {
		t.Errorf("%+v", r[0])
	}
}

// Verifies: SR-011, SR-013
func TestBrokerRefuses(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	broker := startMosquitto(t, p)
	wrongName := p.client(t, "pump-1")
	wrongName.ServerName = "elsewhere"
	noCert := p.client(t, "pump-1")
	noCert.Certificates = nil
	foreign := p.client(t, "pump-1")
	foreign.Certificates = other.client(t, "pump-1").Certificates
	untrusted := p.client(t, "pump-1")
	untrusted.RootCAs = other.pool
	for name, c := range map[string]struct {
		config *mqtt.Options
		cause  mqtt.Cause
	}{
		"broker of another authority": {&mqtt.Options{TLS: untrusted}, mqtt.ServerUntrusted},
		"broker of another name":      {&mqtt.Options{TLS: wrongName}, mqtt.ServerName},
		"no client certificate":       {&mqtt.Options{TLS: noCert}, mqtt.Refused},
		"client of another authority": {&mqtt.Options{TLS: foreign}, mqtt.Refused},
	} {
		c.config.Broker, c.config.ClientID = broker.url(), "pump-1"
		_, err := mqtt.Connect(t.Context(), *c.config)
		var e *mqtt.ConnectError
		if !errors.As(err, &e) || e.Cause != c.cause {
			t.Errorf("%s: %v, want %s", name, err, c.cause)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// A device can neither speak nor listen for another one; the broker's
// acknowledgement looks like success.
//
// Verifies: SR-013, SR-010
func TestAccessList(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	key, _ := receiptKey(t)
	f := startFleet(t, ingest.Config{Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: key})
	two, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: broker.url(), ClientID: "pump-2", TLS: p.client(t, "pump-2")})
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	one := record(t, "pump-1", 1, 1, [32]byte{}, "forged")
	if err := two.Publish(t.Context(), presence.Topic("acme", "pump-1", presence.Event), false, one.Bytes); err != nil {
		t.Errorf("the broker told of its refusal: %v; then the test proves less than it says", err)
	}
	// On its own topic it may say what it likes; the fleet does not take it.
	if err := two.Publish(t.Context(), presence.Topic("acme", "pump-2", presence.Event), false, one.Bytes); err != nil {
		t.Fatal(err)
	}
	_ = two.Subscribe(t.Context(), presence.Topic("acme", "pump-1", presence.Receipt))
	pump, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: broker.url(), ClientID: "pump-1", TLS: p.client(t, "pump-1")})
	if err != nil {
		t.Fatal(err)
	}
	defer pump.Close()
	if err := pump.Subscribe(t.Context(), presence.Topic("acme", "pump-1", presence.Receipt)); err != nil {
		t.Fatal(err)
	}
	if err := pump.Publish(t.Context(), presence.Topic("acme", "pump-1", presence.Event), false, record(t, "pump-1", 1, 1, [32]byte{}, "true").Bytes); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-pump.Messages():
		if m.Topic != presence.Topic("acme", "pump-1", presence.Receipt) {
			t.Errorf("message on %s", m.Topic)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no receipt")
	}
	time.Sleep(200 * time.Millisecond)
	if n := len(two.Messages()); n != 0 {
		t.Errorf("pump-2 heard %d messages of pump-1", n)
	}
	got := f.received(ingest.KindEvent)
	if len(got) != 1 || got[0].Event.Finding.Detail != "true" {
		t.Errorf("accepted %+v", got)
	}
	if c := f.codes(); fmt.Sprint(c) != "[link.message-invalid]" {
		t.Errorf("findings %v", c)
	}
}

// Verifies: SR-010, SR-017
func TestBrokerRestarts(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	key, ring := receiptKey(t)
	f := startFleet(t, ingest.Config{Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: key})
	d := newDevice(t, broker.url(), p.client(t, "pump-1"), ring)
	d.run()
	d.add(50)
	until(t, "50 confirmed", func() bool { return d.Acknowledged() == 50 })
	broker.stop()
	d.add(100)
	time.Sleep(time.Second)
	broker.start()
	d.add(50)
	until(t, "200 confirmed", func() bool { return d.Acknowledged() == 200 })
	got := f.received(ingest.KindEvent)
	for i, r := range got {
		if r.Event.Sequence != uint64(i)+1 {
			t.Fatalf("event %d has sequence %d", i, r.Event.Sequence)
		}
	}
	if len(got) != 200 {
		t.Errorf("%d events in meaning", len(got))
	}
	for _, c := range f.codes() {
		if c == finding.LinkMessageInvalid {
			t.Errorf("findings %v", f.codes())
		}
	}
}

// Verifies: SR-010, SR-022
func TestFleetRestarts(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	key, ring := receiptKey(t)
	config := ingest.Config{
		Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: key,
		StateFile: filepath.Join(t.TempDir(), "state.json"),
	}
	d := newDevice(t, broker.url(), p.client(t, "pump-1"), ring)
	d.run()
	f := startFleet(t, config)
	d.add(10)
	until(t, "10 confirmed", func() bool { return d.Acknowledged() == 10 })
	f.stop()
	d.add(10) // goes up while nobody listens
	time.Sleep(500 * time.Millisecond)
	f = startFleet(t, config)
	until(t, "20 confirmed", func() bool { return d.Acknowledged() == 20 })
	if got := f.received(ingest.KindEvent); len(got) != 10 || got[0].Event.Sequence != 11 || len(f.codes()) != 0 {
		t.Errorf("%d events, findings %v", len(got), f.codes())
	}
	f.stop()

	// A fleet that lost its memory must not confirm what it never had.
	config.StateFile = ""
	f = startFleet(t, config)
	d.add(1)
	until(t, "gap", func() bool { return slices.Contains(f.codes(), finding.LinkSequenceGap) })
	time.Sleep(300 * time.Millisecond)
	if d.Acknowledged() != 20 || len(f.received(ingest.KindReceipt)) != 0 {
		t.Errorf("confirmed %d by a fleet that began in the middle", d.Acknowledged())
	}
	if got := f.received(ingest.KindEvent); len(got) != 1 || !got[0].Held {
		t.Errorf("the event is not shown: %+v", got)
	}
	f.stop()
	config.Adopt = true
	startFleet(t, config)
	d.add(1)
	until(t, "22 confirmed after adoption", func() bool { return d.Acknowledged() == 22 })
}

func TestReceivedAsJSON(t *testing.T) {
	r := record(t, "pump-1", 1, 1, [32]byte{}, "something <ran>")
	e, err := event.Parse(r.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	f := finding.New(finding.LinkSilence, "gone")
	when := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, want := range []ingest.Received{
		{At: when, Kind: ingest.KindEvent, Topic: "ward/v1/acme/pump-1/up/event", Tenant: "acme", Device: "pump-1", Event: e, Raw: r.Bytes, Held: true},
		{At: when, Kind: ingest.KindFinding, Tenant: "acme", Device: "pump-1", Finding: &f},
		{At: when, Kind: ingest.KindStatus, Tenant: "acme", Device: "pump-1", Retained: true, Status: presence.Status{State: presence.Lost, Tenant: "acme", Device: "pump-1", Boot: boot, Session: 1, Epoch: 1}},
		{At: when, Kind: ingest.KindFinding, Tenant: "acme", Device: "pump-1", Finding: &f, Cleared: true},
		{At: when, Kind: ingest.KindVerdict, Tenant: "acme", Device: "pump-1", Verdict: &verdict.Verdict{
			Verdict: appraisal.Contraindicated, Claims: map[appraisal.Claim]appraisal.Tier{appraisal.ClaimQuote: appraisal.Contraindicated},
			Findings: []finding.Finding{f, f, f, f, f}, Boot: "boot\nid", Asked: true,
		}},
		{At: when, Kind: ingest.KindReceipt, Tenant: "acme", Device: "pump-1", Sequence: 9},
	} {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got ingest.Received
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		got.Raw = want.Raw
		if fmt.Sprint(got.Line()) != want.Line() || got.Held != want.Held || got.Kind != want.Kind || got.Event.ID != want.Event.ID || got.Cleared != want.Cleared {
			t.Errorf("%s\nread as %+v", b, got)
		}
		if strings.Contains(want.Line(), "\n") {
			t.Errorf("line %q", want.Line())
		}
	}
}

func TestStateFileThatIsNone(t *testing.T) {
	p := newPKI(t)
	path := filepath.Join(t.TempDir(), "state")
	for _, text := range []string{"", "{", `{"schema":2,"devices":{}}`, `{"schema":1,"devices":{"acme/pump-1":null}}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ingest.New(ingest.Config{Broker: "tls://127.0.0.1:1", TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", StateFile: path})
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("state %q: %v", text, err)
		}
	}
}
