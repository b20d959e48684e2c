package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/contracttest"
	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/lab/backend"
	"ward/internal/lab/pki"
	"ward/internal/scripttest"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/enrolment/enrolmenttest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

var update = flag.Bool("update", false, "rewrite golden parts of the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"wardfleet": main})
}

// Each script has the lab's keys in $PKI. "apply SERIAL FILE" makes a device, or
// takes the one that has this serial number, and writes its application; its TPM's
// maker is in makers/, the policy key in policy.pem. "open SERIAL FILE" opens an
// answer as its TPM does, and writes USE.pem. "port NAME" finds a free port. "broker" starts a real broker at
// $BROKER; "device FIRST LAST" is a device that sends these records of its
// chain. "fleet" makes a release with components and what a verifier keeps of its
// devices.
func TestScripts(t *testing.T) {
	keys := t.TempDir()
	authority, err := pki.Open(keys)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PKI", keys)
			env.Values[factoryKey{}] = &factory{devices: make(map[string]*enrolmenttest.Device)}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": scripttest.Status,
			"broker": func(ts *testscript.TestScript, _ bool, _ []string) { startBroker(t, ts, authority) },
			"port":   port,
			"apply":  func(ts *testscript.TestScript, _ bool, args []string) { apply(t, ts, args) },
			"open":   openAnswer,
			"fleet":  func(ts *testscript.TestScript, _ bool, _ []string) { toldFleet(t, ts) },
			"device": func(ts *testscript.TestScript, _ bool, args []string) { device(t, ts, authority, args) },
		},
	})
}

// factory is where a script's devices come from.
type factory struct {
	maker   *enrolmenttest.Maker
	devices map[string]*enrolmenttest.Device
}

type factoryKey struct{}

func apply(t *testing.T, ts *testscript.TestScript, args []string) {
	f := ts.Value(factoryKey{}).(*factory)
	if f.maker == nil {
		f.maker = enrolmenttest.NewMaker(t)
		ts.Check(os.MkdirAll(ts.MkAbs("makers"), 0o755))
		ts.Check(os.WriteFile(ts.MkAbs("makers/maker.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.maker.Root.Raw}), 0o644))
		text, err := pki.PublicPEM(f.maker.PolicySigner.Public())
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("policy.pem"), text, 0o644))
	}
	d := f.devices[args[0]]
	if d == nil {
		d = f.maker.NewDevice(t, args[0])
		f.devices[args[0]] = d
	}
	a := enrolment.Application{Request: d.Request("acme")}
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, d.Signer(use))
		ts.Check(err)
		a.CSRs = append(a.CSRs, der)
	}
	b, err := enrolment.EncodeApplication(a)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o644))
}

func openAnswer(ts *testscript.TestScript, _ bool, args []string) {
	d := ts.Value(factoryKey{}).(*factory).devices[args[0]]
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	answer, err := enrolment.ParseAnswer(b)
	ts.Check(err)
	issued, err := answer.Open(d.Activate(answer.Credential))
	ts.Check(err)
	for use, chain := range issued.Chains {
		var text []byte
		for _, der := range chain {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		ts.Check(os.WriteFile(ts.MkAbs(string(use)+".pem"), text, 0o644))
	}
}

// port puts a free port of 127.0.0.1 into a variable: port NAME.
func port(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, number, err := net.SplitHostPort(l.Addr().String())
	ts.Check(errors.Join(err, l.Close()))
	ts.Setenv(args[0], number)
}

func startBroker(t *testing.T, ts *testscript.TestScript, authority *pki.Keys) {
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("mosquitto is not installed: run 'make deps'")
	}
	b, err := backend.StartBroker(t.Context(), authority, backend.BrokerConfig{Dir: filepath.Join(ts.Getenv("WORK"), "broker"), Tenant: "acme", Devices: []string{"pump-1"}})
	ts.Check(err)
	ts.Defer(b.Stop)
	ts.Setenv("BROKER", "tls://"+b.Address())
}

// device sends a birth and records of one and the same chain.
func device(t *testing.T, ts *testscript.TestScript, authority *pki.Keys, args []string) {
	var first, last uint64
	if _, err := fmt.Sscan(fmt.Sprint(args[0], " ", args[1]), &first, &last); err != nil {
		ts.Fatalf("usage: device FIRST LAST")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	text, err := authority.IssueDevice(key.Public(), "acme", "pump-1")
	ts.Check(err)
	block, _ := pem.Decode(text)
	roots := x509.NewCertPool()
	roots.AddCert(authority.Fleet.Cert)
	client, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: ts.Getenv("BROKER"), ClientID: "pump-1", TLS: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: pki.BrokerName,
		Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}},
	}})
	ts.Check(err)
	defer client.Close()
	birth := []byte(`{"state":"online","tenant":"acme","device":"pump-1","boot":"b-1","session":1,"epoch":1,"worryAfterSeconds":900,"time":"2026-01-01T00:00:00Z"}`)
	publish := func(k presence.Kind, retain bool, b []byte) {
		topic := presence.Topic("acme", "pump-1", k)
		ts.Check(contracttest.Check(topic, b))
		ts.Check(client.Publish(t.Context(), topic, retain, b))
	}
	publish(presence.State, true, birth)
	var prev chain.Hash
	for n := uint64(1); n <= last; n++ {
		f := finding.New(finding.IMAUnknownFile, "").On("/data/stranger")
		b, err := event.Encode(event.Event{Type: event.FindingIncident, Severity: f.Severity, Finding: &f}, event.Stamp{
			Source: event.Source{Tenant: "acme", Device: "pump-1"}, Epoch: 1, Sequence: n, Boot: "b-1", Prev: prev})
		ts.Check(err)
		prev = chain.Next(b)
		if n >= first {
			publish(presence.Event, false, b)
		}
	}
}
