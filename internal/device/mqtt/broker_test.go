package mqtt_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// authority issues certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

func (a authority) issue(t testing.TB, name string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// broker is a broker that does what a test wants of it. Its handler answers
// every packet; without one it admits everybody and acknowledges everything.
type broker struct {
	listener net.Listener
	handle   func(conn net.Conn, p packets.ControlPacket)

	mu       sync.Mutex
	conns    []net.Conn
	received []packets.ControlPacket
}

func startBroker(t testing.TB, config *tls.Config, handle func(net.Conn, packets.ControlPacket)) *broker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	b := &broker{listener: l, handle: handle}
	if handle == nil {
		b.handle = obey
	}
	go b.serve()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) url() string { return "tls://" + b.listener.Addr().String() }

func (b *broker) serve() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.conns = append(b.conns, conn)
		b.mu.Unlock()
		go func() {
			defer conn.Close()
			for {
				p, err := packets.ReadPacket(conn)
				if err != nil {
					return
				}
				b.mu.Lock()
				b.received = append(b.received, p)
				b.mu.Unlock()
				b.handle(conn, p)
			}
		}()
	}
}

// drop cuts every connection.
func (b *broker) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.Close()
	}
	b.conns = nil
}

func (b *broker) stop() {
	b.listener.Close()
	b.drop()
}

func obey(conn net.Conn, p packets.ControlPacket) {
	switch p := p.(type) {
	case *packets.ConnectPacket:
		conn.Write([]byte{0x20, 2, 0, 0})
	case *packets.SubscribePacket:
		conn.Write([]byte{0x90, 3, byte(p.MessageID >> 8), byte(p.MessageID), 1})
	case *packets.PublishPacket:
		conn.Write([]byte{0x40, 2, byte(p.MessageID >> 8), byte(p.MessageID)})
	case *packets.PingreqPacket:
		conn.Write([]byte{0xd0, 0})
	}
}
