package mqtttest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Mosquitto is a real broker, set up as the MQTT contract says, with a listener
// for MQTT and one for MQTT in websockets.
type Mosquitto struct {
	t       testing.TB
	pki     *PKI
	port    int
	wsPort  int
	name    string
	cmd     *exec.Cmd
	devices []string
}

// Setup changes how a Mosquitto is set up.
type Setup struct {
	Devices []string // of tenant acme that are admitted; pump-1 if none
	Lines   string   // more for its configuration
	Keep    bool     // keep state on the disk over restarts
}

// StartMosquitto starts a broker; the test is skipped where there is none.
func StartMosquitto(t testing.TB, p *PKI, s Setup) *Mosquitto {
	t.Helper()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("mosquitto is not installed: run 'make deps'")
	}
	m := &Mosquitto{t: t, pki: p, port: freePort(t), wsPort: freePort(t), devices: s.Devices}
	m.name = fmt.Sprintf("mosquitto-%d", m.port)
	if len(m.devices) == 0 {
		m.devices = []string{"pump-1"}
	}
	p.Issue(t, ServerName)
	listener := fmt.Sprintf("cafile %s\ncertfile %s\nkeyfile %s\ntls_version tlsv1.3\nrequire_certificate true\nuse_identity_as_username true\n",
		p.file("ca.crt"), p.file(ServerName+".crt"), p.file(ServerName+".key"))
	state := "persistence false\n"
	if s.Keep {
		state = fmt.Sprintf("persistence true\npersistence_location %s/\npersistence_file %s.db\nautosave_on_changes true\nautosave_interval 1\n", p.dir, m.name)
	}
	m.write(".conf", fmt.Sprintf("listener %d 127.0.0.1\n%slistener %d 127.0.0.1\nprotocol websockets\n%sallow_anonymous false\nacl_file %s\nuser root\n"+
		"max_packet_size 140000\nlog_dest file %s\nlog_type all\n%s%s", m.port, listener, m.wsPort, listener, p.file(m.name+".acl"), p.file(m.name+".log"), state, s.Lines))
	m.access("")
	m.Start()
	t.Cleanup(m.Kill)
	return m
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (m *Mosquitto) write(suffix, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.pki.file(m.name+suffix), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// access writes the access list; a denied device has no rights.
func (m *Mosquitto) access(denied string) {
	m.t.Helper()
	rights := "user wardfleet\ntopic read ward/v1/+/+/up/#\ntopic write ward/v1/+/+/down/#\n\nuser reader\ntopic readwrite ward/v1/#\n"
	for _, d := range m.devices {
		if d != denied {
			rights += fmt.Sprintf("\nuser %[1]s\ntopic write ward/v1/acme/%[1]s/up/#\ntopic read ward/v1/acme/%[1]s/down/#\n", d)
		}
	}
	m.write(".acl", rights)
}

// Deny takes a device's rights away, and gives the others' back; empty for none.
// The broker reads its access list again (SIGHUP).
func (m *Mosquitto) Deny(device string) {
	m.t.Helper()
	m.access(device)
	if m.cmd != nil {
		if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			m.t.Fatal(err)
		}
	}
}

// Address is the host and port of MQTT.
func (m *Mosquitto) Address() string { return fmt.Sprintf("127.0.0.1:%d", m.port) }

// URL is the address of MQTT.
func (m *Mosquitto) URL() string { return "tls://" + m.Address() }

// WebsocketAddress is the host and port of MQTT in websockets.
func (m *Mosquitto) WebsocketAddress() string { return fmt.Sprintf("127.0.0.1:%d", m.wsPort) }

// WebsocketURL is the address of MQTT in websockets.
func (m *Mosquitto) WebsocketURL() string { return "wss://" + m.WebsocketAddress() + "/mqtt" }

// Start starts the broker again.
func (m *Mosquitto) Start() {
	m.t.Helper()
	m.cmd = exec.Command("mosquitto", "-c", m.pki.file(m.name+".conf"))
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	for range 500 {
		if conn, err := net.Dial("tcp", m.Address()); err == nil {
			_ = conn.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.t.Fatal("mosquitto does not listen")
}

// Kill kills the broker, as a power cut does.
func (m *Mosquitto) Kill() { m.end(syscall.SIGKILL) }

// Stop stops the broker, which says goodbye and writes what it keeps.
func (m *Mosquitto) Stop() { m.end(syscall.SIGTERM) }

func (m *Mosquitto) end(s syscall.Signal) {
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(s)
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// Log is what the broker has written so far, line by line.
func (m *Mosquitto) Log() []string {
	m.t.Helper()
	b, err := os.ReadFile(m.pki.file(m.name + ".log"))
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Split(string(b), "\n")
}
