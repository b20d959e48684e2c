package uplink_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/uplink"
)

// The order of the brokers is an order of preference: the first that admits the
// device is used; at a lower one, those before it are tried every 5 to 15
// minutes, and the connection stands, and is used, until a better one does.
//
// Verifies: SR-065
func TestPreferredBroker(t *testing.T) {
	run(t, func(c *uplink.Config) { c.Brokers = []string{"tls://a:8883", "tls://b:8883", "tls://c:8883"} }, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		n.set("tls://a:8883", errDown)
		n.set("tls://b:8883", errDown)
		n.current().Close()
		time.Sleep(10 * time.Second)
		lower := n.current()
		if s := u.Status(); s.Broker != "tls://c:8883" || s.State != "connected" {
			t.Fatalf("status %+v", s)
		}
		time.Sleep(time.Hour)
		n.mu.Lock()
		tries := 0
		for _, d := range n.dials[len(n.dials)-8:] {
			if d == "tls://c:8883" {
				t.Errorf("the broker that is used was dialled: %v", n.dials)
			}
			tries++
		}
		if dials := len(n.dials); dials < 4+2*3 || dials > 8+2*13 {
			t.Errorf("%d dials in an hour", dials)
		}
		n.mu.Unlock()
		select {
		case <-lower.Done():
			t.Fatal("the connection was dropped for brokers that are not there")
		default:
		}
		m.add(t, 10)
		n.set("tls://b:8883", nil)
		time.Sleep(16 * time.Minute)
		if s := u.Status(); s.Broker != "tls://b:8883" {
			t.Errorf("after the second is back: %+v", s)
		}
		select {
		case <-lower.Done():
		default:
			t.Error("the old connection stands")
		}
		n.set("tls://a:8883", nil)
		time.Sleep(16 * time.Minute)
		if s := u.Status(); s.Broker != "tls://a:8883" || m.Acknowledged() != uint64(m.len()) {
			t.Errorf("after the first is back: %+v, %d records", s, m.len())
		}
		n.mu.Lock()
		dials := len(n.dials)
		n.mu.Unlock()
		time.Sleep(3 * time.Hour)
		n.mu.Lock()
		if len(n.dials) != dials {
			t.Errorf("at the first broker others were dialled: %v", n.dials[dials:])
		}
		n.mu.Unlock()
		connected := "ward.link.connected"
		if got, want := fmt.Sprint(m.findings(0)), fmt.Sprint([]string{connected, connected, connected, connected}); len(m.findings(0)) != 4+10 && got != want {
			for _, f := range m.findings(0) {
				if f != connected {
					t.Errorf("a change of brokers recorded %s", f)
				}
			}
		}
		for s, times := range n.seen {
			if times != 1 {
				t.Errorf("record %d went up %d times", s, times)
			}
		}
	})
}

// A preferred broker that refuses the device, or is not the fleet's, says nothing
// while another link stands.
func TestPreferredBrokerThatRefuses(t *testing.T) {
	run(t, nil, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		n.set("tls://a:8883", errDown)
		n.current().Close()
		time.Sleep(10 * time.Second)
		before := m.len()
		for _, err := range []error{errRefused, errUntrusted, errName} {
			n.set("tls://a:8883", err)
			time.Sleep(time.Hour)
		}
		if got := m.findings(before); len(got) != 0 || u.Status().Broker != "tls://b:8883" {
			t.Errorf("recorded %v, %+v", got, u.Status())
		}
	})
}

// The connection ends while the better one is being made, as with two addresses
// of one broker, which drops the first of two connections of one client.
func TestPreferredBrokerThatIsTheSame(t *testing.T) {
	run(t, nil, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		n.set("tls://a:8883", errDown)
		n.current().Close()
		time.Sleep(10 * time.Second)
		lower := n.current()
		n.mu.Lock()
		n.slowDial, n.onDial = 10*time.Second, lower.Close
		n.mu.Unlock()
		n.set("tls://a:8883", nil)
		time.Sleep(20 * time.Minute)
		n.mu.Lock()
		conns := len(n.conns)
		n.mu.Unlock()
		if s := u.Status(); s.Broker != "tls://a:8883" || s.State != "connected" || conns != 3 {
			t.Errorf("%d connections, %+v", conns, s)
		}
	})
}

// The waits between rounds have full jitter: between nothing and a bound that
// doubles from half a second to a minute, and evenly so.
//
// Verifies: SR-065
func TestFullJitter(t *testing.T) {
	const rounds = 2000
	var gaps []time.Duration
	run(t, func(c *uplink.Config) { c.Brokers = c.Brokers[:1] }, func(t *testing.T, _ *uplink.Uplink, _ *memory, n *net) {
		n.set("tls://a:8883", errDown)
		n.current().Close()
		n.mu.Lock()
		begun := len(n.dials)
		n.mu.Unlock()
		time.Sleep(rounds * 31 * time.Second)
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		for i := begun + 1; i < len(n.dialled); i++ {
			gaps = append(gaps, n.dialled[i].Sub(n.dialled[i-1]))
		}
	})
	var sum, most time.Duration
	least, bound, first := time.Hour, time.Second, 0
	for i, g := range gaps {
		if g < 0 || g > bound {
			t.Errorf("wait %d is %s, want at most %s", i, g, bound)
		}
		if bound = min(2*bound, time.Minute); bound < time.Minute {
			first = i + 1
			continue
		}
		sum += g
		most, least = max(most, g), min(least, g)
	}
	late := gaps[first+1:]
	mean := sum / time.Duration(len(late)+1)
	t.Logf("%d waits; of those with the bound of a minute the least is %s, the mean %s, the most %s", len(gaps), least, mean, most)
	if len(late) < rounds/2 || mean < 27*time.Second || mean > 33*time.Second || least > time.Second || most < 59*time.Second {
		t.Errorf("%d waits between %s and %s with a mean of %s are not spread evenly over a minute", len(late), least, most, mean)
	}
}
