package ingest_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ward/internal/contracttest"
	"ward/internal/device/mqtt"
	"ward/internal/fleet/ingest"
	"ward/internal/fleet/register"
	"ward/internal/fleet/verifier"
	"ward/internal/format/chain"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
	"ward/internal/trust/verdict"
)

// paper is the attester of a device on paper.
type paper struct {
	t testing.TB

	mu     sync.Mutex
	device *appraisaltest.Device
	asked  []receipt.Challenge
}

func (p *paper) Evidence(_ context.Context, c *receipt.Challenge) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.device.Evidence()
	e.Tenant, e.Device, e.Boot = "acme", "pump-1", boot
	digest := p.device.Verified(p.t).Digest()
	e.Release = digest[:]
	p.device.Clock.Milliseconds += 100
	if c != nil {
		p.asked = append(p.asked, *c)
		e.Nonce = c.Nonce
	}
	p.device.Quote(p.t, &e)
	return evidence.Encode(e)
}

func registry(t testing.TB, d *appraisaltest.Device) *register.Register {
	t.Helper()
	r, err := register.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&d.AK.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(time.Now(), "acme", "pump-1", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), false, ""); err != nil {
		t.Fatal(err)
	}
	return r
}

// The whole way over a real broker: birth, question, evidence in parts, verdict;
// question and verdict keep their schemas.
//
// Verifies: SR-030, SR-031
func TestQuestionToVerdict(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	sub := broker.subscribe(t)
	key, ring := receiptKey(t)
	programs := make([]appraisaltest.Measured, 3000) // makes evidence longer than a message
	for i := range programs {
		programs[i] = appraisaltest.Program(fmt.Sprintf("/usr/bin/tool-%04d", i))
	}
	attester := &paper{t: t, device: appraisaltest.Booted(t, appraisaltest.Log(appraisaltest.Events()...), programs...)}
	verified := attester.device.Verified(t)
	digest := verified.Digest()
	v, err := verifier.New(verifier.Config{
		ChallengeKey: key, Keys: registry(t, attester.device),
		Releases: verifier.Releases{string(digest[:]): {Verified: verified, Version: "1.0.0", Baseline: attester.device.Index(t)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := startFleet(t, ingest.Config{Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: key, Verifier: v})
	d := newDevice(t, broker.url(), p.client(t, "pump-1"), ring)
	d.config.Challenges, d.config.Attester = d.config.Receipts, attester
	d.add(3)
	d.run()
	until(t, "a verdict", func() bool { return len(f.received(ingest.KindVerdict)) > 0 })
	got := f.received(ingest.KindVerdict)[0]
	if got.Verdict.Verdict != appraisal.Affirming || !got.Verdict.Asked || got.Tenant != "acme" || got.Device != "pump-1" || got.Verdict.Version != "1.0.0" || got.Verdict.IMAEntries != 3001 {
		t.Errorf("verdict %+v of %s", got.Verdict, got.Device)
	}
	if line := got.Line(); !strings.Contains(line, "verdict.affirming") || !strings.Contains(line, "release 1.0.0") {
		t.Errorf("line %s", line)
	}
	if c := f.codes(); len(c) != 0 {
		t.Errorf("findings %v", c)
	}
	question := slices.IndexFunc(sub.lines(), func(l string) bool { return strings.Contains(l, "/down/challenge ") })
	if question < 0 {
		t.Fatal("no question on the wire")
	}
	_, envelope, _ := strings.Cut(sub.lines()[question], " ")
	c, err := receipt.VerifyChallenge([]byte(envelope), ring, "acme", "pump-1")
	if err != nil || !bytes.Equal(c.Challenge().Nonce, attester.asked[0].Nonce) {
		t.Errorf("question on the wire: %v", err)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var line struct{ Verdict json.RawMessage }
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatal(err)
	}
	if err := contracttest.Document("verdict", line.Verdict); err != nil {
		t.Errorf("%s: %v", line.Verdict, err)
	}
	if d.Acknowledged() != 3 {
		t.Errorf("%d events confirmed beside it", d.Acknowledged())
	}
}

// script is a verifier that notes what it is told.
type script struct {
	mu    sync.Mutex
	heard []string
	took  []string
	known bool
	ask   []verdict.Question
	fail  error
}

func (s *script) Heard(_ time.Time, st presence.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, st.Device+" "+st.State)
}

func (s *script) Take(_ time.Time, tenant, device string, message []byte, known func(epoch, sequence uint64) (chain.Hash, bool)) []verdict.Statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, tenant+"/"+device+" "+string(message))
	_, s.known = known(1, 1)
	f := finding.New(finding.LinkEvidenceInvalid, "as the script says")
	cleared := finding.New(finding.LinkEvidenceMissing, "")
	return []verdict.Statement{{Tenant: tenant, Device: device, Finding: &f}, {Tenant: tenant, Device: device, Finding: &cleared, Cleared: true}}
}

func (s *script) Look(time.Time) ([]verdict.Question, []verdict.Statement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ask := s.ask
	s.ask = nil
	return ask, nil, s.fail
}

func (s *script) has(list *[]string, want string) func() bool {
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Contains(*list, want)
	}
}

// What a verifier hears, and what becomes of what it says.
func TestVerifierIsTold(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	key, _ := receiptKey(t)
	s := &script{}
	f := startFleet(t, ingest.Config{Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: key, Verifier: s})
	pump, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: broker.url(), ClientID: "pump-1", TLS: p.client(t, "pump-1")})
	if err != nil {
		t.Fatal(err)
	}
	defer pump.Close()
	if err := pump.Subscribe(t.Context(), presence.Topic("acme", "pump-1", presence.Challenge)); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	birth, err := presence.Encode(presence.Status{State: presence.Online, Tenant: "acme", Device: "pump-1", Boot: boot, Session: 4, Epoch: 1, WorryAfterSeconds: 900, Time: &now})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(k presence.Kind, b []byte) {
		if err := pump.Publish(t.Context(), presence.Topic("acme", "pump-1", k), false, b); err != nil {
			t.Fatal(err)
		}
	}
	publish(presence.State, []byte("no status"))
	publish(presence.State, birth)
	until(t, "the birth is told", s.has(&s.heard, "pump-1 online"))
	if len(s.heard) != 1 {
		t.Errorf("heard %v", s.heard)
	}
	publish(presence.Event, record(t, "pump-1", 1, 1, [32]byte{}, "true").Bytes)
	publish(presence.Evidence, []byte("evidence"))
	until(t, "evidence is handed over", s.has(&s.took, "acme/pump-1 evidence"))
	until(t, "what the verifier says is told", func() bool { return len(f.received(ingest.KindFinding)) == 3 })
	if !s.known {
		t.Error("the record that was accepted is not known")
	}
	findings := f.received(ingest.KindFinding) // the first is about the status that was none
	if findings[1].Finding.Code != finding.LinkEvidenceInvalid || findings[1].Cleared || !findings[2].Cleared || !strings.Contains(findings[2].Line(), "link.evidence-missing cleared") {
		t.Errorf("told %+v", findings)
	}
	s.mu.Lock()
	s.ask = []verdict.Question{{Tenant: "acme", Device: "pump-1", Envelope: []byte("question")}, {Tenant: "acme", Device: "pump-2", Envelope: []byte("another's")}}
	s.mu.Unlock()
	select {
	case m := <-pump.Messages():
		if string(m.Payload) != "question" || m.Retained {
			t.Errorf("asked %q", m.Payload)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no question")
	}

	// When the fleet's own connection ends, nobody is there until it stands again.
	broker.stop()
	until(t, "the connection is lost", s.has(&s.heard, "pump-1 lost"))
}

// A verifier that cannot go on ends listening, as files that cannot be written do.
func TestVerifierThatFails(t *testing.T) {
	p := newPKI(t)
	broker := startMosquitto(t, p)
	s := &script{fail: errors.New("no space left on device")}
	i, err := ingest.New(ingest.Config{Broker: broker.url(), TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", Verifier: s})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := i.Run(ctx); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("listening ended with %v", err)
	}
}
