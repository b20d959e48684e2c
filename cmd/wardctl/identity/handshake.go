package identity

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"ward/cmd/wardctl/onsite"
	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/identity/issued"
	"ward/internal/agent/identity/roots"
	"ward/internal/device/mqtt"
	"ward/internal/device/tpm"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth"
)

// reachTime bounds name resolution and the connection to the port.
const reachTime = 10 * time.Second

// States of a step.
const (
	isGood    = "ok"
	isBad     = "failed"
	undecided = "undecided" // it could not be tried, and is no pass
	skipped   = "skipped"   // not reached
)

// Steps of the trial, in their order.
const (
	stepCertificate = "certificate"   // ours: there, for this device, in time
	stepKey         = "key"           // ours: the TPM signs with it
	stepResolve     = "resolution"    // the broker's name, or the proxy's, has an address
	stepConnect     = "connection"    // its port answers, and the proxy lets through
	stepVersion     = "tls-version"   // TLS 1.3
	stepChain       = "server-chain"  // to the fleet's roots
	stepName        = "server-name"   // the configured one
	stepTime        = "server-time"   // valid now
	stepUsage       = "server-usage"  // for a server
	stepStrength    = "server-keys"   // none that can be forged
	stepRevocation  = "server-status" // not revoked
	stepAdmission   = "admission"     // the broker takes our certificate
	stepMQTT        = "mqtt"          // and our CONNECT
)

var steps = []string{
	stepCertificate, stepKey, stepResolve, stepConnect, stepVersion, stepChain, stepName, stepTime, stepUsage, stepStrength, stepRevocation,
	stepAdmission, stepMQTT,
}

// serverSteps are where serverauth's steps stand.
var serverSteps = map[serverauth.Step]string{
	serverauth.Version: stepVersion, serverauth.Trust: stepChain, serverauth.Name: stepName, serverauth.Time: stepTime, serverauth.Usage: stepUsage,
	serverauth.Strength: stepStrength, serverauth.Revocation: stepRevocation, serverauth.Admission: stepAdmission,
}

// tried is one step.
type tried struct {
	Step   string `json:"step"`
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// trial is the handshake with one broker.
type trial struct {
	Broker string  `json:"broker"`
	Steps  []tried `json:"steps"`

	device *onsite.Device
}

func newTrial(device *onsite.Device, broker string) *trial {
	t := &trial{Broker: broker, device: device}
	for _, s := range steps {
		t.Steps = append(t.Steps, tried{Step: s, State: skipped})
	}
	return t
}

func (t *trial) set(step, state, detail, remedy string) {
	for i := range t.Steps {
		if t.Steps[i].Step == step {
			t.Steps[i] = tried{step, state, strings.Join(strings.Fields(detail), " "), remedy}
		}
	}
}

func (t *trial) fail(step string, err error, remedy string) { t.set(step, isBad, err.Error(), remedy) }

// find fails a step with a finding's remedy.
func (t *trial) find(step, state string, code finding.Code, err error) {
	t.set(step, state, err.Error(), finding.New(code, "").Remedy)
}

// worst is what the trial as a whole is.
func (t *trial) worst() string {
	state := isGood
	for _, s := range t.Steps {
		if s.State == isBad {
			return isBad
		}
		if s.State != isGood {
			state = undecided
		}
	}
	return state
}

// run tries one step after the other and stops where the next one has nothing to
// stand on.
func (t *trial) run(ctx context.Context, serverName string, now time.Time) {
	d, g, err := t.certificate(now)
	if err != nil {
		return
	}
	signer, err := t.key(ctx, d, g)
	if err != nil || !t.reach(ctx) {
		return
	}
	config, err := t.tls(g, signer, serverName, now)
	if err != nil {
		t.find(stepChain, isBad, finding.IdentityNoTrust, err)
		return
	}
	// An id of its own: the daemon's connection stays.
	c, err := mqtt.Connect(ctx, mqtt.Options{Broker: t.Broker, Proxy: t.device.Settings.Uplink.Proxy, ClientID: d.Serial + "-verify", TLS: config})
	if err == nil {
		c.Close()
	}
	t.judge(err)
}

// certificate looks at our own.
func (t *trial) certificate(now time.Time) (idstore.Device, idstore.Generation, error) {
	d, err := t.device.Store.Device()
	if err != nil {
		t.fail(stepCertificate, err, "run wardctl provision, or wardctl identity show for what is damaged")
		return d, idstore.Generation{}, err
	}
	all, err := t.device.Store.Generations(enrolment.Reporting)
	for _, g := range all {
		if g.Chain == nil {
			continue
		}
		trusted, err := t.trusted()
		if err != nil {
			t.find(stepCertificate, isBad, finding.IdentityNoTrust, err)
			return d, g, err
		}
		leaf := g.Chain[0]
		err = issued.Check(g.Chain, issued.Terms{Key: leaf.PublicKey, Tenant: d.Tenant, Device: d.Serial, Use: enrolment.Reporting, Roots: trusted, Now: now})
		if err != nil {
			// The trial goes on: the broker may see it otherwise.
			t.fail(stepCertificate, err, "enrol the device again (wardctl identity enroll)")
		} else {
			t.set(stepCertificate, isGood, fmt.Sprintf("generation %d, until %s", g.Number, leaf.NotAfter.UTC().Format(time.DateOnly)), "")
		}
		return d, g, nil
	}
	if err == nil {
		err = errors.New("the reporting key has no certificate")
	}
	t.fail(stepCertificate, err, "enrol the device (wardctl identity enroll)")
	return d, idstore.Generation{}, err
}

// trusted are the fleet's roots, of the image and learned.
func (t *trial) trusted() ([]*x509.Certificate, error) {
	image, err := roots.Read(filepath.Join(t.device.Settings.Paths.Trust, "fleet"))
	if err != nil {
		return nil, err
	}
	stored, err := t.device.Store.Roots()
	if err != nil {
		return image, nil // none, or damaged: show tells
	}
	var certs []*x509.Certificate
	for _, der := range stored {
		if c, err := x509.ParseCertificate(der); err == nil {
			certs = append(certs, c)
		}
	}
	all := image
	for _, l := range roots.Accept(image, certs) {
		all = append(all, l.Root)
	}
	return all, nil
}

// key has the TPM sign something.
func (t *trial) key(ctx context.Context, d idstore.Device, g idstore.Generation) (crypto.Signer, error) {
	signer, err := provision.Signer(ctx, t.device.Chip, d, g, nil)
	if err == nil {
		digest := sha256.Sum256([]byte("wardctl identity verify"))
		_, err = signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	switch {
	case err == nil:
		t.set(stepKey, isGood, "the TPM signs with it", "")
	case errors.Is(err, tpm.ErrOtherTPM):
		t.find(stepKey, isBad, finding.IdentityMismatch, err)
	case errors.Is(err, tpm.ErrNoKey):
		t.find(stepKey, isBad, finding.IdentityMissing, err)
	case errors.Is(err, tpm.ErrAbsent):
		t.find(stepKey, undecided, finding.TPMAbsent, err)
	default:
		t.find(stepKey, undecided, finding.TPMFailing, err)
	}
	return signer, err
}

// reach resolves the broker's name, or the proxy's if there is one, and opens its
// port.
func (t *trial) reach(ctx context.Context) bool {
	u, err := url.Parse(t.Broker)
	if err == nil && (u.Hostname() == "" || u.Scheme != "tls" && u.Scheme != "wss") {
		err = errors.New("want tls://host:port or wss://host/path")
	}
	if err != nil {
		t.fail(stepResolve, err, "correct uplink.brokers, or --broker")
		return false
	}
	if proxy := t.device.Settings.Uplink.Proxy; proxy != "" {
		// The proxy resolves the broker's name and connects to it.
		if u, err = url.Parse(proxy); err != nil {
			t.fail(stepResolve, err, "correct uplink.proxy")
			return false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
	if err != nil {
		t.set(stepResolve, undecided, err.Error(), "check the network's name service, and the name in uplink.brokers or uplink.proxy")
		return false
	}
	t.set(stepResolve, isGood, strings.Join(addresses, ", "), "")
	port := u.Port()
	switch {
	case port == "" && u.Scheme == "wss":
		port = "443"
	case port == "":
		port = "8883"
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		t.find(stepConnect, undecided, finding.LinkDown, err)
		return false
	}
	t.set(stepConnect, isGood, conn.RemoteAddr().String(), "")
	_ = conn.Close()
	return true
}

// tls is the configuration that wardd uses.
func (t *trial) tls(g idstore.Generation, signer crypto.Signer, serverName string, now time.Time) (*tls.Config, error) {
	trusted, err := t.trusted()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, r := range trusted {
		pool.AddCert(r)
	}
	var lists []*x509.RevocationList
	if der, err := t.device.Store.CRL(); err == nil {
		if list, err := x509.ParseRevocationList(der); err == nil {
			lists = append(lists, list)
		}
	}
	own := tls.Certificate{PrivateKey: signer, Leaf: g.Chain[0]}
	for _, c := range g.Chain {
		own.Certificate = append(own.Certificate, c.Raw)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: serverName, Certificates: []tls.Certificate{own}, Time: func() time.Time { return now },
		VerifyConnection: func(s tls.ConnectionState) error {
			return serverauth.Check(s.PeerCertificates, serverauth.Policy{Roots: trusted, Name: serverName, CRLs: lists, Now: now})
		},
	}, nil
}

// judge says which step a connection failed at. What a library checks together
// is not known to be good when one of it is bad.
func (t *trial) judge(err error) {
	if err == nil {
		t.pass(len(steps))
		return
	}
	var connect *mqtt.ConnectError
	if errors.As(err, &connect) && connect.Answered() {
		t.pass(index(stepMQTT))
		if connect.OtherID() {
			t.set(stepMQTT, isGood, "the broker takes the certificate, and no client id but the device's", "")
			return
		}
		t.find(stepMQTT, isBad, finding.LinkRefused, err)
		return
	}
	if connect != nil && connect.Cause == mqtt.OwnKey {
		t.find(stepKey, isBad, finding.TPMFailing, err)
		return
	}
	if connect != nil && connect.Cause == mqtt.ProxyRefused {
		t.find(stepConnect, isBad, finding.LinkProxyRefused, err)
		return
	}
	if connect != nil && connect.Cause == mqtt.Protocol {
		t.pass(index(stepMQTT))
		t.find(stepMQTT, isBad, finding.LinkProtocol, err)
		return
	}
	r := serverauth.Explain(err)
	if connect != nil && connect.Cause == mqtt.Refused {
		r = serverauth.Refusal{Code: finding.LinkRefused, Step: serverauth.Admission}
	}
	step, known := serverSteps[r.Step]
	switch {
	case !known:
		t.find(stepConnect, undecided, finding.LinkDown, err)
	case step == stepAdmission:
		t.pass(index(stepAdmission))
		t.find(step, isBad, r.Code, err)
	case step == stepVersion:
		t.find(step, isBad, r.Code, err)
	default:
		t.pass(index(stepVersion) + 1)
		t.find(step, isBad, r.Code, err)
	}
}

// pass marks the steps before the nth that were not set yet.
func (t *trial) pass(n int) {
	for i := range t.Steps[:n] {
		if t.Steps[i].State == skipped {
			t.Steps[i].State = isGood
		}
	}
}

func index(step string) int {
	for i, s := range steps {
		if s == step {
			return i
		}
	}
	return len(steps)
}
