package uplink_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/uplink"
	"ward/internal/device/mqtt/mqtttest"
)

// site is a rig whose uplink reaches one real broker through a relay.
type site struct {
	*rig
	broker *mqtttest.Mosquitto
	relay  *mqtttest.Relay
}

func newSite(t testing.TB, s mqtttest.Setup) site {
	t.Helper()
	p := mqtttest.NewPKI(t)
	broker := mqtttest.StartMosquitto(t, p, s)
	relay := mqtttest.StartRelay(t, broker.Address())
	return site{newRig(t, p, []string{"tls://" + relay.Address()}, broker.URL(), nil), broker, relay}
}

// faults are what happens to a link, each until it is healed. amount is a number
// that means what the fault makes of it.
var faults = []struct {
	name string
	do   func(s site, amount int)
	heal func(s site)
}{
	{"broker killed", func(s site, _ int) { s.broker.Kill() }, func(s site) { s.broker.Start() }},
	{"broker stopped", func(s site, _ int) { s.broker.Stop() }, func(s site) { s.broker.Start() }},
	{"cut after some bytes", func(s site, n int) { s.relay.CutAfter(1 + n%20000); s.relay.Drop() }, func(s site) { s.relay.CutAfter(0) }},
	{"connection cut", func(s site, _ int) { s.relay.Drop() }, func(site) {}},
	{"half-open", func(s site, _ int) {
		s.relay.Swallow(true) // until the keepalive tells
		until(s.t, "the silence is noticed", func() bool { return s.link.Status().State != "connected" }, func() string { return fmt.Sprint(s.link.Status()) })
	}, func(s site) { s.relay.Swallow(false); s.relay.Drop() }},
	{"slow", func(s site, _ int) { s.relay.Slow(1 << 10) }, func(s site) { s.relay.Slow(0) }},
	{"rights taken", func(s site, _ int) { s.broker.Deny("pump-1") }, func(s site) { s.broker.Deny("") }},
	{"fleet away", func(s site, _ int) { s.stopDn() }, func(s site) { s.listen() }},
	{"uplink begun anew", func(s site, _ int) { s.stopUp() }, func(s site) { s.up() }},
}

// Whatever happens to the broker and to the way to it: when it is over, the fleet
// has every event once and in order.
//
// Verifies: SR-064
func TestFailingBroker(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mqtttest.Setup{})
			s.record(30)
			s.healed()
			f.do(s, 9000)
			s.record(100)
			time.Sleep(3 * time.Second) // while it lasts
			s.record(20)
			f.heal(s)
			s.record(20)
			s.healed()
			events, duplicates := s.check()
			t.Logf("%d events once and in order, %d more on the wire", events, duplicates)
			if events < 170 {
				t.Errorf("%d events", events)
			}
		})
	}
	t.Run("broker killed that keeps its state", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, mqtttest.Setup{Keep: true})
		s.record(100)
		s.healed()
		s.broker.Stop()
		s.record(100)
		s.broker.Start()
		s.healed()
		s.broker.Kill()
		s.record(100)
		s.broker.Start()
		s.healed()
		s.check()
	})
	t.Run("cut in many places", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, mqtttest.Setup{})
		s.record(200)
		for n := 1500; s.relay.Cuts() < 8; n += 917 { // the handshake takes some 1,400 bytes
			s.relay.CutAfter(n)
			s.relay.Drop()
			before := s.relay.Cuts()
			s.record(5)
			until(t, "a cut", func() bool { return s.relay.Cuts() > before }, func() string { return fmt.Sprint(s.link.Status()) })
		}
		s.relay.CutAfter(0)
		s.healed()
		events, duplicates := s.check()
		t.Logf("%d cuts, %d events once and in order, %d more on the wire", s.relay.Cuts(), events, duplicates)
	})
}

// Two real brokers: the second takes over when the first is killed, and the first
// is used again when it is back, with nothing lost and nothing out of order.
//
// Verifies: SR-065
func TestFailover(t *testing.T) {
	t.Parallel()
	p := mqtttest.NewPKI(t)
	first, second := mqtttest.StartMosquitto(t, p, mqtttest.Setup{}), mqtttest.StartMosquitto(t, p, mqtttest.Setup{})
	r := newRig(t, p, []string{first.WebsocketURL(), second.URL()}, first.URL(), func(c *uplink.Config) { c.PreferAfter = 4 * time.Second })
	at := func(url string) func() bool {
		return func() bool { s := r.link.Status(); return s.State == "connected" && s.Broker == url }
	}
	tell := func() string { return fmt.Sprintf("%+v", r.link.Status()) }
	r.record(50)
	r.healed()
	first.Kill()
	r.record(50)
	until(t, "the second broker takes over", at(second.URL()), tell)
	r.stopDn()
	r.fleet.Broker = second.URL() // the fleet follows
	r.listen()
	r.healed()
	r.record(50)
	first.Start()
	for range 50 { // while the better connection is made
		r.record(1)
		time.Sleep(10 * time.Millisecond)
	}
	until(t, "the first broker is used again", at(first.WebsocketURL()), tell)
	r.stopDn()
	r.fleet.Broker = first.URL()
	r.listen()
	r.record(50)
	r.healed()
	events, duplicates := r.check()
	t.Logf("%d events once and in order, %d more on the wire", events, duplicates)
}

// A connection asks for receipts and questions, and for nothing else: the broker's
// own log has every SUBSCRIBE that came.
//
// Verifies: SR-067
func TestSubscriptionsAtARealBroker(t *testing.T) {
	p := mqtttest.NewPKI(t)
	broker := mqtttest.StartMosquitto(t, p, mqtttest.Setup{})
	r := newRig(t, p, []string{broker.WebsocketURL()}, broker.URL(), func(c *uplink.Config) { c.Attester, c.Challenges = &tpm{size: 100}, c.Receipts })
	r.record(20)
	r.healed()
	r.stopUp()
	filters, from := make(map[string]int), ""
	for _, line := range broker.Log() {
		if _, who, found := strings.Cut(line, "Received SUBSCRIBE from "); found {
			from = who
		} else if _, rest, found := strings.Cut(line, "\t"); found && from == "pump-1" {
			filters[rest]++
		} else {
			from = ""
		}
	}
	want := map[string]int{"ward/v1/acme/pump-1/down/receipt (QoS 1)": 1, "ward/v1/acme/pump-1/down/challenge (QoS 1)": 1}
	if fmt.Sprint(filters) != fmt.Sprint(want) {
		t.Errorf("subscribed to %v, want %v", filters, want)
	}
	r.up()
}

// What the budget counts is what messages take on the wire, and not less: measured
// in bytes of TCP, straight and in a websocket.
//
// Verifies: SR-066
func TestBudgetCountsWhatIsSent(t *testing.T) {
	p := mqtttest.NewPKI(t)
	broker := mqtttest.StartMosquitto(t, p, mqtttest.Setup{})
	for address, url := range map[string]string{broker.Address(): "tls://%s", broker.WebsocketAddress(): "wss://%s/mqtt"} {
		t.Run(url[:3], func(t *testing.T) {
			relay := mqtttest.StartRelay(t, address)
			r := newRig(t, p, []string{fmt.Sprintf(url, relay.Address())}, broker.URL(), func(c *uplink.Config) { c.KeepAlive = time.Hour })
			r.record(10)
			r.healed()
			counted, passed := r.link.Status().SentToday, relay.Passed()
			r.record(300)
			r.healed()
			counted, passed = r.link.Status().SentToday-counted, relay.Passed()-passed
			t.Logf("%d bytes counted, %d bytes of TCP", counted, passed)
			if passed < 300*300 || uint64(passed) > counted || counted > uint64(passed)*110/100 {
				t.Errorf("%d bytes were counted and %d sent", counted, passed)
			}
		})
	}
}
