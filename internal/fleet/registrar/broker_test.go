package registrar_test

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"ward/internal/fleet/registrar"
	"ward/internal/trust/enrolment"
)

// A broker with the revocation list lets an enrolled device in, and no longer one
// that was revoked.
//
// Verifies: SR-035
func TestBrokerTakesTheList(t *testing.T) {
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("mosquitto is not installed: run 'make deps'")
	}
	w := newWorld(t, nil)
	one, two := w.enroll(w.maker.NewDevice(t, "pump-1"), enrolment.Reporting), w.enroll(w.maker.NewDevice(t, "pump-2"), enrolment.Reporting)
	if _, err := w.register().Revoke(time.Now(), tenant, "pump-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	der, entries, err := registrar.NewCRL(time.Now(), w.register(), w.config.CA, time.Hour)
	if err != nil || entries != 1 {
		t.Fatal(entries, err)
	}
	must(t, os.WriteFile(w.file("crl.pem"), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o644))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	_, port, err := net.SplitHostPort(address)
	must(t, err)
	must(t, os.WriteFile(w.file("mosquitto.conf"), fmt.Appendf(nil, `user root
listener %s 127.0.0.1
cafile %s
certfile %s
keyfile %s
crlfile %s
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
`, port, w.file("ca/ca.crt"), w.file("ca/127.0.0.1.crt"), w.file("ca/127.0.0.1.key"), w.file("crl.pem")), 0o644))
	broker := exec.Command("mosquitto", "-c", w.file("mosquitto.conf"))
	must(t, broker.Start())
	t.Cleanup(func() { _ = broker.Process.Kill(); _ = broker.Wait() })

	// connect sends MQTT's CONNECT and returns its CONNACK.
	connect := func(cert *tls.Certificate) ([]byte, error) {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: w.roots, Certificates: []tls.Certificate{*cert}})
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		if _, err := conn.Write([]byte("\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02id")); err != nil {
			return nil, err
		}
		answer := make([]byte, 4)
		_, err = io.ReadFull(conn, answer)
		return answer, err
	}
	for { // until the broker listens
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if got, err := connect(two); err != nil || string(got) != "\x20\x02\x00\x00" {
		t.Errorf("the good device: %x, %v", got, err)
	}
	if got, err := connect(one); err == nil {
		t.Errorf("the revoked device: %x", got)
	}
}
