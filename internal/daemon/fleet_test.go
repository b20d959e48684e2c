package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ward/internal/agent/localapi"
	"ward/internal/fleet/ingest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth/serverauthtest"
)

// fleet gives a manufactured device a broker and somebody who listens behind it;
// what was accepted stands in the events file.
func fleet(t *testing.T, m *manufactured) (broker, events string) {
	t.Helper()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("mosquitto is not installed: run 'make deps'")
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := l.Addr().(*net.TCPAddr)
	check(t, l.Close())
	conf := filepath.Join(dir, "conf")
	check(t, os.WriteFile(conf, fmt.Appendf(nil, "listener %d 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\ntls_version tlsv1.3\nrequire_certificate true\n"+
		"use_identity_as_username true\nallow_anonymous false\nuser root\npersistence false\nlog_dest none\n", address.Port,
		filepath.Join(m.config.Trust, "fleet/root.pem"), filepath.Join(m.ca, "127.0.0.1.crt"), filepath.Join(m.ca, "127.0.0.1.key")), 0o600))
	cmd := exec.Command("mosquitto", "-c", conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })

	root, receipts, key := serverRoot(t, m), serverauthtest.NewKey(t), serverauthtest.NewKey(t)
	spki, err := x509.MarshalPKIXPublicKey(receipts.Public())
	check(t, err)
	check(t, os.Mkdir(filepath.Join(m.config.Trust, "receipt"), 0o755))
	check(t, os.WriteFile(filepath.Join(m.config.Trust, "receipt/1.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), 0o644))
	leaf := root.Certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "wardfleet"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public())
	broker, events = "tls://"+address.String(), filepath.Join(dir, "events")
	listen, err := ingest.New(ingest.Config{
		Broker: broker, ClientID: "wardfleet", ReceiptKey: receipts, EventsFile: events,
		TLS: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: root.Pool(), ServerName: "127.0.0.1", Certificates: []tls.Certificate{serverauthtest.Pair(key, leaf)}},
	})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = listen.Run(ctx) }()
	go func() {
		for range listen.Messages() {
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return broker, events
}

// accepted lists the files and the codes that the fleet's record tells of.
func accepted(t *testing.T, file string) (files string, codes map[finding.Code]int) {
	t.Helper()
	b, err := os.ReadFile(file)
	check(t, err)
	codes = make(map[finding.Code]int)
	for line := range bytes.Lines(b) {
		e, err := event.Parse(bytes.TrimSpace(line))
		check(t, err)
		if e.Finding == nil {
			continue
		}
		if codes[e.Finding.Code]++; e.Finding.Code == finding.IMAUnknownFile {
			files += strings.TrimPrefix(e.Finding.Path, "/tmp/")
		}
	}
	return files, codes
}

// The whole way, with a software TPM, a registrar, a broker and the fleet: somebody
// restores an older copy of the journal while the daemon is stopped. The fleet's
// receipt tells the daemon, or its own TPM's counter where it has one; it begins
// another epoch without being restarted, and the fleet accepts everything that
// happened, once.
//
// Verifies: SR-056 SR-010
func TestAnOlderCopyIsFound(t *testing.T) {
	for _, row := range []struct {
		name     string
		counters bool
	}{{"by the fleet's receipt", false}, {"by the journal's counter", true}} {
		t.Run(row.name, func(t *testing.T) {
			m := manufacture(t)
			if !row.counters {
				check(t, os.Remove(filepath.Join(m.config.State, "identity/auth/journal")))
			}
			findAnOlderCopy(t, m, !row.counters)
		})
	}
}

func findAnOlderCopy(t *testing.T, m *manufactured, byReceipt bool) {
	broker, events := fleet(t, m)
	check(t, m.chip.Close()) // swtpm serves one connection at a time
	journal, backup := filepath.Join(m.config.State, "journal"), filepath.Join(t.TempDir(), "backup")
	begin := func() *living {
		return live(t, m.config.State, func(d *daemon) {
			d.config.Paths.Trust, d.config.TPM.Device = m.config.Trust, m.socket
			d.config.Identity.Registrar, d.config.Identity.ServerName, d.config.Identity.SerialFile = m.config.Registrar, m.config.ServerName, ""
			d.config.Uplink.Brokers, d.config.Uplink.ServerName = []string{broker}, "127.0.0.1"
		})
	}
	running := func(l *living) {
		l.until("it runs", func(s localapi.Status) bool { return s.Journal.Epoch > 0 && len(s.Roles) > 0 })
	}
	confirmed := func(l *living) localapi.Status {
		return l.until("all is confirmed", func(s localapi.Status) bool {
			return s.Link.State == "connected" && s.Journal.Acknowledged > 0 && s.Journal.Acknowledged == s.Journal.Sequence
		})
	}
	l := begin()
	running(l)
	l.record(l.first, "a")
	confirmed(l)
	l.stop()
	check(t, os.CopyFS(backup, os.DirFS(journal)))
	l = begin()
	running(l)
	for _, name := range []string{"b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"} {
		l.record(l.first, name)
	}
	confirmed(l)
	l.stop()
	check(t, os.RemoveAll(journal))
	check(t, os.CopyFS(journal, os.DirFS(backup)))

	l = begin()
	running(l)
	l.record(l.first, "u")
	l.until("another epoch", func(s localapi.Status) bool { return s.Journal.Epoch > 1 })
	s := confirmed(l)
	epoch := s.Journal.Epoch
	if epoch < 2 || !strings.Contains(fmt.Sprint(s.Incidents), string(finding.JournalReset)) {
		t.Errorf("status %+v, %v", s.Journal, s.Incidents)
	}
	l.stop()
	l = begin()
	running(l)
	l.record(l.first, "v")
	if s := confirmed(l); s.Journal.Epoch != epoch {
		t.Errorf("after a restart epoch %d, before %d", s.Journal.Epoch, epoch)
	}
	l.stop()
	files, codes := accepted(t, events)
	if files != "abcdefghijklmnopqrstuv" || codes[finding.JournalReset] != 2 || byReceipt && codes[finding.LinkReceiptForeign] != 1 {
		t.Errorf("the fleet accepted %q and %v; want a to v once, and two begins", files, codes)
	}
}
