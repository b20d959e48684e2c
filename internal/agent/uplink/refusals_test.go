package uplink_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	gonet "net"
	"testing"
	"time"

	"ward/internal/agent/uplink"
	"ward/internal/trust/serverauth/serverauthtest"
)

// fixed are credentials that are there.
type fixed struct{ config *tls.Config }

func (f fixed) TLS(context.Context) (*tls.Config, error) { return f.config.Clone(), nil }

// Every broker that must be refused raises its own finding, against a real TLS
// server.
//
// Verifies: SR-044
func TestEveryWrongBroker(t *testing.T) {
	w := serverauthtest.NewWorld(t, "broker.example", time.Now())
	for _, s := range w.Servers {
		if s.Code == "" {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			l, err := tls.Listen("tcp", "127.0.0.1:0", s.TLS)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func(c gonet.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() }(c)
				}
			}()
			m := newMemory()
			c := config(t, m, newNet(t))
			c.Brokers, c.ServerName, c.Connect, c.Credentials = []string{"tls://" + l.Addr().String()}, w.Host, nil, fixed{w.Client(t)}
			c.Outcome = func(*tls.Config, bool) {
				t.Error("a broker that is not the fleet's says something about the device's certificate")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			done := make(chan error)
			go func() { done <- uplink.New(c).Run(ctx) }()
			if err := m.Wait(ctx, 0); err != nil {
				t.Fatal(err)
			}
			cancel()
			<-done
			if got, want := fmt.Sprint(m.findings(0)), fmt.Sprintf("[raised %s]", s.Code); got != want {
				t.Errorf("recorded %s, want %s", got, want)
			}
		})
	}
}

// The uplink tells with what it was admitted, and with what refused.
//
// Verifies: SR-045
func TestOutcome(t *testing.T) {
	var admitted, refused int
	run(t, func(c *uplink.Config) {
		c.Outcome = func(used *tls.Config, ok bool) {
			if used == nil || used.MinVersion != tls.VersionTLS13 {
				t.Errorf("told of %v", used)
			}
			if ok {
				admitted++
			} else {
				refused++
			}
		}
	}, func(t *testing.T, _ *uplink.Uplink, _ *memory, n *net) {
		if admitted != 1 || refused != 0 {
			t.Errorf("after the birth: %d admissions, %d refusals", admitted, refused)
		}
		n.set("tls://a:8883", errDown)
		n.set("tls://b:8883", errUntrusted)
		n.current().Close()
		time.Sleep(time.Minute)
		if refused != 0 {
			t.Errorf("%d refusals by brokers that are not there or not the fleet's", refused)
		}
		n.set("tls://b:8883", errRefused)
		time.Sleep(3 * time.Minute)
		if refused == 0 || admitted != 1 {
			t.Errorf("a refusal: %d admissions, %d refusals", admitted, refused)
		}
	})
}

// A connection is left for one with the new certificate, in order: no finding, no
// waiting, and once.
func TestRenewedCertificate(t *testing.T) {
	outdated, admitted := false, 0
	run(t, func(c *uplink.Config) {
		c.Outdated = func(*tls.Config) bool { return outdated }
		c.Outcome = func(*tls.Config, bool) { admitted++; outdated = false }
	}, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		first := n.current()
		outdated = true
		time.Sleep(10 * time.Second)
		if n.current() == first || admitted != 2 || u.Status().State != "connected" {
			t.Errorf("%d connections, %s", admitted, u.Status().State)
		}
		time.Sleep(10 * time.Minute)
		if admitted != 2 {
			t.Errorf("%d connections for one new certificate", admitted)
		}
		for _, e := range m.findings(0) {
			if e != "ward.link.connected" {
				t.Errorf("recorded %s", e)
			}
		}
	})
}

// A proxy that opens no way is told as the proxy's doing, after a grace; it takes
// the place of link.down, and no other finding's.
//
// Verifies: SR-064
func TestProxyThatRefuses(t *testing.T) {
	run(t, func(c *uplink.Config) { c.Brokers, c.Proxy = c.Brokers[:1], "http://proxy:3128" }, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		if o := n.current().options; o.Proxy != "http://proxy:3128" {
			t.Errorf("the proxy is %q", o.Proxy)
		}
		before := m.len()
		n.set("tls://a:8883", errProxy)
		n.current().Close()
		time.Sleep(5 * time.Second)
		if got := m.findings(before); len(got) != 0 {
			t.Errorf("within five seconds: %v", got)
		}
		n.set("tls://a:8883", errDown)
		time.Sleep(2 * time.Minute)
		n.set("tls://a:8883", errProxy)
		time.Sleep(5 * time.Minute)
		n.set("tls://a:8883", errDown)
		time.Sleep(5 * time.Minute)
		if got := fmt.Sprint(m.findings(before)); got != "[raised link.down cleared link.down raised link.proxy-refused]" {
			t.Errorf("recorded %s", got)
		}
		n.set("tls://a:8883", errUntrusted)
		time.Sleep(5 * time.Minute)
		n.set("tls://a:8883", errProxy)
		time.Sleep(5 * time.Minute)
		n.set("tls://a:8883", nil)
		time.Sleep(5 * time.Minute)
		if got := fmt.Sprint(m.findings(before)[3:]); got != "[cleared link.proxy-refused raised link.server-untrusted ward.link.connected cleared link.server-untrusted]" {
			t.Errorf("then %s", got)
		}
	})
}

// A server of the fleet's that is no broker is told at once, and until a
// connection has lasted.
//
// Verifies: SR-067
func TestServerThatIsNoBroker(t *testing.T) {
	run(t, func(c *uplink.Config) { c.Brokers = c.Brokers[:1] }, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		before := m.len()
		n.set("tls://a:8883", errOther)
		n.current().Close()
		time.Sleep(10 * time.Minute)
		n.set("tls://a:8883", nil)
		time.Sleep(61 * time.Second)
		if got := fmt.Sprint(m.findings(before)); got != "[raised link.protocol]" {
			t.Errorf("recorded %s", got)
		}
		time.Sleep(3 * time.Minute)
		if got := fmt.Sprint(m.findings(before)); got != "[raised link.protocol cleared link.protocol]" {
			t.Errorf("after a connection that lasts: %s", got)
		}
	})
}
