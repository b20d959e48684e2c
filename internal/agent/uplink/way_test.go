package uplink_test

import (
	"fmt"
	"testing"
	"time"

	"ward/internal/agent/uplink"
)

// A proxy that opens no way, and a broker that does not speak as it must, are told
// by their own names, and no longer once the way stands.
//
// Verifies: SR-061
func TestProxyAndProtocolAreFindings(t *testing.T) {
	for err, code := range map[error]string{errProxy: "link.proxy-refused", errProtocol: "link.protocol"} {
		run(t, func(c *uplink.Config) { c.Brokers = c.Brokers[:1] }, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
			n.set("tls://a:8883", err)
			before := m.len()
			n.current().Close()
			time.Sleep(10 * time.Minute)
			if got := fmt.Sprint(m.findings(before)); got != "[raised "+code+"]" {
				t.Errorf("%v recorded %s", err, got)
			}
			n.set("tls://a:8883", nil)
			time.Sleep(5 * time.Minute)
			if got := m.findings(before); got[len(got)-1] != "cleared "+code {
				t.Errorf("after the repair: %s", got)
			}
		})
	}
}
