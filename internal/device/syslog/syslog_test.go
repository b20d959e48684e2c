package syslog_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ward/internal/device/syslog"
	"ward/internal/trust/serverauth"
	"ward/internal/trust/serverauth/serverauthtest"
)

// patience guards every wait.
const patience = 20 * time.Second

// server reads frames as RFC 5425 has them.
type server struct {
	net.Listener
	messages chan string

	mu    sync.Mutex
	conns []net.Conn
}

func serve(t *testing.T, config *tls.Config) *server {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Listener: l, messages: make(chan string, 1000)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			go s.read(c)
		}
	}()
	t.Cleanup(func() { l.Close(); s.drop() })
	return s
}

func (s *server) read(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		n, err := r.ReadString(' ')
		if err != nil {
			return
		}
		length, err := strconv.Atoi(strings.TrimSuffix(n, " "))
		if err != nil || length < 1 || length > 1<<20 {
			s.messages <- "no frame: " + n
			return
		}
		b := make([]byte, length)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		s.messages <- string(b)
	}
}

func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

// device is the TLS configuration of a device with a certificate of an authority.
func device(t *testing.T, w *serverauthtest.World, by serverauthtest.Authority) *tls.Config {
	t.Helper()
	key := serverauthtest.NewKey(t)
	c := w.Client(t)
	c.MinVersion = tls.VersionTLS12 // Connect demands more
	c.Certificates = []tls.Certificate{serverauthtest.Pair(key, by.Certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "pump-1"}, NotBefore: w.Now.AddDate(-1, 0, 0), NotAfter: w.Now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public()))}
	return c
}

func mutual(w *serverauthtest.World) *tls.Config {
	c := w.Accepted.Clone()
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, w.Fleet.Pool()
	return c
}

func connect(t *testing.T, address string, config *tls.Config) (*syslog.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := syslog.Connect(ctx, address, config)
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, err
}

func ended(t *testing.T, c *syslog.Conn) error {
	t.Helper()
	select {
	case <-c.Done():
		return c.Err()
	case <-time.After(patience):
		t.Fatal("the connection stands")
		return nil
	}
}

// Messages arrive whole and in order over mutual TLS 1.3, each in its frame; the end
// of the connection is noticed on the reading side, and from then on nothing is sent.
//
// Verifies: SR-071
func TestMessagesArriveAndTheEndIsNoticed(t *testing.T) {
	w := serverauthtest.NewWorld(t, "syslog.example", time.Now())
	s := serve(t, mutual(w))
	c, err := connect(t, s.Addr().String(), device(t, w, w.Fleet))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"<86>1 one", "<86>1 2 7 <86>1", "<86>1 ünï\nline", strings.Repeat("x", 8192)}
	for _, m := range want {
		if err := c.Send([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range want {
		select {
		case got := <-s.messages:
			if got != m {
				t.Errorf("got %.40q, want %.40q", got, m)
			}
		case <-time.After(patience):
			t.Fatalf("%.40q does not arrive", m)
		}
	}
	if c.Err() != nil {
		t.Errorf("a connection that stands has the error %v", c.Err())
	}
	s.drop()
	var e *syslog.Error
	if err := ended(t, c); !errors.As(err, &e) || e.Cause != syslog.EarlyEnd {
		t.Errorf("the server has closed: %v", err)
	}
	if err := c.Send([]byte("late")); err == nil {
		t.Error("a message is sent on a connection that has ended")
	}
}

// A clean end is this side's, and everything that was sent goes out before it.
func TestClose(t *testing.T) {
	w := serverauthtest.NewWorld(t, "syslog.example", time.Now())
	s := serve(t, mutual(w))
	c, err := connect(t, s.Addr().String(), device(t, w, w.Fleet))
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := c.Send([]byte(strings.Repeat("x", 1000))); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	c.Close()
	if !errors.Is(c.Err(), syslog.ErrClosed) || !errors.Is(c.Send(nil), syslog.ErrClosed) {
		t.Errorf("closed: %v", c.Err())
	}
	for i := range 200 {
		select {
		case <-s.messages:
		case <-time.After(patience):
			t.Fatalf("%d messages arrived", i)
		}
	}
}

// Every server that must be refused is refused, for its one reason.
//
// Verifies: SR-071
func TestEveryWrongServer(t *testing.T) {
	w := serverauthtest.NewWorld(t, "syslog.example", time.Now())
	for _, row := range w.Servers {
		if row.Code == "" {
			continue
		}
		t.Run(row.Name, func(t *testing.T) {
			s := serve(t, row.TLS)
			_, err := connect(t, s.Addr().String(), device(t, w, w.Fleet))
			var e *syslog.Error
			if !errors.As(err, &e) || e.Cause != syslog.Untrusted || e.Address != s.Addr().String() {
				t.Fatalf("%v", err)
			}
			if r := serverauth.Explain(err); r.Code != row.Code || r.Step != row.Step {
				t.Errorf("explained as %s, %s, want %s, %s", r.Code, r.Step, row.Code, row.Step)
			}
		})
	}
}

type broken struct{ crypto.Signer }

func (broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the TPM is gone")
}

// What stands in the way is told apart: a server that refuses the device's
// certificate or gets none, one that is not there, one that does not speak TLS, one
// that closes at once, and an own key that does not sign.
//
// Verifies: SR-071
func TestCauses(t *testing.T) {
	w := serverauthtest.NewWorld(t, "syslog.example", time.Now())
	foreign := serverauthtest.NewAuthority(t, "somebody else", w.Now)
	strict := serve(t, mutual(w)).Addr().String()
	plain := func(handle func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				handle(c)
			}
		}()
		return l.Addr().String()
	}
	hangsUp := plain(func(c net.Conn) { c.Close() })
	speaksPlain := plain(func(c net.Conn) { io.WriteString(c, "220 mail ready\r\n"); c.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	none := device(t, w, w.Fleet)
	none.Certificates = nil
	unsigned := device(t, w, w.Fleet)
	unsigned.Certificates[0].PrivateKey = broken{unsigned.Certificates[0].PrivateKey.(crypto.Signer)}
	for name, row := range map[string]struct {
		address string
		config  *tls.Config
		want    syslog.Cause
	}{
		"certificate of another CA": {strict, device(t, w, foreign), syslog.Refused},
		"no certificate":            {strict, none, syslog.Refused},
		"not there":                 {gone.Addr().String(), device(t, w, w.Fleet), syslog.Unreachable},
		"hangs up":                  {hangsUp, device(t, w, w.Fleet), syslog.Unreachable},
		"no TLS":                    {speaksPlain, device(t, w, w.Fleet), syslog.Untrusted},
		"own key":                   {strict, unsigned, syslog.OwnKey},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := connect(t, row.address, row.config)
			if err == nil {
				err = ended(t, c) // in TLS 1.3 a refusal comes after the handshake
			}
			var e *syslog.Error
			if !errors.As(err, &e) || e.Cause != row.want {
				t.Errorf("%v, want %s", err, row.want)
			}
		})
	}
}

// Nothing is tried with settings that would trust whom nobody named.
func TestSettingsThatTrustTooMuch(t *testing.T) {
	w := serverauthtest.NewWorld(t, "syslog.example", time.Now())
	any := w.Client(t)
	any.InsecureSkipVerify = true
	for name, c := range map[string]*tls.Config{"none": nil, "no roots": {}, "an empty pool": {RootCAs: x509.NewCertPool()}, "no verification": any} {
		if _, err := connect(t, "127.0.0.1:1", c); err == nil || strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := connect(t, "host", w.Client(t)); err == nil {
		t.Error("an address without a port is taken")
	}
}

// A server that talks is no syslog server.
func TestServerThatTalks(t *testing.T) {
	w := serverauthtest.NewWorld(t, "syslog.example", time.Now())
	l, err := tls.Listen("tcp", "127.0.0.1:0", w.Accepted)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		for err == nil {
			_, err = c.Write(make([]byte, 4096))
		}
	}()
	c, err := connect(t, l.Addr().String(), device(t, w, w.Fleet))
	if err != nil {
		t.Fatal(err)
	}
	if err := ended(t, c); !strings.Contains(err.Error(), "no syslog server") {
		t.Error(err)
	}
}

// A server that takes nothing any more does not hold its sender up for ever.
//
// Verifies: SR-071
func TestServerThatDoesNotRead(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a time limit")
	}
	w := serverauthtest.NewWorld(t, "syslog.example", time.Now())
	l, err := tls.Listen("tcp", "127.0.0.1:0", w.Accepted)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	held := make(chan net.Conn, 1) // a connection that nobody holds would be closed
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.(*tls.Conn).Handshake()
			held <- c
		}
	}()
	c, err := connect(t, l.Addr().String(), device(t, w, w.Fleet))
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		for {
			if err := c.Send(make([]byte, 8192)); err != nil {
				failed <- err
				return
			}
		}
	}()
	select {
	case err := <-failed:
		if c.Err() == nil || !strings.Contains(err.Error(), "timeout") {
			t.Error(err)
		}
	case <-time.After(syslog.LossTime + patience):
		t.Fatal("it is waited for without end")
	}
	(<-held).Close()
}
