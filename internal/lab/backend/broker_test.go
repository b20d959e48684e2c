package backend

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"ward/internal/lab/pki"
	"ward/internal/lab/tool"
)

const tenant = "lab"

func startBroker(t *testing.T, p *pki.Keys, devices ...string) *Broker {
	t.Helper()
	if _, err := tool.Look("mosquitto"); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := StartBroker(ctx, p, BrokerConfig{Dir: t.TempDir(), Tenant: tenant, Devices: devices})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

func openKeys(t *testing.T) *pki.Keys {
	t.Helper()
	p, err := pki.Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// credentials of a device whose key an authority certifies.
func credentials(t *testing.T, p *pki.Keys, by pki.Authority, device string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	q := *p
	q.Fleet = by
	text, err := q.IssueDevice(key.Public(), tenant, device)
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Certificate{PrivateKey: key}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	return c
}

func stored(t *testing.T, p *pki.Keys, name string) tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(p.File(name+".crt"), p.File(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dial connects to the broker with certificates and a version of TLS.
func dial(t *testing.T, p *pki.Keys, b *Broker, version uint16, certs ...tls.Certificate) (mqtt.Client, error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(p.Fleet.Cert)
	o := mqtt.NewClientOptions().AddBroker("tls://" + b.Address()).SetClientID(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:] + time.Now().Format("150405.000000000"))
	o.SetTLSConfig(&tls.Config{RootCAs: roots, ServerName: pki.BrokerName, Certificates: certs, MinVersion: tls.VersionTLS12, MaxVersion: version})
	o.SetConnectRetry(false).SetAutoReconnect(false).SetConnectTimeout(5 * time.Second)
	c := mqtt.NewClient(o)
	err := done(t, c.Connect())
	if err == nil {
		t.Cleanup(func() { c.Disconnect(100) })
	}
	return c, err
}

func done(t *testing.T, token mqtt.Token) error {
	t.Helper()
	if !token.WaitTimeout(10 * time.Second) {
		t.Fatal("the broker does not answer")
	}
	return token.Error()
}

// Verifies: SR-011
func TestBrokerAdmitsItsFleetAlone(t *testing.T) {
	p := openKeys(t)
	b := startBroker(t, p, "pump-1")
	if _, err := dial(t, p, b, tls.VersionTLS13, credentials(t, p, p.Fleet, "pump-1")); err != nil {
		t.Fatalf("a device of the fleet is refused: %v\n%s", err, b.Log())
	}
	if _, err := dial(t, p, b, tls.VersionTLS13, credentials(t, p, p.Foreign, "pump-1")); err == nil {
		t.Error("a certificate of a foreign authority is admitted")
	}
	if _, err := dial(t, p, b, tls.VersionTLS13); err == nil {
		t.Error("nobody's certificate is admitted")
	}
	if _, err := dial(t, p, b, tls.VersionTLS12, credentials(t, p, p.Fleet, "pump-1")); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	if !strings.Contains(b.Log(), "pump-1") {
		t.Errorf("the broker's log does not name the device:\n%s", b.Log())
	}
}

// Verifies: SR-013
func TestBrokerKeepsDevicesApart(t *testing.T) {
	p := openKeys(t)
	b := startBroker(t, p, "pump-1", "pump-2")
	connect := func(c tls.Certificate) mqtt.Client {
		t.Helper()
		client, err := dial(t, p, b, tls.VersionTLS13, c)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	got := make(chan string, 16)
	take := func(_ mqtt.Client, m mqtt.Message) { got <- m.Topic() }
	pump, unknown := connect(credentials(t, p, p.Fleet, "pump-2")), connect(credentials(t, p, p.Fleet, "pump-3"))
	reader, fleet := connect(stored(t, p, "reader")), connect(stored(t, p, "backend"))
	if err := done(t, reader.Subscribe("ward/v1/#", 1, take)); err != nil {
		t.Fatal(err)
	}
	base := "ward/v1/" + tenant
	// Those that the broker takes end each round, so that nothing is waited for
	// in vain: messages of one client arrive in their order.
	attempts := []struct {
		who   mqtt.Client
		topic string
		taken bool
	}{
		{pump, base + "/pump-1/up/event", false},
		{pump, "ward/v1/other/pump-2/up/event", false},
		{pump, base + "/pump-2/down/receipt", false},
		{pump, base + "/pump-2/up/event", true},
		{unknown, base + "/pump-3/up/event", false},
		{unknown, base + "/pump-1/up/event", false},
		{reader, base + "/pump-1/up/event", false},
		{reader, base + "/pump-1/down/receipt", false},
		{fleet, base + "/pump-1/up/event", false},
		{fleet, base + "/pump-2/down/receipt", true},
	}
	for _, a := range attempts {
		if err := done(t, a.who.Publish(a.topic, 1, false, "{}")); err != nil {
			t.Fatalf("publish %s: %v", a.topic, err)
		}
		if !a.taken {
			continue
		}
		select {
		case topic := <-got:
			if topic != a.topic {
				t.Errorf("%s got through", topic)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s does not arrive", a.topic)
		}
	}

	// A device hears what is meant for it, and nothing else.
	heard := make(chan string, 16)
	for _, filter := range []string{base + "/pump-1/down/#", "ward/v1/#", base + "/pump-2/down/#"} {
		_ = done(t, pump.Subscribe(filter, 1, func(_ mqtt.Client, m mqtt.Message) { heard <- m.Topic() }))
	}
	for _, device := range []string{"pump-1", "pump-2"} {
		if err := done(t, fleet.Publish(base+"/"+device+"/down/receipt", 1, false, "{}")); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case topic := <-heard:
		if topic != base+"/pump-2/down/receipt" {
			t.Errorf("pump-2 hears %s", topic)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("pump-2 does not hear what is meant for it")
	}
}

func TestBrokerThatCannotStart(t *testing.T) {
	if _, err := tool.Look("mosquitto"); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := StartBroker(ctx, openKeys(t), BrokerConfig{Dir: t.TempDir(), Cert: "nobody", Tenant: tenant})
	if err == nil || !strings.Contains(err.Error(), "it ended at once") {
		t.Errorf("without its certificate the broker gives %v", err)
	}
}

func TestStopEndsTheBroker(t *testing.T) {
	p := openKeys(t)
	b := startBroker(t, p)
	b.Stop()
	b.Stop()
	if _, err := dial(t, p, b, tls.VersionTLS13, stored(t, p, "reader")); err == nil {
		t.Error("the broker still answers")
	}
}
