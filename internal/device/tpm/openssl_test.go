package tpm_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/format/tss2"
	"ward/internal/lab/backend"
	"ward/internal/lab/pki"
	"ward/internal/trust/policy"
)

const serial = "SN-0001"

// opensslModule is where Debian puts OpenSSL's TPM provider.
const opensslModule = "/usr/lib/*/ossl-modules/tpm2.so"

// programs is a device with the files that other programs on it get: a key of each
// use, with a certificate of the lab's authority.
type programs struct {
	tools
	device *device
	keys   *pki.Keys
	tcti   []string // environment by which OpenSSL's provider finds the TPM
}

func newPrograms(t *testing.T, needed ...string) *programs {
	t.Helper()
	if found, _ := filepath.Glob(opensslModule); found == nil {
		t.Skip("OpenSSL's TPM provider (tpm2-openssl) is not installed: run 'make deps'")
	}
	for _, program := range append(needed, "openssl", "socat") {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: run 'make deps'", program)
		}
	}
	keys, err := pki.Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	d := manufactured(t)
	p := &programs{tools{t, d.socket, t.TempDir()}, d, keys, []string{"TPM2OPENSSL_TCTI=cmd:socat - UNIX-CONNECT:" + d.socket}}
	boot := policy.BootPolicy(d.key)
	p.key("reporting", nil)
	p.key("service", &boot)
	return p
}

// resourceManager puts the user-space resource manager (tpm2-abrmd) before the TPM,
// on a message bus of its own, and has OpenSSL use it.
func (p *programs) resourceManager() {
	p.t.Helper()
	dir, err := os.MkdirTemp("", "bus") // a UNIX socket's path is short
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { os.RemoveAll(dir) })
	bus := "DBUS_SESSION_BUS_ADDRESS=unix:path=" + filepath.Join(dir, "bus")
	p.background("dbus-daemon", "--session", "--nofork", "--nopidfile", "--address="+strings.TrimPrefix(bus, "DBUS_SESSION_BUS_ADDRESS="))
	p.await(bus, "org.freedesktop.DBus")
	tcti := strings.TrimPrefix(p.tcti[0], "TPM2OPENSSL_TCTI=")
	p.tcti = []string{bus, "TPM2OPENSSL_TCTI=tabrmd:bus_type=session,bus_name=com.intel.tss2.Tabrmd"}
	p.background("tpm2-abrmd", "--session", "--allow-root", "--tcti="+tcti)
	p.await(bus, "com.intel.tss2.Tabrmd")
}

// background runs a program until the test ends.
func (p *programs) background(name string, args ...string) {
	p.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), p.tcti...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// await waits until somebody has a name on the bus.
func (p *programs) await(bus, name string) {
	p.t.Helper()
	for range 200 {
		cmd := exec.Command("dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus",
			"org.freedesktop.DBus.GetNameOwner", "string:"+name)
		cmd.Env = append(os.Environ(), bus)
		if cmd.Run() == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.t.Fatalf("nobody has the name %s on the message bus", name)
}

// key makes a key and writes it as the identity store does.
func (p *programs) key(use string, boot *policy.Digest) {
	p.t.Helper()
	blob, err := p.device.CreateKey(p.t.Context(), boot)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(use+".pem", tss2.File{Kind: tss2.Loadable, EmptyAuth: true, Parent: tpm.HandleSRK, Public: blob.Public, Private: blob.Private}.PEM())
	key, err := blob.Key()
	if err != nil {
		p.t.Fatal(err)
	}
	chain, err := p.keys.IssueDevice(key.Public, "lab", serial)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(use+"-chain.pem", chain)
}

// command is a program that finds the software TPM. It ends with the test, or
// after a while.
func (p *programs) command(name string, args ...string) *exec.Cmd {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	p.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), p.tcti...)
	return cmd
}

// connect is an MQTT 3.1.1 CONNECT with a clean session and this client id; accepted
// is the CONNACK that takes it (section 3.2).
func connect(id string) []byte {
	b := []byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, byte(len(id))}
	return append(b, id...)
}

var accepted = []byte{0x20, 2, 0, 0}

// client is openssl s_client, as docs/programs.md shows it.
func (p *programs) client(address, use string) *exec.Cmd {
	return p.command("openssl", "s_client", "-provider", "default", "-provider", "tpm2", "-propquery", "?tpm2.signature=yes",
		"-connect", address, "-tls1_3", "-servername", pki.BrokerName, "-verify_hostname", pki.BrokerName,
		"-CAfile", p.keys.File("fleet-ca.crt"), "-verify_return_error",
		"-key", use+".pem", "-cert", use+"-chain.pem", "-cert_chain", use+"-chain.pem")
}

// openssl s_client speaks TLS 1.3 to mosquitto with the reporting key, and mosquitto
// takes it for the device. The provider has the TPM verify the server's signatures
// too and needs more than its three slots, so a resource manager stands before it.
//
// Verifies: SR-033
func TestOpenSSLUsesTheReportingKey(t *testing.T) {
	p := newPrograms(t, "mosquitto", "tpm2-abrmd", "dbus-daemon", "dbus-send")
	broker := p.broker()
	p.resourceManager()
	cmd := p.client(broker.Address(), "reporting")
	said, transcript := p.converse(cmd, connect(serial), accepted)
	if !said {
		t.Fatalf("mosquitto does not accept the client:\n%s\n%s", transcript, broker.Log())
	}
	for _, want := range []string{"Verify return code: 0 (ok)", "TLSv1.3", "Peer signing digest: SHA256"} {
		if !bytes.Contains(transcript, []byte(want)) {
			t.Errorf("openssl does not say %q:\n%s", want, transcript)
		}
	}
	if log := broker.Log(); !strings.Contains(log, "u'"+serial+"'") {
		t.Errorf("mosquitto took the client for another:\n%s", log)
	}
}

func (p *programs) broker() *backend.Broker {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	broker, err := backend.StartBroker(ctx, p.keys, backend.BrokerConfig{Dir: p.t.TempDir(), Tenant: "lab", Devices: []string{serial}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(broker.Stop)
	return broker
}

// Without a resource manager three slots are too few for a server with a P-256
// certificate: the provider says so, and nothing is sent.
func TestOpenSSLNeedsAResourceManager(t *testing.T) {
	p := newPrograms(t, "mosquitto")
	broker := p.broker()
	said, transcript := p.converse(p.client(broker.Address(), "reporting"), connect(serial), accepted)
	if said || !bytes.Contains(transcript, []byte("out of memory for object contexts")) {
		t.Errorf("accepted %t:\n%s", said, transcript)
	}
}

// converse gives a program its input and reads until an answer comes or it ends.
func (p *programs) converse(cmd *exec.Cmd, input, answer []byte) (found bool, transcript []byte) {
	p.t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	if _, err := in.Write(input); err != nil {
		p.t.Fatal(err)
	}
	b := make([]byte, 4096)
	for !found {
		n, err := out.Read(b)
		transcript = append(transcript, b[:n]...)
		found = bytes.Contains(transcript, answer)
		if err != nil {
			break
		}
	}
	in.Close()
	rest, _ := io.ReadAll(io.LimitReader(out, 1<<20))
	_ = cmd.Wait()
	return found, append(append(transcript, rest...), complaints.Bytes()...)
}

// What the provider does with the service key: it reads and loads it, shows its
// public part, and fails to sign. It opens a session with the empty authorisation
// value, knows nothing of PolicyAuthorize, and the TPM answers that such an
// authorisation is not to be had. (Programs that need the service key ask wardd.)
//
// Verifies: SR-033
func TestOpenSSLCannotUseTheServiceKey(t *testing.T) {
	p := newPrograms(t)
	out, err := p.command("openssl", "pkey", "-provider", "default", "-provider", "tpm2", "-propquery", "?tpm2.signature=yes", "-in", "service.pem", "-pubout").Output()
	if err != nil {
		t.Fatalf("read the service key: %v\n%s", err, out)
	}
	block, _ := pem.Decode(out)
	leaf, _ := pem.Decode(p.read("service-chain.pem"))
	cert, err := x509.ParseCertificate(leaf.Bytes)
	if err != nil || block == nil || !bytes.Equal(block.Bytes, cert.RawSubjectPublicKeyInfo) {
		t.Errorf("%v: openssl reads another public key: %s", err, out)
	}
	for use, works := range map[string]bool{"reporting": true, "service": false} {
		p.write("text", []byte("signed"))
		cmd := p.command("openssl", "dgst", "-provider", "default", "-provider", "tpm2", "-propquery", "?tpm2.signature=yes", "-sha256", "-sign", use+".pem", "-out", "signature", "text")
		out, err := cmd.CombinedOutput()
		if works != (err == nil) {
			t.Errorf("%s key: %v\n%s", use, err, out)
		}
		// TPM_RC_AUTH_UNAVAILABLE (Part 2, section 6.6.3).
		if !works && !bytes.Contains(out, []byte("authValue or authPolicy is not available for selected entity")) {
			t.Errorf("%s key: openssl does not name the reason:\n%s", use, out)
		}
	}
}

// opensslConf is the configuration of docs/programs.md.
const opensslConf = `openssl_conf = openssl_init

[openssl_init]
providers = provider_sect
alg_section = evp_sect

[evp_sect]
default_properties = ?tpm2.signature=yes

[provider_sect]
default = default_sect
tpm2 = tpm2_sect

[default_sect]
activate = 1

[tpm2_sect]
activate = 1
`

// A program that was never told of a TPM (curl) uses the reporting key when
// OpenSSL's configuration loads the provider. The server's key is one that no TPM
// has (Ed25519), so that OpenSSL verifies it alone and the TPM's slots suffice.
//
// Verifies: SR-033
func TestProgramsUseTheReportingKeyByConfiguration(t *testing.T) {
	p := newPrograms(t, "curl")
	text, err := os.ReadFile("../../../docs/programs.md")
	if err != nil || !bytes.Contains(text, []byte(opensslConf)) {
		t.Errorf("docs/programs.md does not show the configuration that is tried here: %v", err)
	}
	address := p.server()
	p.write("openssl.cnf", []byte(opensslConf))
	_, port, _ := strings.Cut(address, ":")
	for use, works := range map[string]bool{"reporting": true, "service": false} {
		cmd := p.command("curl", "--silent", "--show-error", "--tlsv1.3", "--cacert", "server.pem",
			"--resolve", pki.BrokerName+":"+port+":127.0.0.1", "--key", use+".pem", "--cert", use+"-chain.pem", "https://"+pki.BrokerName+":"+port+"/")
		cmd.Env = append(cmd.Env, "OPENSSL_CONF="+filepath.Join(p.dir, "openssl.cnf"))
		out, err := cmd.CombinedOutput()
		if works != (err == nil) || works != strings.Contains(string(out), "hello "+serial) {
			t.Errorf("%s key: %v\n%s", use, err, out)
		}
	}
}

// server is a TLS 1.3 server with an Ed25519 key under the broker's name, its
// certificate in server.pem. It demands a certificate of the fleet's authority.
func (p *programs) server() (address string) {
	p.t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: pki.BrokerName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{pki.BrokerName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("server.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	roots := x509.NewCertPool()
	roots.AddCert(p.keys.Fleet.Cert)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	s.TLS = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	p.t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
