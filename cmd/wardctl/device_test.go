package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/agent/localapi"
	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/fleet/issue"
	"ward/internal/format/luks2"
	"ward/internal/format/pcr"
	"ward/internal/scripttest"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/release/releasetest"
	"ward/internal/trust/volume"
)

const brokerName = "broker.example"

// Scripts about a device with a software TPM, as root on the device would run the
// verbs. Each has trust anchors (folder trust, with a policy key and the fleet's
// root) and a release (release.dsse) that approves the boot state of a TPM that
// has just started. "device NAME" makes a device: its TPM, and NAME.toml; "extend
// NAME" changes its boot state; "power NAME" switches it off and on; "clear NAME"
// clears its TPM; "answer NAME REQUEST ANSWER" is the registrar, "broker NAME
// KIND" a broker whose address is $NAME, "wardd NAME" a daemon that answers.
//
// Verifies: SR-018, SR-048, SR-049
func TestDeviceScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/device",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			f := &factoryHall{t: t, work: env.WorkDir, devices: make(map[string]*swtpmtest.TPM)}
			env.Values["hall"] = f
			env.Defer(func() {
				for _, d := range f.devices {
					d.Remove()
				}
			})
			return f.build()
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": scripttest.Status,
			"same":   same,
			"device": hall((*factoryHall).device),
			"power":  hall((*factoryHall).power),
			"extend": hall((*factoryHall).extend),
			"clear":  hall((*factoryHall).clear),
			"answer": hall((*factoryHall).answer),
			"broker": hall((*factoryHall).broker),
			"wardd":  hall((*factoryHall).wardd),
			"absent": absent,
			"sealed": hall((*factoryHall).sealed),
		},
	})
}

// factoryHall is what a script works in.
type factoryHall struct {
	t       *testing.T
	work    string
	devices map[string]*swtpmtest.TPM
	ca      *issue.CA
}

func hall(do func(*factoryHall, *testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) { do(ts.Value("hall").(*factoryHall), ts, args) }
}

func (f *factoryHall) at(name string) string { return filepath.Join(f.work, name) }

func (f *factoryHall) build() error {
	for _, dir := range []string{"trust/policy", "trust/fleet"} {
		if err := os.MkdirAll(f.at(dir), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"ca", "foreign"} {
		if err := issue.MakeCA(time.Now(), f.at(name), name, []string{brokerName, "elsewhere.example"}); err != nil {
			return err
		}
	}
	root, err := os.ReadFile(f.at("ca/ca.crt"))
	if err != nil {
		return err
	}
	f.ca, err = issue.LoadCA(f.at("ca/ca.crt"), f.at("ca/ca.key"), issue.DefaultLifetime, "")
	if err != nil {
		return err
	}
	started := pcr.Values{7: make([]byte, 32), 11: make([]byte, 32), 12: make([]byte, 32)}
	for name, b := range map[string][]byte{
		"trust/policy/policy.pem": releasetest.PEM(f.t, releasetest.Key(f.t, releasetest.Policy)),
		"stray.pem":               releasetest.PEM(f.t, releasetest.Key(f.t, 9)),
		"trust/fleet/root.pem":    root,
		"release.dsse":            releasetest.Envelope(f.t, releasetest.Approved(f.t, releasetest.Manifest("1.0", 1, started))),
	} {
		if err := os.WriteFile(f.at(name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (f *factoryHall) device(ts *testscript.TestScript, args []string) {
	d, err := swtpmtest.New(true)
	ts.Check(err)
	name := args[0]
	f.devices[name] = d
	ts.Check(os.Mkdir(f.at(name), 0o750))
	config := fmt.Sprintf(`version = 1
[paths]
state = %q
socket = %q
release = %q
trust = %q
[tpm]
device = %q
[uplink]
enabled = false
server_name = %q
`, f.at(name), f.socket(name), f.at("release.dsse"), f.at("trust"), d.Socket, brokerName)
	ts.Check(os.WriteFile(f.at(name+".toml"), []byte(config), 0o644))
}

func (f *factoryHall) socket(name string) string {
	return filepath.Join(filepath.Dir(f.devices[name].Socket), "wardd")
}

func (f *factoryHall) power(ts *testscript.TestScript, args []string) {
	f.devices[args[0]].Off()
	ts.Check(f.devices[args[0]].On())
}

func (f *factoryHall) extend(ts *testscript.TestScript, args []string) {
	conn, err := linuxudstpm.Open(f.devices[args[0]].Socket)
	ts.Check(err)
	defer conn.Close()
	_, err = tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: 11, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(conn)
	ts.Check(err)
}

func (f *factoryHall) clear(ts *testscript.TestScript, args []string) {
	conn, err := linuxudstpm.Open(f.devices[args[0]].Socket)
	ts.Check(err)
	defer conn.Close()
	_, err = tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(conn)
	ts.Check(err)
}

// answer is what wardfleet registrar answer does.
func (f *factoryHall) answer(ts *testscript.TestScript, args []string) {
	a, err := enrolment.ParseApplication([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	makers, err := f.devices[args[0]].Makers()
	ts.Check(err)
	key := releasetest.PolicyKey(f.t)
	proof, err := a.Verify(enrolment.Terms{Makers: makers, PolicyKey: &key, Now: time.Now()})
	ts.Check(err)
	given := enrolment.Issued{Tenant: a.Tenant, Device: a.Serial, Chains: make(map[enrolment.Use][][]byte)}
	for _, der := range a.CSRs {
		csr, err := issue.ParseCSR(der)
		ts.Check(err)
		use := proof.Use(csr.PublicKey)
		chain, err := f.ca.Issue(context.Background(), time.Now(), issue.Want{Tenant: a.Tenant, Device: a.Serial, Use: use, CSR: csr})
		ts.Check(err)
		for _, c := range chain {
			given.Chains[use] = append(given.Chains[use], c.Raw)
		}
	}
	given.CRL, err = f.ca.CRL(time.Now(), big.NewInt(1), issue.DefaultCRLLifetime, nil)
	ts.Check(err)
	answer, err := proof.Seal(rand.Reader, given)
	ts.Check(err)
	b, err := enrolment.EncodeAnswer(answer)
	ts.Check(err)
	write(ts, args[2], b)
}

// broker starts one of a kind: good, foreign (another authority), elsewhere
// (another name), old (TLS 1.2), closed (takes no client certificate of this
// fleet), strict (refuses CONNECT), particular (takes no client id but the
// device's), none (nobody listens).
func (f *factoryHall) broker(ts *testscript.TestScript, args []string) {
	name, kind := args[0], args[1]
	dir, host := "ca", brokerName
	switch kind {
	case "foreign":
		dir = kind
	case "elsewhere":
		host = "elsewhere.example"
	}
	pair, err := tls.LoadX509KeyPair(f.at(dir+"/"+host+".crt"), f.at(dir+"/"+host+".key"))
	ts.Check(err)
	clients := x509.NewCertPool()
	trusted := "ca/ca.crt"
	if kind == "closed" {
		trusted = "foreign/ca.crt"
	}
	clients.AppendCertsFromPEM([]byte(ts.ReadFile(f.at(trusted))))
	config := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	if kind == "old" {
		config.MaxVersion = tls.VersionTLS12
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	ts.Check(err)
	ts.Setenv(name, "tls://"+l.Addr().String())
	if kind == "none" {
		ts.Check(l.Close())
		return
	}
	ts.Defer(func() { _ = l.Close() })
	code := map[string]byte{"strict": packets.ErrRefusedNotAuthorised, "particular": packets.ErrRefusedIDRejected}[kind]
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go admit(conn, code)
		}
	}()
}

// admit answers the CONNECT of one client.
func admit(conn net.Conn, code byte) {
	defer conn.Close()
	for {
		p, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		if _, is := p.(*packets.ConnectPacket); is {
			answer := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
			answer.ReturnCode = code
			_ = answer.Write(conn)
		}
	}
}

func (f *factoryHall) wardd(ts *testscript.TestScript, args []string) {
	ctx, cancel := context.WithCancel(context.Background())
	api := localapi.New(localapi.Config{Socket: f.socket(args[0]), Status: func() localapi.Status { return localapi.Status{} }, Journal: openJournal(ts, "record")})
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	ts.Defer(func() { cancel(); ts.Check(<-done) })
	for range 200 {
		if _, err := localapi.NewClient(f.socket(args[0])).Status(ctx); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	ts.Fatalf("the daemon does not answer")
}

// sealed wants the header of a volume to hold a key that the device's TPM opens:
// "sealed NAME IMAGE KEY".
func (f *factoryHall) sealed(ts *testscript.TestScript, args []string) {
	image, err := os.Open(ts.MkAbs(args[1]))
	ts.Check(err)
	defer image.Close()
	header, err := luks2.Parse(image)
	ts.Check(err)
	s, err := volume.Key(header)
	ts.Check(err)
	chip, err := tpm.Open(f.devices[args[0]].Socket)
	ts.Check(err)
	defer chip.Close()
	key, err := chip.Unseal(context.Background(), tpm.Blob{Public: s.Public, Private: s.Private}, nil)
	ts.Check(err)
	if string(key) != ts.ReadFile(args[2]) {
		ts.Fatalf("the header of %s holds another key than %s", args[1], args[2])
	}
}

// absent wants a text to be in no file of a folder: "absent TEXT DIR".
func absent(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(filepath.Walk(ts.MkAbs(args[1]), func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if err == nil && bytes.Contains(b, []byte(strings.TrimSpace(args[0]))) {
			ts.Fatalf("%s holds %q", name, args[0])
		}
		return err
	}))
}
