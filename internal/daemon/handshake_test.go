package daemon

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/agent/journal"
	"ward/internal/daemon/chip"
	"ward/internal/device/bootclock"
	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/device/tpm/tpmtest"
	"ward/internal/device/wal"
	"ward/internal/fleet/issue"
	"ward/internal/format/tss2"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth/serverauthtest"
)

// commandSign is TPM_CC_Sign (TPM 2.0 Library, Part 2, section 6.5.2).
const commandSign = 0x15d

// counted signs with a TPM whose commands are counted, and leaves the rest to the
// device's keys.
type counted struct {
	*chip.Keys
	chip *tpm.TPM
}

func (c counted) Signer(ctx context.Context, _ enrolment.Use, key tss2.File) (crypto.Signer, error) {
	return c.chip.BlobSigner(context.WithoutCancel(ctx), tpm.Blob{Public: key.Public, Private: key.Private}, nil, time.Minute)
}

// injected is a TPM behind an injector, with keys.
func injected(t testing.TB, socket string) (*tpm.TPM, *tpmtest.Injector) {
	t.Helper()
	conn, err := linuxudstpm.Open(socket)
	check(t, err)
	inject := tpmtest.New(conn)
	chip := tpm.New(func() (tpm.Transport, error) { return inject.Open(), nil })
	t.Cleanup(func() { chip.Close() })
	return chip, inject
}

func signatures(t *testing.T, stop func() []tpmtest.Exchange) int {
	t.Helper()
	n := 0
	for _, e := range stop() {
		if binary.BigEndian.Uint32(e.Command[6:]) == commandSign {
			n++
		}
	}
	return n
}

// A handshake with a server of the fleet costs one signature of the TPM, one that
// resumes a session none; a new certificate begins with a whole one.
//
// Verifies: SR-044
func TestOneSignatureForAHandshake(t *testing.T) {
	m := manufacture(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	who, stop := m.start()
	_, err := who.TLS(ctx) // enrolled
	check(t, err)
	stop()
	check(t, m.chip.Close()) // swtpm serves one connection at a time
	chip, inject := injected(t, m.socket)
	m.config.Registrar, m.config.TPM = "", counted{m.keys, chip}
	who, stop = m.start()
	defer stop()

	settings, err := who.TLS(ctx)
	check(t, err)
	pool := settings.RootCAs
	root := serverRoot(t, m)
	key := serverauthtest.NewKey(t)
	leaf := root.Certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "broker"}, DNSNames: []string{"broker"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{serverauthtest.Pair(key, leaf)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	})
	check(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) { _, _ = c.Write([]byte("x")); _, _ = io.Copy(io.Discard, c); c.Close() }(c)
		}
	}()
	connect := func() (resumed bool, signed int) {
		settings, err := who.TLS(ctx)
		check(t, err)
		settings.ServerName = "broker"
		end := inject.Record()
		c, err := (&tls.Dialer{Config: settings}).DialContext(ctx, "tcp", l.Addr().String())
		check(t, err)
		defer c.Close()
		_, err = io.ReadFull(c, make([]byte, 1)) // the tickets come before it
		check(t, err)
		return c.(*tls.Conn).ConnectionState().DidResume, signatures(t, end)
	}
	for i, want := range []struct {
		resumed bool
		signed  int
	}{{false, 1}, {true, 0}, {true, 0}} {
		if resumed, signed := connect(); resumed != want.resumed || signed != want.signed {
			t.Errorf("connection %d: resumed %v, %d signatures; want %v", i, resumed, signed, want)
		}
	}
}

// serverRoot is the fleet's authority, as it may also issue to servers.
func serverRoot(t *testing.T, m *manufactured) serverauthtest.Authority {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(m.ca, issue.CACertFile), filepath.Join(m.ca, issue.CAKeyFile))
	check(t, err)
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	check(t, err)
	return serverauthtest.Authority{Cert: cert, Key: pair.PrivateKey.(crypto.Signer)}
}

// With a TPM that takes a while for each command, who signs waits for the one
// operation before it and no more, and the record waits for neither. The bound is
// that of docs/tpm.md; it is counted in commands, not in time.
//
// Verifies: SR-046
func TestNobodyWaitsForMoreThanTheOperationBefore(t *testing.T) {
	soft := swtpmtest.Start(t, false)
	chip, inject := injected(t, soft.Socket)
	_, err := chip.ProvisionKeys(t.Context())
	check(t, err)
	blob, err := chip.CreateKey(t.Context(), nil)
	check(t, err)
	first, err := chip.BlobSigner(t.Context(), blob, nil, time.Minute)
	check(t, err)
	digest := sha256.Sum256([]byte("x"))
	alone := inject.Sent()
	_, err = first.Sign(nil, digest[:], crypto.SHA256)
	check(t, err)
	cost := inject.Sent() - alone // commands of one signature

	// The operation before hangs in its first command; the second comes meanwhile.
	release := make(chan struct{})
	inject.Inject(tpmtest.Hang(release))
	begun := inject.Sent()
	before := make(chan error, 1)
	go func() { _, err := first.Sign(nil, digest[:], crypto.SHA256); before <- err }()
	for inject.Sent() == begun {
		time.Sleep(time.Millisecond)
	}
	after := make(chan error, 1)
	go func() { _, err := first.Sign(nil, digest[:], crypto.SHA256); after <- err }()
	// The record is the journal's, which asks the TPM for nothing: it goes on.
	j, err := journal.Open(journal.Config{
		Source: event.Source{Tenant: "acme", Device: "pump-1"}, Boot: "boot", Monotonic: bootclock.Now, FS: wal.Memory(), MaxBytes: memoryJournalBytes,
		Log: slog.New(slog.DiscardHandler), Alive: func() {},
	})
	check(t, err)
	defer j.Close()
	if err := j.Record(t.Context(), event.Event{Type: event.DaemonStarted, Severity: finding.Info}); err != nil || inject.Sent() != begun+1 {
		t.Errorf("recorded: %v; %d commands", err, inject.Sent()-begun)
	}
	close(release)
	check(t, <-before)
	check(t, <-after)
	if sent := inject.Sent() - begun; sent != 2*cost {
		t.Errorf("two signatures took %d commands, want %d each", sent, cost)
	}
	if inject.Clashed() {
		t.Error("two commands were in the TPM at once")
	}
	t.Logf("a signature is %d commands: with a TPM of 600 ms each it takes %s, and waits as long for one before it", cost, time.Duration(cost)*600*time.Millisecond)
}

// BenchmarkSlowTPM is a signature with a TPM that takes 600 ms for each command,
// alone and behind another one, and what the record does meanwhile.
func BenchmarkSlowTPM(b *testing.B) {
	soft := swtpmtest.Start(b, false)
	chip, inject := injected(b, soft.Socket)
	keys, err := chip.ProvisionKeys(b.Context())
	check(b, err)
	chip.Pin(keys.SRK)
	blob, err := chip.CreateKey(b.Context(), nil)
	check(b, err)
	signer, err := chip.BlobSigner(b.Context(), blob, nil, time.Minute)
	check(b, err)
	j, err := journal.Open(journal.Config{
		Source: event.Source{Tenant: "acme", Device: "pump-1"}, Boot: "boot", Monotonic: bootclock.Now, FS: wal.Memory(), MaxBytes: memoryJournalBytes,
		Log: slog.New(slog.DiscardHandler), Alive: func() {},
	})
	check(b, err)
	defer j.Close()
	digest := sha256.Sum256([]byte("x"))
	sign := func(done chan<- time.Duration, begun time.Time) {
		if _, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil {
			b.Error(err)
		}
		done <- time.Since(begun)
	}
	inject.Always(tpmtest.Slow(600 * time.Millisecond))
	var alone, behind, record time.Duration
	for b.Loop() {
		first, second := make(chan time.Duration, 1), make(chan time.Duration, 1)
		before, begun := inject.Sent(), time.Now()
		go sign(first, begun)
		for inject.Sent() == before {
			time.Sleep(time.Millisecond)
		}
		go sign(second, begun)
		at := time.Now()
		check(b, j.Record(b.Context(), event.Event{Type: event.DaemonStarted, Severity: finding.Info}))
		record += time.Since(at)
		alone += <-first
		behind += <-second
	}
	b.ReportMetric(float64(alone.Milliseconds())/float64(b.N), "alone-ms/op")
	b.ReportMetric(float64(behind.Milliseconds())/float64(b.N), "behind-ms/op")
	b.ReportMetric(float64(record.Microseconds())/float64(b.N), "record-us/op")
}
