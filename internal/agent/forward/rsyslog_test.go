package forward_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ward/internal/agent/forward"
	"ward/internal/format/syslog"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth/serverauthtest"
)

// patience guards every wait on rsyslog.
const patience = 60 * time.Second

// hospital is a real rsyslog with the configuration of docs/sinks.md, with folders,
// port and TLS driver of the test.
type hospital struct {
	t      *testing.T
	dir    string
	port   string
	server serverauthtest.Authority // of the server
	fleet  serverauthtest.Authority // of the devices
	cmd    *exec.Cmd
	said   *bytes.Buffer
}

func newHospital(t *testing.T, driver string) *hospital {
	t.Helper()
	if testing.Short() {
		t.Skip("starts rsyslog")
	}
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		t.Skip(err)
	}
	h := &hospital{t: t, dir: t.TempDir(), server: serverauthtest.NewAuthority(t, "hospital", time.Now()), fleet: serverauthtest.NewAuthority(t, "fleet", time.Now())}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, h.port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	h.certify(h.server)
	h.write("fleet.pem", h.fleet.PEM())
	text, err := os.ReadFile("testdata/rsyslog.conf")
	if err != nil {
		t.Fatal(err)
	}
	h.write("rsyslog.conf", []byte(strings.NewReplacer("/var/spool/rsyslog", h.dir, "/etc/rsyslog.d/ward", h.dir, "/var/log/ward", h.dir, `"6514"`, `"`+h.port+`"`, `"gtls"`, `"`+driver+`"`).Replace(string(text))))
	t.Cleanup(h.stop)
	return h
}

func (h *hospital) write(name string, b []byte) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), b, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// certify gives the server a certificate of an authority.
func (h *hospital) certify(by serverauthtest.Authority) {
	h.t.Helper()
	key := serverauthtest.NewKey(h.t)
	cert := by.Certify(h.t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "log.hospital.example"}, DNSNames: []string{"log.hospital.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	h.write("server.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("server.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// start runs rsyslog in the foreground until its port answers.
func (h *hospital) start() {
	h.t.Helper()
	h.said = new(bytes.Buffer)
	h.cmd = exec.Command("rsyslogd", "-n", "-f", filepath.Join(h.dir, "rsyslog.conf"), "-i", filepath.Join(h.dir, "pid"))
	h.cmd.Stdout, h.cmd.Stderr = h.said, h.said
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+h.port); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			h.stop()
			h.t.Fatalf("rsyslog does not listen: %s", h.said)
		}
	}
}

func (h *hospital) stop() {
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	_ = h.cmd.Wait()
	h.cmd = nil
}

func (h *hospital) lines(name string) []string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	text := strings.TrimSuffix(string(b), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// until waits for something that is to come.
func (h *hospital) until(what string, reached func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !reached(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("%s does not come; raw log:\n%s", what, strings.Join(h.lines("raw.log"), "\n"))
		}
	}
}

// device are the credentials of a device with a name, certified by an authority,
// that believes another.
type realDevice struct {
	t    *testing.T
	name string
	by   serverauthtest.Authority
	key  *ecdsa.PrivateKey
	root serverauthtest.Authority
}

func (d *realDevice) TLS(context.Context) (*tls.Config, error) {
	cert := d.by.Certify(d.t, &x509.Certificate{
		Subject: pkix.Name{CommonName: d.name, Organization: []string{"acme"}}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, d.key.Public())
	return &tls.Config{RootCAs: d.root.Pool(), Certificates: []tls.Certificate{serverauthtest.Pair(d.key, cert)}}, nil
}

// sink runs a sink of this hospital.
func (h *hospital) sink(m *memory, format string, change func(*realDevice)) *forward.Sink {
	h.t.Helper()
	d := &realDevice{t: h.t, name: "pump-1", by: h.fleet, key: serverauthtest.NewKey(h.t), root: h.server}
	if change != nil {
		change(d)
	}
	s := forward.New(forward.Config{
		Name: name, Address: "127.0.0.1:" + h.port, ServerName: "log.hospital.example", Epoch: 1, Journal: m, Recorder: m, Credentials: d,
		Origin: syslog.Origin{Tenant: "acme", Device: "pump-1", Version: "1.0"},
		Format: map[string]func(syslog.Origin, *syslog.Event) []byte{"rfc5424": syslog.RFC5424, "cef": syslog.CEF, "dicom": syslog.DICOM}[format],
	})
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	})
	return s
}

// hostile is an event whose texts would break a line, a field or a message.
func hostile() event.Event {
	f := finding.New(finding.IMAUnknownFile, "a \"quoted\" ] bracket \\ backslash\nnew line <165>1 | pipe = equals ]]> </AuditMessage>").On("/tmp/a\x00b\u202e \"]|=&<ünï>")
	return event.Event{Type: event.FindingIncident, Subject: `s"]|=`, Severity: f.Severity, Finding: &f}
}

// Each format arrives at a real rsyslog over mutual TLS as one message a line, byte
// for byte as it was written, and its structured data are what the event says.
//
// Verifies: SR-070 SR-071
func TestRsyslogGetsEachFormat(t *testing.T) {
	for _, format := range []string{"rfc5424", "cef", "dicom"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			h := newHospital(t, "gtls")
			h.start()
			m := newMemory()
			m.add(t, 3)
			if err := m.Record(t.Context(), hostile()); err != nil {
				t.Fatal(err)
			}
			long := finding.New(finding.IMAUnknownFile, strings.Repeat(`"]\`, 400)).On("/" + strings.Repeat("ü", 2000))
			if err := m.Record(t.Context(), event.Event{Type: event.FindingIncident, Severity: long.Severity, Finding: &long}); err != nil {
				t.Fatal(err)
			}
			s := h.sink(m, format, nil)
			h.until("every message", func() bool { return len(h.lines("raw.log")) >= 5 && len(h.lines("data.log")) >= 5 })
			if st := s.Status(); st.State != "connected" || st.Sent != 5 || st.Behind != 0 {
				t.Errorf("status %+v", st)
			}
			raw, data := h.lines("raw.log"), h.lines("data.log")
			if len(raw) != 5 || len(data) != 5 {
				t.Fatalf("%d messages for 5 events:\n%s", len(raw), strings.Join(raw, "\n"))
			}
			for i, line := range raw {
				want := []string{`id="pump-1/1/%d"`, "externalId=pump-1/1/%d ", "DICOM+RFC3881"}[slices.Index([]string{"rfc5424", "cef", "dicom"}, format)]
				if strings.Contains(want, "%d") {
					want = fmt.Sprintf(want, i+1)
				}
				if !strings.HasPrefix(line, "<8") || !strings.Contains(line, want) {
					t.Errorf("message %d: %.300s", i+1, line)
				}
				if format == "dicom" && !strings.HasSuffix(line, "</AuditMessage>") {
					t.Errorf("message %d was cut: %d bytes", i+1, len(line))
				}
			}
			if format != "rfc5424" {
				return
			}
			for i, line := range data {
				kind, text, _ := strings.Cut(line, " ")
				var sd map[string]map[string]string
				if err := json.Unmarshal([]byte(text), &sd); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
				d, err := event.Parse(m.records[i].Bytes)
				if err != nil {
					t.Fatal(err)
				}
				got := sd["ward@32473"]
				if got == nil {
					t.Fatalf("no structured data of Ward: %s", line)
				}
				if kind != d.Type || got["id"] != d.ID || got["sequence"] != fmt.Sprint(i+1) || got["severity"] != d.Severity.String() || got["prev"] != d.Prev.String() || got["boot"] != boot {
					t.Errorf("message %d: %s", i+1, line)
				}
				if f := d.Finding; f != nil && i == 3 && (got["path"] != f.Path || got["detail"] != f.Detail || got["subject"] != d.Subject || got["remedy"] != f.Remedy || got["code"] != string(f.Code)) {
					t.Errorf("message %d: %q, want %+v", i+1, got, *f)
				}
			}
		})
	}
}

// rsyslog is stopped and started again, twice, while events are recorded: each has
// arrived in the end, in order, and the ids tell which came twice.
//
// Verifies: SR-071
func TestRsyslogStoppedAndStarted(t *testing.T) {
	h := newHospital(t, "ossl") // the other driver takes half a minute for this
	h.start()
	m := newMemory()
	s := h.sink(m, "rfc5424", nil)
	total := 0
	record := func(n int) { m.add(t, n); total += n }
	record(20)
	h.until("the first events", func() bool { return len(h.lines("raw.log")) >= 20 })
	for range 2 {
		h.stop()
		h.until("the end of the connection", func() bool { return s.Status().State != "connected" })
		record(15)
		h.start()
		record(5)
		h.until("what came meanwhile", func() bool {
			return s.Status().Behind == 0 && strings.Contains(strings.Join(h.lines("raw.log"), "\n"), fmt.Sprintf(`id="pump-1/1/%d"`, total))
		})
	}
	seen, last := map[int]int{}, 0
	for _, line := range h.lines("raw.log") {
		_, rest, _ := strings.Cut(line, `id="pump-1/1/`)
		var n int
		if _, err := fmt.Sscanf(rest, `%d"`, &n); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if seen[n]++; seen[n] == 1 {
			if n != last+1 {
				t.Errorf("%d comes first behind %d", n, last)
			}
			last = n
		}
	}
	again := 0
	for _, n := range seen {
		again += n - 1
	}
	if len(seen) != total || again == 0 {
		t.Errorf("%d of %d events arrived, %d came again", len(seen), total, again)
	}
	if got := m.findings(t); got != "" {
		t.Errorf("two short stops are recorded: %s", got)
	}
	t.Logf("%d events, all arrived; %d came again", total, again)
}

// Who must not talk to one another does not: nothing arrives, and the device says
// which of the two refuses; at once where rsyslog says so, and after the grace where it
// only hangs up.
//
// Verifies: SR-071
func TestRsyslogAndWrongCertificates(t *testing.T) {
	for title, row := range map[string]struct {
		driver   string
		server   bool // another authority certifies the server
		change   func(h *hospital) func(*realDevice)
		error    string // of the sink's status
		recorded string
	}{
		"server of another CA":       {"gtls", true, asItShouldBe, "server untrusted", "raised link.sink-untrusted"},
		"device of another CA, gtls": {"gtls", false, certifiedByOthers, "ended at once", ""},
		"device of another CA, ossl": {"ossl", false, certifiedByOthers, "refused: remote error: tls: unknown certificate authority", "raised link.sink-refused"},
		"device that is not permitted": {"gtls", false, func(*hospital) func(*realDevice) {
			return func(d *realDevice) { d.name = "pump-2" }
		}, "ended at once", ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			h := newHospital(t, row.driver)
			if row.server {
				h.certify(serverauthtest.NewAuthority(t, "hospital", time.Now()))
			}
			h.start()
			m := newMemory()
			m.add(t, 1)
			s := h.sink(m, "rfc5424", row.change(h))
			h.until("the refusal", func() bool { return strings.Contains(s.Status().Error, row.error) && m.findings(t) == row.recorded })
			if got := h.lines("raw.log"); len(got) > 0 {
				t.Errorf("rsyslog took %s", got)
			}
			t.Logf("recorded %q, status %+v", m.findings(t), s.Status())
		})
	}
}

func asItShouldBe(*hospital) func(*realDevice) { return nil }

func certifiedByOthers(h *hospital) func(*realDevice) {
	return func(d *realDevice) { d.by = serverauthtest.NewAuthority(h.t, "fleet", time.Now()) }
}
