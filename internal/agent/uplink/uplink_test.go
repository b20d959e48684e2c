package uplink_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/uplink"
	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
)

// run runs the uplink in a bubble of its own time.
func run(t *testing.T, change func(*uplink.Config), body func(t *testing.T, u *uplink.Uplink, m *memory, n *net)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m, n := newMemory(), newNet(t)
		c := config(t, m, n)
		if change != nil {
			change(&c)
		}
		u := uplink.New(c)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- u.Run(ctx) }()
		synctest.Wait()
		body(t, u, m, n)
		cancel()
		begun := time.Now()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("stopping took %s", d)
		}
		if s := u.Status().State; s != "stopped" {
			t.Errorf("state after the stop: %s", s)
		}
	})
}

// Verifies: SR-014
func TestBirthWillAndFarewell(t *testing.T) {
	var network *net
	run(t, nil, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		network = n
		birth, err := presence.Parse(n.got[0].payload)
		if err != nil {
			t.Fatal(err)
		}
		if birth.State != presence.Online || birth.Session != 3 || birth.Epoch != 1 || birth.Boot != boot || birth.Release != "4.2.0" ||
			birth.WorryAfterSeconds != 900 || birth.Time == nil || !n.got[0].retain {
			t.Errorf("birth %+v", birth)
		}
		w := n.current().options.Will
		will, err := presence.Parse(w.Payload)
		if err != nil || w.Topic != "ward/v1/acme/pump-1/up/status" || !w.Retain || will.State != presence.Lost || will.Session != 3 || will.Time != nil {
			t.Errorf("last will on %s: %+v, %v", w.Topic, will, err)
		}
		if o := n.current().options; o.ClientID != "pump-1" || o.TLS.ServerName != "broker" {
			t.Errorf("options %+v", o)
		}
		if s := u.Status(); s.State != "connected" || s.Broker != "tls://a:8883" {
			t.Errorf("status %+v", s)
		}
		time.Sleep(16 * time.Minute)
		if got := n.statuses(); len(got) != 4 {
			t.Errorf("in a quarter of an hour: %v, want the birth and three repetitions", got)
		}
	})
	if got := network.statuses(); got[len(got)-1] != presence.Offline {
		t.Errorf("last status %v, want the farewell", got)
	}
}

// Verifies: SR-010
func TestRecordsGoUpInOrderAndReceiptsFreeThem(t *testing.T) {
	run(t, nil, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		m.add(t, 500)
		time.Sleep(5 * time.Second)
		if m.Acknowledged() != uint64(m.len()) || n.last != uint64(m.len()) {
			t.Errorf("%d records, %d at the fleet, %d confirmed", m.len(), n.last, m.Acknowledged())
		}
		for s, times := range n.seen {
			if times != 1 {
				t.Errorf("record %d went up %d times", s, times)
			}
		}
		if s := u.Status(); s.Confirmed != uint64(m.len()) || s.LastReceipt == nil {
			t.Errorf("status %+v", s)
		}
	})
}

// A broker's acknowledgement frees nothing.
//
// Verifies: SR-010
func TestWithoutReceiptsEverythingIsKeptAndSentAgain(t *testing.T) {
	run(t, nil, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		n.mu.Lock()
		n.noReceipt = true
		n.mu.Unlock()
		m.add(t, 5000)
		time.Sleep(4 * time.Second)
		n.mu.Lock()
		ahead, first := len(n.seen), n.seen[2]
		n.mu.Unlock()
		if ahead > 1100 || first != 1 {
			t.Errorf("%d records went up in vain, the second %d times", ahead, first)
		}
		time.Sleep(time.Hour)
		n.mu.Lock()
		again := n.seen[2]
		n.mu.Unlock()
		if again < 3 || again > 30 {
			t.Errorf("in an hour without receipts the second record went up %d times", again)
		}
		if m.Acknowledged() > 1 {
			t.Errorf("%d records were freed without a receipt", m.Acknowledged())
		}
		n.mu.Lock()
		n.noReceipt = false
		n.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if m.Acknowledged() != uint64(m.len()) {
			t.Errorf("%d of %d confirmed after the fleet came back", m.Acknowledged(), m.len())
		}
	})
}

// A fleet that begins to listen repeats its last receipt, and need not wait.
func TestFleetThatComesBackIsServedAtOnce(t *testing.T) {
	run(t, nil, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		m.add(t, 3)
		time.Sleep(time.Second)
		n.mu.Lock()
		n.noReceipt = true
		last, head := n.last, n.head
		n.mu.Unlock()
		m.add(t, 10)
		time.Sleep(20 * time.Minute)
		n.mu.Lock()
		n.noReceipt = false
		n.mu.Unlock()
		time.Sleep(2 * time.Minute) // long enough for patience to allow it
		n.current().push(n.receipt(last, head))
		time.Sleep(5 * time.Minute)
		if m.Acknowledged() != uint64(m.len()) {
			t.Errorf("%d of %d confirmed", m.Acknowledged(), m.len())
		}
	})
}

// A daemon that starts anew knows what was confirmed as of half a minute before its
// end; it waits for the fleet's answer to its birth before it sends that again.
func TestStartSendsNothingAgain(t *testing.T) {
	for _, row := range []struct {
		name    string
		answers bool
	}{{"a fleet that answers", true}, {"a fleet that does not", false}} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, n := newMemory(), newNet(t)
				live := func(d time.Duration) {
					ctx, cancel := context.WithTimeout(t.Context(), d)
					defer cancel()
					if err := uplink.New(config(t, m, n)).Run(ctx); err != nil {
						t.Error(err)
					}
				}
				m.add(t, 10)
				live(5 * time.Second)
				m.forget(3)
				if row.answers {
					n.onDial = func() { n.conns[len(n.conns)-1].push(n.receipt(n.last, n.head)) }
				}
				live(time.Minute)
				if again := n.seen[5] > 1; again == row.answers {
					t.Errorf("record 5 went up %d times", n.seen[5])
				}
				if row.answers && m.Acknowledged() != uint64(m.len()) {
					t.Errorf("%d of %d confirmed", m.Acknowledged(), m.len())
				}
			})
		})
	}
}

// Verifies: SR-010, SR-017
func TestLostConnection(t *testing.T) {
	run(t, nil, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		m.add(t, 10)
		time.Sleep(time.Second)
		before := m.len()
		n.set("tls://a:8883", errDown)
		n.set("tls://b:8883", errDown)
		n.current().Close()
		m.add(t, 200)
		time.Sleep(10 * time.Minute)
		if got := fmt.Sprint(m.findings(before)); got != "[raised link.down]" {
			t.Errorf("ten minutes without a broker recorded %s", got)
		}
		n.mu.Lock()
		if d := len(n.dials); d > 100 {
			t.Errorf("%d attempts in ten minutes", d)
		}
		n.mu.Unlock()
		if s := u.Status(); s.State != "connecting" || s.LastError == "" {
			t.Errorf("status %+v", s)
		}
		n.set("tls://b:8883", nil)
		time.Sleep(2 * time.Minute)
		if got := fmt.Sprint(m.findings(before)); got != "[raised link.down ward.link.connected cleared link.down]" {
			t.Errorf("after the repair: %s", got)
		}
		if s := u.Status(); s.Broker != "tls://b:8883" {
			t.Errorf("status %+v", s)
		}
		if m.Acknowledged() != uint64(m.len()) {
			t.Errorf("%d of %d confirmed", m.Acknowledged(), m.len())
		}
	})
}

// A link that comes back soon is no finding.
func TestShortLossIsNoFinding(t *testing.T) {
	run(t, nil, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		for range 3 {
			n.current().Close()
			time.Sleep(5 * time.Minute)
		}
		if got := fmt.Sprint(m.findings(0)); got != "[ward.link.connected]" {
			t.Errorf("recorded %s", got)
		}
		if got := fmt.Sprint(n.statuses()[:3]); !strings.HasPrefix(got, "[online") {
			t.Errorf("statuses %s", got)
		}
	})
}

// Verifies: SR-011, SR-013
func TestRefusalsAreFindings(t *testing.T) {
	for err, code := range map[error]string{errUntrusted: "link.server-untrusted", errName: "link.server-name", errRefused: "link.refused"} {
		run(t, func(c *uplink.Config) { c.Brokers = c.Brokers[:1] }, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
			n.set("tls://a:8883", err)
			before := m.len()
			n.current().Close()
			time.Sleep(5 * time.Minute)
			n.set("tls://a:8883", errDown)
			time.Sleep(5 * time.Minute)
			if got := fmt.Sprint(m.findings(before)); got != "[raised "+code+"]" {
				t.Errorf("%v recorded %s", err, got)
			}
			n.set("tls://a:8883", nil)
			time.Sleep(5 * time.Minute)
			if got := fmt.Sprint(m.findings(before)); got != "[raised "+code+" ward.link.connected cleared "+code+"]" {
				t.Errorf("after the repair: %s", got)
			}
		})
	}
}

// Verifies: SR-010
func TestSubscriptionRefused(t *testing.T) {
	run(t, nil, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		n.mu.Lock()
		n.noSub, n.noReceipt = true, true
		n.mu.Unlock()
		before := m.len()
		n.current().Close()
		time.Sleep(time.Minute)
		m.add(t, 1)
		time.Sleep(time.Second)
		if got := fmt.Sprint(m.findings(before)); got != "[raised link.subscribe-refused]" {
			t.Errorf("recorded %s", got)
		}
		if n.seen[uint64(m.len())] == 0 {
			t.Error("events do not go up without the subscription")
		}
		n.mu.Lock()
		n.noSub, n.noReceipt = false, false
		n.mu.Unlock()
		n.current().Close()
		time.Sleep(time.Minute)
		if got := fmt.Sprint(m.findings(before)); got != "[raised link.subscribe-refused cleared link.subscribe-refused]" {
			t.Errorf("after the repair: %s", got)
		}
	})
}

// Verifies: SR-010
func TestBadReceiptsFreeNothing(t *testing.T) {
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	head := func(m *memory, sequence uint64) chain.Hash {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.records[sequence-1].Hash
	}
	good := func(m *memory) receipt.Receipt {
		return receipt.Receipt{Tenant: "acme", Device: "pump-1", Epoch: 1, Sequence: 5, Head: head(m, 5), Time: time.Now()}
	}
	for _, c := range []struct {
		name    string
		message func(*net, *memory) mqtt.Message
		want    string
		atLeast uint64 // epoch that is asked for; 0: the journal is the right one
	}{
		{"signed by another key", func(n *net, m *memory) mqtt.Message { return n.sign(good(m), stranger) }, "[incident link.receipt-invalid]", 0},
		{"for another device", func(n *net, m *memory) mqtt.Message {
			r := good(m)
			r.Device = "pump-2"
			return n.sign(r, n.key)
		}, "[incident link.receipt-invalid]", 0},
		{"no receipt at all", func(n *net, m *memory) mqtt.Message {
			return mqtt.Message{Topic: "ward/v1/acme/pump-1/down/receipt", Payload: []byte("reboot now")}
		}, "[incident link.receipt-invalid]", 0},
		{"on another topic", func(n *net, m *memory) mqtt.Message {
			x := n.sign(good(m), n.key)
			x.Topic = "ward/v1/acme/pump-1/down/command"
			return x
		}, "[incident link.receipt-invalid]", 0},
		{"head of another journal", func(n *net, m *memory) mqtt.Message {
			r := good(m)
			r.Head = chain.Next([]byte("other"))
			return n.sign(r, n.key)
		}, "[incident link.receipt-foreign-head]", 2},
		{"of a later epoch", func(n *net, m *memory) mqtt.Message {
			r := good(m)
			r.Epoch = 2
			return n.sign(r, n.key)
		}, "[incident link.receipt-foreign-head]", 3},
		{"of a journal in memory, which has ended", func(n *net, m *memory) mqtt.Message {
			r := good(m)
			r.Epoch = event.FirstVolatile + 5
			return n.sign(r, n.key)
		}, "[]", 0},
		{"of a record that was not written", func(n *net, m *memory) mqtt.Message {
			r := good(m)
			r.Sequence = 5000
			return n.sign(r, n.key)
		}, "[incident link.receipt-foreign-head]", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var atLeast uint64
			replaced := func(c *uplink.Config) { c.Replaced = func(_ string, n uint64) { atLeast = n } }
			run(t, replaced, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
				n.mu.Lock()
				n.noReceipt = true
				n.mu.Unlock()
				m.add(t, 10)
				time.Sleep(time.Second)
				before, confirmed := m.len(), m.Acknowledged()
				for range 50 {
					n.current().push(c.message(n, m))
					synctest.Wait()
				}
				time.Sleep(time.Second)
				if got := fmt.Sprint(m.findings(before)); got != c.want {
					t.Errorf("fifty of them recorded %s, want %s", got, c.want)
				}
				if m.Acknowledged() != confirmed {
					t.Errorf("%d records were freed", m.Acknowledged())
				}
				if atLeast != c.atLeast {
					t.Errorf("a journal of epoch %d at least is asked for, want %d", atLeast, c.atLeast)
				}
				time.Sleep(2 * time.Minute)
				n.current().push(c.message(n, m))
				time.Sleep(time.Second)
				if got := m.findings(before); len(got) != 2 && c.want != "[]" {
					t.Errorf("two minutes later: %v, want one more with their number", got)
				}
				n.current().push(n.sign(good(m), n.key))
				time.Sleep(time.Second)
				if m.Acknowledged() != 5 {
					t.Errorf("a good receipt afterwards: %d confirmed, want 5", m.Acknowledged())
				}
			})
		})
	}
}

func TestBrokerThatAcknowledgesNothing(t *testing.T) {
	run(t, nil, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		n.mu.Lock()
		n.noAck = true
		conns := len(n.conns)
		n.mu.Unlock()
		m.add(t, 1000)
		time.Sleep(40 * time.Second)
		n.mu.Lock()
		n.noAck = false
		n.mu.Unlock()
		time.Sleep(2 * time.Minute)
		n.mu.Lock()
		again := len(n.conns)
		n.mu.Unlock()
		if again == conns {
			t.Error("the connection was kept")
		}
		if m.Acknowledged() != uint64(m.len()) {
			t.Errorf("%d of %d confirmed", m.Acknowledged(), m.len())
		}
	})
}

func TestShedRecordHoldsTheChain(t *testing.T) {
	run(t, nil, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		time.Sleep(time.Second)
		n.current().Close()
		m.add(t, 5)
		m.mu.Lock()
		m.records[3].Bytes = nil
		m.mu.Unlock()
		time.Sleep(time.Minute)
		if m.Acknowledged() != uint64(m.len()) {
			t.Errorf("%d of %d confirmed", m.Acknowledged(), m.len())
		}
	})
}

// Verifies: SR-017
func TestNoIdentityYet(t *testing.T) {
	creds := &credentials{none: true}
	var alive atomic.Int64
	run(t, func(c *uplink.Config) { c.Credentials, c.Alive = creds, func() { alive.Add(1) } }, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		time.Sleep(10 * time.Minute)
		if s := u.Status(); s.State != "no-identity" {
			t.Errorf("status %+v", s)
		}
		if m.len() != 0 || len(n.dials) != 0 {
			t.Errorf("%v recorded, %v dialled", m.findings(0), n.dials)
		}
		if alive.Load() < 10 {
			t.Errorf("alive %d times in ten minutes", alive.Load())
		}
		creds.mu.Lock()
		creds.none = false
		creds.mu.Unlock()
		time.Sleep(30 * time.Second)
		if s := u.Status(); s.State != "connected" {
			t.Errorf("status with an identity %+v", s)
		}
	})
}

// Verifies: SR-017
func TestJournalThatFails(t *testing.T) {
	run(t, nil, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		m.mu.Lock()
		m.fail = errors.New("input/output error")
		m.mu.Unlock()
		m.add(t, 3)
		time.Sleep(10 * time.Minute)
		if s := u.Status(); s.State != "connected" {
			t.Errorf("status %+v", s)
		}
		m.mu.Lock()
		m.fail = nil
		m.mu.Unlock()
		time.Sleep(10 * time.Second)
		if m.Acknowledged() != uint64(m.len()) {
			t.Errorf("%d of %d confirmed", m.Acknowledged(), m.len())
		}
	})
}

// What is left when the daemon stops still goes up before the farewell.
//
// Verifies: SR-025
func TestStopSendsWhatIsLeft(t *testing.T) {
	var network *net
	var journal *memory
	run(t, nil, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		time.Sleep(time.Second)
		network, journal = n, m
		if err := m.Record(t.Context(), event.Event{Type: event.DaemonStopped, Severity: 1, Report: []byte(`{"session":3}`)}); err != nil {
			t.Fatal(err)
		}
	})
	if network.last != uint64(journal.len()) {
		t.Errorf("%d of %d records at the fleet", network.last, journal.len())
	}
	if last := network.got[len(network.got)-1]; last.kind != presence.State {
		t.Errorf("the last message is %s", last.kind)
	}
}
