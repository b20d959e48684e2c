package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/health"
	"ward/internal/config"
	"ward/internal/daemon/early"
	"ward/internal/device/syslog"
	"ward/internal/trust/serverauth/serverauthtest"
)

// clinic is a hospital with a syslog server of its own authority, and a device of a
// fleet.
type clinic struct {
	fleet, hospital serverauthtest.Authority
	device          tls.Certificate
	address         string
	messages        chan string
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	now := time.Now()
	c := &clinic{fleet: serverauthtest.NewAuthority(t, "fleet", now), hospital: serverauthtest.NewAuthority(t, "hospital", now), messages: make(chan string, 100)}
	pair := func(by serverauthtest.Authority, name string, use x509.ExtKeyUsage) tls.Certificate {
		key := serverauthtest.NewKey(t)
		return serverauthtest.Pair(key, by.Certify(t, &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
		}, key.Public()))
	}
	c.device = pair(c.fleet, "pump-1", x509.ExtKeyUsageClientAuth)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair(c.hospital, "log.example", x509.ExtKeyUsageServerAuth)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.fleet.Pool(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c.address = l.Addr().String()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.read(conn)
		}
	}()
	return c
}

func (c *clinic) read(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		length, err := r.ReadString(' ')
		n, _ := strconv.Atoi(strings.TrimSuffix(length, " "))
		b := make([]byte, min(n, 1<<20))
		if err == nil {
			_, err = io.ReadFull(r, b)
		}
		if err != nil {
			return
		}
		c.messages <- string(b)
	}
}

// identity is that of the device, which believes its fleet.
func (c *clinic) identity(context.Context) (*tls.Config, error) {
	return &tls.Config{
		RootCAs: c.fleet.Pool(), Certificates: []tls.Certificate{c.device}, Time: time.Now, ClientSessionCache: tls.NewLRUClientSessionCache(1),
		VerifyConnection: func(tls.ConnectionState) error { return errors.New("the fleet's policy is asked") },
	}, nil
}

// The daemon carries its record to the configured sink, which the anchors of their own
// vouch for, and says how far.
//
// Verifies: SR-071
func TestSinkGetsTheRecord(t *testing.T) {
	c, dir := newClinic(t), short(t)
	trust := filepath.Join(dir, "trust")
	if err := os.MkdirAll(filepath.Join(trust, "syslog"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(trust, "syslog", "hospital.pem"), c.hospital.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := config.Default()
	settings.Paths.State, settings.Paths.Trust, settings.Paths.Socket = filepath.Join(dir, "state"), trust, filepath.Join(dir, "s")
	settings.Forward.Sinks = []string{"rfc5424+tls://" + c.address + "#log.example", "cef+tls://" + c.address + "#log.example"}
	d := &daemon{early: new(early.Opened), config: settings, log: slog.New(slog.DiscardHandler), started: time.Now()}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	d.health = health.New(d.journal, nil, d.log)
	d.begin(t.Context(), nil, "")
	sinks := d.assembleSinks(c.identity)
	if len(sinks) != 2 || len(d.roles) != 2 || d.roles[0].name != "forward rfc5424+tls://"+c.address {
		t.Fatalf("%d sinks, roles %+v", len(sinks), d.roles)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { d.run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	wanted := map[string]bool{`type="ward.daemon.started"`: true, "cat=ward.daemon.started ": true}
	guard := time.After(20 * time.Second)
	for len(wanted) > 0 {
		select {
		case m := <-c.messages:
			for text := range wanted {
				if strings.Contains(m, text) {
					delete(wanted, text)
				}
			}
		case <-guard:
			t.Fatalf("%v does not arrive; sinks %+v", wanted, describeSinks(sinks))
		}
	}
	for _, s := range describeSinks(sinks) {
		if s.State != "connected" || s.Sent == 0 || s.Error != "" || !strings.HasSuffix(s.Name, c.address) {
			t.Errorf("status %+v", s)
		}
	}
}

// Anchors of their own take the place of the fleet's roots and policy; without any
// these count, and what cannot be read trusts nobody.
//
// Verifies: SR-071
func TestAnchorsOfSinks(t *testing.T) {
	c := newClinic(t)
	for title, row := range map[string]struct {
		files map[string][]byte
		want  string // in the error; empty: it connects
	}{
		"none":                       {nil, "certificate signed by unknown authority"},
		"the hospital's":             {map[string][]byte{"a.pem": c.hospital.PEM()}, ""},
		"another's":                  {map[string][]byte{"a.pem": serverauthtest.NewAuthority(t, "hospital", time.Now()).PEM()}, "certificate signed by unknown authority"},
		"the hospital's and no PEM":  {map[string][]byte{"a.pem": c.hospital.PEM(), "b.pem": []byte("hello")}, "b.pem"},
		"the hospital's, other name": {map[string][]byte{"a.txt": c.hospital.PEM()}, "certificate signed by unknown authority"},
		"a link to nowhere":          {map[string][]byte{"a.pem": nil}, "a.pem"},
	} {
		t.Run(title, func(t *testing.T) {
			dir := t.TempDir()
			for name, b := range row.files {
				file := filepath.Join(dir, name)
				err := os.WriteFile(file, b, 0o600)
				if b == nil {
					err = errors.Join(os.Remove(file), os.Symlink("nowhere", file))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			settings, err := sinkTrust{c.identity, dir}.TLS(t.Context())
			if err == nil {
				if settings.ClientSessionCache != nil || len(settings.Certificates) != 1 {
					t.Errorf("settings %+v", settings)
				}
				settings.ServerName = "log.example"
				var conn *syslog.Conn
				if conn, err = syslog.Connect(t.Context(), c.address, settings); err == nil {
					conn.Close()
				}
			}
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
	waits := sinkTrust{func(context.Context) (*tls.Config, error) { return nil, context.DeadlineExceeded }, t.TempDir()}
	if _, err := waits.TLS(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without an identity: %v", err)
	}
}
