package verifier_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ward/internal/fleet/verifier"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/quote/quotetest"
	"ward/internal/trust/receipt"
	"ward/internal/trust/verdict"
)

const tenant, name, boot = "lab", "paper-1", "boot-1"

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a verifier and a device on paper that it knows.
type world struct {
	t      testing.TB
	now    time.Time
	dir    string
	key    *ecdsa.PrivateKey // of challenges
	config verifier.Config
	v      *verifier.Verifier
	d      *appraisaltest.Device
	next   byte // of documents' ids
}

func publicPEM(t testing.TB, key *ecdsa.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func newWorld(t testing.TB, change func(c *verifier.Config)) *world {
	t.Helper()
	w := &world{t: t, now: begin, dir: t.TempDir(), key: quotetest.Key(t), d: appraisaltest.New(t)}
	keys, err := verifier.NewRegistry(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	verified := w.d.Verified(t)
	digest := verified.Digest()
	w.config = verifier.Config{
		ChallengeKey: w.key, Keys: keys, StateFile: filepath.Join(w.dir, "state"),
		Releases: verifier.Releases{string(digest[:]): {Verified: verified, Version: "1.0.0", Baseline: w.d.Index(t)}},
	}
	if change != nil {
		change(&w.config)
	}
	if _, err := keys.Register(w.now, tenant, name, publicPEM(t, &w.d.AK.PublicKey), false, ""); err != nil {
		t.Fatal(err)
	}
	w.crash()
	return w
}

// restart is an orderly one; a crash saves nothing more.
func (w *world) restart() {
	w.t.Helper()
	if err := w.v.Save(); err != nil {
		w.t.Fatal(err)
	}
	w.crash()
}

func (w *world) crash() {
	w.t.Helper()
	var err error
	if w.v, err = verifier.New(w.config); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) heard(state, boot string) {
	w.v.Heard(w.now, presence.Status{State: state, Tenant: tenant, Device: name, Boot: boot})
}

// look lets time pass and returns the question, if there is one, and what is said.
func (w *world) look(after time.Duration) (*receipt.Challenge, string) {
	w.t.Helper()
	w.now = w.now.Add(after)
	ask, say, err := w.v.Look(w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(ask) > 1 {
		w.t.Fatalf("%d questions", len(ask))
	}
	if len(ask) == 0 {
		return nil, said(say)
	}
	ring, err := dsse.NewKeyring(w.key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := receipt.VerifyChallenge(ask[0].Envelope, ring, tenant, name)
	if err != nil {
		w.t.Fatal(err)
	}
	challenge := c.Challenge()
	return &challenge, said(say)
}

// asked expects a question.
func (w *world) asked(after time.Duration) *receipt.Challenge {
	w.t.Helper()
	c, say := w.look(after)
	if c == nil || say != "" {
		w.t.Fatalf("asked %v, said %s", c, say)
	}
	return c
}

// evidence is what the device answers; its clock goes on.
func (w *world) evidence(c *receipt.Challenge, change func(e *evidence.Evidence)) evidence.Evidence {
	w.t.Helper()
	w.d.Clock.Milliseconds += 1000
	e := w.d.Evidence()
	digest := w.d.Verified(w.t).Digest()
	e.Release, e.Record = digest[:], evidence.Record{Epoch: 1, Sequence: 9, Head: chain.Hash{9}}
	if c != nil {
		e.Nonce = c.Nonce
		if c.Boot == e.Boot && bytes.Equal(c.EventLog, pcr.SHA256.Sum(e.EventLog)) {
			e.EventLog, e.EventLogDigest = nil, c.EventLog
		}
		if c.Boot == e.Boot && c.List.Entries > 0 {
			e.From, e.IMA = c.List, listAfter(w.t, e.IMA, c.List.Entries)
		}
	}
	if change != nil {
		change(&e)
	}
	w.d.Quote(w.t, &e)
	return e
}

// listAfter leaves out the first entries of a list.
func listAfter(t testing.TB, list []byte, entries int) []byte {
	t.Helper()
	dec, err := ima.NewDecoder(bytes.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	for range entries {
		if _, err := dec.Next(); err != nil {
			t.Fatal(err)
		}
	}
	e, err := dec.Next()
	if err != nil {
		return nil
	}
	return list[e.Offset:]
}

// take hands evidence over and returns what is said, and the last verdict.
func (w *world) take(e evidence.Evidence) (string, *verdict.Verdict) {
	w.t.Helper()
	b, err := evidence.Encode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.takeBytes(b)
}

func (w *world) takeBytes(b []byte) (string, *verdict.Verdict) {
	w.t.Helper()
	w.next++
	parts, err := evidence.Split([16]byte{w.next}, b)
	if err != nil {
		w.t.Fatal(err)
	}
	var say []verdict.Statement
	for _, p := range parts {
		say = append(say, w.v.Take(w.now, tenant, name, p, nil)...)
	}
	var last *verdict.Verdict
	for _, s := range say {
		if s.Verdict != nil {
			last = s.Verdict
		}
	}
	return said(say), last
}

// said writes statements in short: "affirming", "none boot.quote-missing",
// "link.evidence-missing", "cleared link.evidence-missing".
func said(say []verdict.Statement) string {
	var out []string
	for _, s := range say {
		switch {
		case s.Tenant != tenant || s.Device != name:
			out = append(out, "of "+s.Tenant+"/"+s.Device)
		case s.Verdict != nil:
			words := []string{s.Verdict.Verdict.String()}
			for _, f := range s.Verdict.Findings {
				if !slices.Contains(words, string(f.Code)) {
					words = append(words, string(f.Code))
				}
			}
			out = append(out, strings.Join(words, " "))
		case s.Cleared:
			out = append(out, "cleared "+string(s.Finding.Code))
		default:
			out = append(out, string(s.Finding.Code))
		}
	}
	return strings.Join(out, ", ")
}

func (w *world) want(got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("said %q, want %q", got, want)
	}
}

// A device is asked at its birth and then every hour; it answers once with
// everything, and then with what is new.
//
// Verifies: SR-030, SR-031
func TestQuestionsAndAnswers(t *testing.T) {
	w := newWorld(t, nil)
	if c, say := w.look(0); c != nil || say != "" {
		t.Errorf("before the birth: %+v, %s", c, say)
	}
	w.heard(presence.Online, boot)
	first := w.asked(time.Second)
	if first.Boot != "" || first.EventLog != nil || first.Expires.Sub(first.Issued) != time.Minute {
		t.Errorf("first question %+v", first)
	}
	if c, _ := w.look(time.Second); c != nil {
		t.Error("asked again before the answer")
	}
	got, v := w.take(w.evidence(first, nil))
	w.want(got, "affirming")
	if !v.Asked || v.Version != "1.0.0" || v.Boot != boot || v.IMAEntries != 3 || v.Events == 0 || v.Claims[appraisal.ClaimQuote] != appraisal.Affirming {
		t.Errorf("verdict %+v", v)
	}

	if c, say := w.look(59 * time.Minute); c != nil || say != "" {
		t.Errorf("within the hour: %+v, %s", c, say)
	}
	second := w.asked(2 * time.Minute)
	if second.Boot != boot || !bytes.Equal(second.EventLog, pcr.SHA256.Sum(w.d.Log)) || second.List.Entries != 3 || !bytes.Equal(second.List.PCR, w.d.PCRs[ima.Register]) {
		t.Errorf("second question %+v", second)
	}
	w.d.SetList(t, appraisaltest.Program("/usr/sbin/wardd"), appraisaltest.Program("/usr/bin/pump"), appraisaltest.Program("/usr/bin/pump"))
	e := w.evidence(second, nil)
	if len(e.EventLog) != 0 || e.From.Entries != 3 {
		t.Fatalf("the device sends everything: %+v", e.From)
	}
	got, v = w.take(e)
	w.want(got, "affirming")
	if v.IMAEntries != 4 || v.Events == 0 {
		t.Errorf("verdict on what is new %+v", v)
	}
	if third := w.asked(time.Hour + time.Second); third.List.Entries != 4 {
		t.Errorf("third question %+v", third)
	}
	w.heard(presence.Offline, boot)
	if c, say := w.look(2 * time.Hour); c != nil || say != "" {
		t.Errorf("of a device that is gone: %+v, %s", c, say)
	}
	w.heard(presence.Online, "boot-2")
	if c := w.asked(time.Second); c.Boot != "" {
		t.Errorf("of a boot of which nothing is held: %+v", c)
	}
}

// A device whose files are not the release's gets the verdict that it would give
// itself; unasked evidence is judged too.
//
// Verifies: SR-031
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *world)
		alter  func(e *evidence.Evidence)
		want   string
	}{
		{"honest", nil, nil, "affirming"},
		{"a program that is not released", func(w *world) {
			w.d.SetList(t, appraisaltest.Program("/data/stranger"))
		}, nil, "warning ima.unknown-file"},
		{"a release that is not known here", nil, func(e *evidence.Evidence) { e.Release = pcr.SHA256.Sum([]byte("other")) }, "none boot.not-judged"},
		{"no quote", func(w *world) { w.d.PCRs = nil }, nil, ""},
		{"of another device", nil, func(e *evidence.Evidence) { e.Device = "paper-2" }, ""},
	} {
		w := newWorld(t, nil)
		if c.change != nil {
			c.change(w)
		}
		got, v := w.take(w.evidence(nil, c.alter))
		if c.want != "" && got != c.want && !strings.HasPrefix(got, c.want+" ") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if v == nil || v.Asked || (v.Verdict == appraisal.Affirming) != (c.name == "honest") {
			t.Errorf("%s: %q, verdict %+v", c.name, got, v)
		}
		if c.name == "of another device" && !strings.Contains(got, string(finding.EvidenceForeign)) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// Pitfall 12. A nonce is fresh, expires and is answered once: a source of
// randomness that repeats itself asks nobody, and no answer counts that is late,
// repeated or to what was never asked.
//
// Verifies: SR-030
func TestPitfall12FreshNonces(t *testing.T) {
	t.Run("a constant source", func(t *testing.T) {
		w := newWorld(t, func(c *verifier.Config) { c.Random = constant{} })
		w.heard(presence.Online, boot)
		w.take(w.evidence(w.asked(0), nil))
		w.now = w.now.Add(2 * time.Hour)
		if ask, _, err := w.v.Look(w.now); err == nil || len(ask) != 0 {
			t.Errorf("%d questions, %v", len(ask), err)
		}
	})
	t.Run("zeros", func(t *testing.T) {
		w := newWorld(t, func(c *verifier.Config) { c.Random = zeros{} })
		w.heard(presence.Online, boot)
		if ask, _, err := w.v.Look(w.now); err == nil || len(ask) != 0 {
			t.Errorf("%d questions, %v", len(ask), err)
		}
	})
	t.Run("unique", func(t *testing.T) {
		w := newWorld(t, nil)
		seen := make(map[string]bool)
		for i := range 300 {
			w.heard(presence.Online, fmt.Sprint("boot-", i))
			c := w.asked(2 * time.Minute)
			if seen[string(c.Nonce)] || len(c.Nonce) != 32 {
				t.Fatalf("nonce %s of question %d", c.Nonce, i)
			}
			seen[string(c.Nonce)] = true
			w.heard(presence.Offline, boot)
		}
	})
	t.Run("expired", func(t *testing.T) {
		for _, looked := range []bool{true, false} {
			w := newWorld(t, nil)
			w.heard(presence.Online, boot)
			e := w.evidence(w.asked(0), nil)
			w.now = w.now.Add(time.Minute + time.Second)
			if looked {
				_, say := w.look(0)
				w.want(say, "link.evidence-missing")
			}
			got, _ := w.take(e)
			want := "none link.evidence-missing"
			if !looked {
				want = "link.evidence-missing, " + want
			}
			w.want(got, want)
		}
	})
	t.Run("just in time", func(t *testing.T) {
		w := newWorld(t, nil)
		w.heard(presence.Online, boot)
		e := w.evidence(w.asked(0), nil)
		w.now = w.now.Add(time.Minute)
		got, _ := w.take(e)
		w.want(got, "affirming")
	})
	t.Run("answered twice", func(t *testing.T) {
		w := newWorld(t, nil)
		w.heard(presence.Online, boot)
		c := w.asked(0)
		e := w.evidence(c, nil)
		got, _ := w.take(e)
		w.want(got, "affirming")
		got, _ = w.take(e) // the broker's QoS 1 delivers at least once
		w.want(got, "")
		got, _ = w.take(w.evidence(c, nil)) // signed anew, with the same nonce
		w.want(got, "contraindicated boot.quote-nonce")
		got, _ = w.take(e) // kept, and sent behind other evidence
		w.want(got, "contraindicated boot.quote-nonce")
	})
	t.Run("never asked", func(t *testing.T) {
		w := newWorld(t, nil)
		w.heard(presence.Online, boot)
		w.asked(0)
		got, _ := w.take(w.evidence(&receipt.Challenge{Nonce: pcr.SHA256.Sum([]byte("mine"))}, nil))
		w.want(got, "contraindicated boot.quote-nonce")
	})
	t.Run("another device's question", func(t *testing.T) {
		w := newWorld(t, nil)
		w.v.Heard(w.now, presence.Status{State: presence.Online, Tenant: tenant, Device: "paper-2", Boot: boot})
		ask, _, err := w.v.Look(w.now)
		if err != nil || len(ask) != 1 || ask[0].Device != "paper-2" {
			t.Fatal(ask, err)
		}
		ring, err := dsse.NewKeyring(w.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		c, err := receipt.VerifyChallenge(ask[0].Envelope, ring, tenant, "paper-2")
		if err != nil {
			t.Fatal(err)
		}
		challenge := c.Challenge()
		got, _ := w.take(w.evidence(&challenge, nil))
		w.want(got, "contraindicated boot.quote-nonce")
	})
}

type constant struct{}

func (constant) Read(b []byte) (int, error) { return copy(b, bytes.Repeat([]byte{4}, len(b))), nil }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Pitfall 13. Another TPM does not take over a registered device: its evidence is
// another key's, a file in the place of the first counts for nothing, and only a
// recorded act makes it the device's.
//
// Verifies: SR-031
func TestPitfall13AnotherTPM(t *testing.T) {
	w := newWorld(t, nil)
	w.heard(presence.Online, boot)
	got, _ := w.take(w.evidence(w.asked(0), nil))
	w.want(got, "affirming")
	true1, other := w.d.AK, quotetest.Key(t)

	w.d.AK = other
	got, _ = w.take(w.evidence(w.asked(2*time.Hour), nil))
	if !strings.HasPrefix(got, "contraindicated boot.quote-other-key") {
		t.Errorf("another TPM: %s", got)
	}

	if _, err := w.config.Keys.Register(w.now, tenant, name, publicPEM(t, &other.PublicKey), false, ""); !errors.Is(err, verifier.ErrOtherKey) {
		t.Errorf("registered without an act: %v", err)
	}
	// Somebody puts the file there by hand.
	file := filepath.Join(w.dir, tenant, name+".ak.pem")
	if err := os.WriteFile(file, publicPEM(t, &other.PublicKey), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, _ = w.take(w.evidence(w.asked(2*time.Hour), nil))
		if !strings.HasPrefix(got, "contraindicated boot.quote-other-key") {
			t.Errorf("a file without an act: %s", got)
		}
		w.restart() // nor does a restart make it the first key
		w.heard(presence.Online, boot)
	}
	w.d.AK = true1
	got, v := w.take(w.evidence(w.asked(2*time.Hour), nil))
	if v.Claims[appraisal.ClaimQuote] != appraisal.Affirming || v.Verdict != appraisal.Contraindicated {
		t.Errorf("the true device beside a foreign file: %s", got)
	}

	// The main board is replaced, and the operator says so.
	if err := os.WriteFile(file, publicPEM(t, &true1.PublicKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.config.Keys.Register(w.now, tenant, name, publicPEM(t, &other.PublicKey), true, "main board replaced, order 4711"); err != nil {
		t.Fatal(err)
	}
	w.d.AK, w.d.Clock.Milliseconds = other, 500 // a new TPM's clock begins anew
	got, _ = w.take(w.evidence(w.asked(2*time.Hour), nil))
	w.want(got, "affirming")
	w.d.AK, w.d.Clock.Milliseconds = true1, 1<<40
	got, _ = w.take(w.evidence(w.asked(2*time.Hour), nil))
	if !strings.HasPrefix(got, "contraindicated boot.quote-other-key") {
		t.Errorf("the old board after the act: %s", got)
	}
}

// Without a registered key there is no pass.
func TestUnknownDevice(t *testing.T) {
	w := newWorld(t, nil)
	if err := os.Remove(filepath.Join(w.dir, tenant, name+".ak.pem")); err != nil {
		t.Fatal(err)
	}
	got, v := w.take(w.evidence(nil, nil))
	if v.Verdict != appraisal.None || !strings.Contains(got, string(finding.QuoteMissing)) {
		t.Errorf("%s", got)
	}
	if err := os.WriteFile(filepath.Join(w.dir, tenant, name+".ak.pem"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Minute)
	if got, v := w.take(w.evidence(nil, nil)); v.Verdict != appraisal.None {
		t.Errorf("a key file that is none: %s", got)
	}
}

// An answer that does not come is a condition: raised once, cleared by an answer.
// The device is asked again, less and less often.
//
// Verifies: SR-030
func TestMissingEvidence(t *testing.T) {
	w := newWorld(t, nil)
	w.heard(presence.Online, boot)
	w.asked(0)
	raised, questions := 0, 0
	for range 6 * 3600 {
		c, say := w.look(time.Second)
		if c != nil {
			questions++
		}
		if say != "" {
			w.want(say, "link.evidence-missing")
			raised++
		}
	}
	if raised != 1 || questions < 6 || questions > 12 {
		t.Errorf("in six hours: raised %d times, %d questions", raised, questions)
	}
	var c *receipt.Challenge
	for c == nil {
		c, _ = w.look(time.Second)
	}
	got, _ := w.take(w.evidence(c, nil))
	w.want(got, "affirming, cleared link.evidence-missing")
	if c, say := w.look(30 * time.Minute); c != nil || say != "" {
		t.Errorf("after the answer: %+v, %s", c, say)
	}
}

// Nobody blames a device for an answer that got lost while it was not there, or
// while the fleet was not: it is asked again, once the question has expired.
func TestAnswerLostWithTheConnection(t *testing.T) {
	w := newWorld(t, nil)
	w.heard(presence.Online, boot)
	c := w.asked(0)
	w.heard(presence.Lost, boot)
	w.heard(presence.Online, boot)
	if c, say := w.look(59 * time.Second); c != nil || say != "" {
		t.Errorf("while the question is good: %+v, %s", c, say)
	}
	if again := w.asked(2 * time.Second); bytes.Equal(again.Nonce, c.Nonce) {
		t.Error("asked with the same nonce")
	}
	w.heard(presence.Lost, boot)
	if c, say := w.look(time.Hour); c != nil || say != "" {
		t.Errorf("of a device that is gone: %+v, %s", c, say)
	}
	w.heard(presence.Online, boot)
	w.asked(time.Second)
	_, say := w.look(2 * time.Minute)
	w.want(say, "link.evidence-missing")
}

// A restart knows the question that waits, what evidence has established and what
// is missing; it asks for the event log again.
//
// Verifies: SR-030, SR-031
func TestRestart(t *testing.T) {
	w := newWorld(t, nil)
	w.heard(presence.Online, boot)
	old := w.evidence(nil, nil)
	c := w.asked(0)
	w.crash()
	got, _ := w.take(w.evidence(c, nil))
	w.want(got, "affirming")
	w.restart()
	got, _ = w.take(old)
	w.want(got, "contraindicated boot.quote-replayed")
	w.heard(presence.Online, boot)
	if c, _ := w.look(time.Minute); c != nil {
		t.Errorf("asked at once after a restart, though the boot is known: %+v", c)
	}
	if c := w.asked(time.Hour); c.EventLog != nil || c.List.Entries != 3 || c.Boot != boot {
		t.Errorf("question after a restart %+v", c)
	}
	w.restart()
	w.heard(presence.Online, boot)
	_, say := w.look(2 * time.Minute)
	w.want(say, "link.evidence-missing")
	w.restart()
	w.heard(presence.Online, boot)
	for range 300 {
		if _, say := w.look(time.Minute); say != "" {
			t.Errorf("told again after a restart: %s", say)
		}
	}
}

// Verifies: SR-022
func TestStateFileThatIsNone(t *testing.T) {
	w := newWorld(t, nil)
	for _, text := range []string{"", "{", `{"schema":2,"devices":{}}`, `{"schema":1,"devices":{"lab/paper-1":null}}`, `{"schema":1,"devices":{"../x":{}}}`,
		`{"schema":1,"devices":{"lab/paper-1":{"key":{"id":"00","spki":"AAAA"}}}}`} {
		if err := os.WriteFile(w.config.StateFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := verifier.New(w.config); err == nil || !strings.Contains(err.Error(), w.config.StateFile) {
			t.Errorf("state %q: %v", text, err)
		}
	}
}

// A device that names a log by a digest that is not held gets no pass, and is
// asked for everything.
func TestLogThatIsNotHeld(t *testing.T) {
	w := newWorld(t, nil)
	w.heard(presence.Online, boot)
	got, _ := w.take(w.evidence(w.asked(0), nil))
	w.want(got, "affirming")
	second := w.asked(2 * time.Hour)
	w.restart() // forgets the log
	w.heard(presence.Online, boot)
	got, v := w.take(w.evidence(second, nil))
	if v.Verdict != appraisal.None {
		t.Errorf("%s", got)
	}
	third := w.asked(20 * time.Second)
	if third.Boot != "" {
		t.Errorf("asked for parts: %+v", third)
	}
	got, _ = w.take(w.evidence(third, nil))
	w.want(got, "affirming")
	if c, _ := w.look(30 * time.Minute); c != nil {
		t.Error("asked again after a whole answer")
	}
}

// The record that the quotes sign is the one that the fleet holds.
func TestForkedRecord(t *testing.T) {
	for hash, want := range map[chain.Hash]string{{9}: "affirming", {8}: "contraindicated link.sequence-gap"} {
		w := newWorld(t, nil)
		b, err := evidence.Encode(w.evidence(nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		parts, err := evidence.Split([16]byte{1}, b)
		if err != nil {
			t.Fatal(err)
		}
		say := w.v.Take(w.now, tenant, name, parts[0], func(epoch, sequence uint64) (chain.Hash, bool) { return hash, epoch == 1 && sequence == 9 })
		w.want(said(say), want)
	}
}

// What a hostile device can send is bounded, and each kind is a finding, told
// once a minute.
//
// Verifies: SR-020, SR-022
func TestHostileDevice(t *testing.T) {
	w := newWorld(t, nil)
	for range 50 {
		if say := said(w.v.Take(w.now, tenant, name, []byte("noise"), nil)); say != "" {
			w.want(say, "link.evidence-invalid")
		}
	}
	if say := w.v.Take(w.now.Add(61*time.Second), tenant, name, []byte("noise"), nil); said(say) != "link.evidence-invalid" || !strings.Contains(say[0].Finding.Detail, "49 more") {
		t.Errorf("a minute later %s", said(say))
	}
	w.now = w.now.Add(time.Hour)
	got, _ := w.takeBytes([]byte("no document"))
	w.want(got, "link.evidence-invalid")

	t.Run("parts that never end", func(t *testing.T) {
		w := newWorld(t, nil)
		long := make([]byte, evidence.MaxDocument)
		_, _ = rand.Read(long)
		told := 0
		for i := range 200 {
			parts, err := evidence.Split([16]byte{byte(i), 1}, long)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range parts[1:3] {
				if say := said(w.v.Take(w.now, tenant, name, p, nil)); say != "" {
					w.want(say, "link.evidence-flood")
					told++
				}
			}
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
		w.now = w.now.Add(2 * time.Minute)
		w.look(0)
		got, _ := w.take(w.evidence(nil, nil))
		w.want(got, "affirming")
	})
	t.Run("documents without end", func(t *testing.T) {
		w := newWorld(t, nil)
		var all []string
		for range 40 {
			if got, _ := w.take(w.evidence(nil, nil)); got != "" {
				all = append(all, got)
			}
		}
		if len(all) != 13 || all[11] != "affirming" || all[12] != "link.evidence-flood" {
			t.Errorf("%d statements: %q", len(all), all)
		}
	})
}

// Verifies: SR-031
func TestRegistry(t *testing.T) {
	dir := t.TempDir()
	r, err := verifier.NewRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.NewRegistry(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there was opened")
	}
	one, two := publicPEM(t, &quotetest.Key(t).PublicKey), publicPEM(t, &quotetest.Key(t).PublicKey)
	for _, c := range []struct {
		name    string
		device  string
		key     []byte
		replace bool
		reason  string
		want    string // act, or what the error says
	}{
		{"first", "pump-1", one, false, "", "add"},
		{"the same again", "pump-1", one, false, "", ""},
		{"another", "pump-1", two, false, "", "another attestation key is registered"},
		{"another without a reason", "pump-1", two, true, "", "takes a reason"},
		{"another with a reason of two lines", "pump-1", two, true, "a\nb", "takes a reason"},
		{"the key of another device", "pump-2", one, false, "", "another device's: pump-1 of acme"},
		{"replaced", "pump-1", two, true, "main board", "replace"},
		{"the old key is free", "pump-2", one, false, "", "add"},
		{"a name that leads elsewhere", "../pump", one, false, "", "letters, digits"},
		{"no key", "pump-3", []byte("hello"), false, "", "not an attestation key"},
		{"replace where there is none", "pump-3", publicPEM(t, &quotetest.Key(t).PublicKey), true, "", "add"},
	} {
		act, err := r.Register(begin, "acme", c.device, c.key, c.replace, c.reason)
		switch {
		case err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case err == nil && act == nil && c.want != "", err == nil && act != nil && act.Act != c.want:
			t.Errorf("%s: %+v, want %q", c.name, act, c.want)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "acts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 4 || !strings.Contains(lines[1], `"act":"replace"`) || !strings.Contains(lines[1], `"reason":"main board"`) {
		t.Errorf("record of acts:\n%s", b)
	}
	k, err := r.Lookup(begin, "acme", "pump-1")
	if err != nil || k == nil || !strings.Contains(lines[1], k.ID) {
		t.Errorf("%+v, %v", k, err)
	}
	if k, err := r.Lookup(begin, "acme", "pump-9"); k != nil || err != nil {
		t.Errorf("a device that is not registered: %+v, %v", k, err)
	}
}

// Verifies: SR-006
func TestLoadReleases(t *testing.T) {
	d := appraisaltest.New(t)
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	manifest, list, key := put("release.dsse", d.Envelope(t)), put("baseline", d.Baseline), put("key.pem", appraisaltest.KeyPEM(t, d.Key))
	all, err := verifier.LoadReleases([]string{manifest}, []string{list}, []string{key}, 1)
	if err != nil {
		t.Fatal(err)
	}
	digest := d.Verified(t).Digest()
	if r := all[string(digest[:])]; len(all) != 1 || r.Version != "1.0.0" || r.Baseline == nil || r.Baseline.Digest() != sha256.Sum256(d.Baseline) {
		t.Errorf("%+v", r)
	}
	if all, err := verifier.LoadReleases(nil, nil, nil, 1); err != nil || len(all) != 0 {
		t.Errorf("nothing: %v, %v", all, err)
	}
	for name, f := range map[string]func() error{
		"another key": func() error {
			_, err := verifier.LoadReleases([]string{manifest}, nil, []string{put("other.pem", appraisaltest.KeyPEM(t, appraisaltest.Key(2)))}, 1)
			return err
		},
		"no key":         func() error { _, err := verifier.LoadReleases([]string{manifest}, nil, nil, 1); return err },
		"two signatures": func() error { _, err := verifier.LoadReleases([]string{manifest}, nil, []string{key}, 2); return err },
		"a baseline that nobody names": func() error {
			_, err := verifier.LoadReleases([]string{manifest}, []string{put("b2", []byte("x"))}, []string{key}, 1)
			return err
		},
		"no file": func() error { _, err := verifier.LoadReleases([]string{"none"}, nil, []string{key}, 1); return err },
	} {
		if f() == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func FuzzTake(f *testing.F) {
	w := newWorld(f, func(c *verifier.Config) { c.StateFile = "" })
	b, err := evidence.Encode(w.evidence(nil, nil))
	if err != nil {
		f.Fatal(err)
	}
	parts, err := evidence.Split([16]byte{1}, b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(parts[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		w.now = w.now.Add(time.Hour)
		for _, s := range w.v.Take(w.now, tenant, name, b, nil) {
			if s.Verdict != nil && s.Verdict.Verdict == appraisal.Affirming && !bytes.Equal(b, parts[0]) {
				t.Errorf("affirmed %x", b)
			}
		}
	})
}

// One answer to a question that names what is held: parts, parsing, two
// signatures, event log and what is new of the list. The blueprint's budget is
// 5,000 a second and core.
func BenchmarkIncremental(b *testing.B) {
	w := newWorld(b, func(c *verifier.Config) { c.StateFile = "" })
	w.heard(presence.Online, boot)
	w.take(w.evidence(w.asked(0), nil))
	c := w.asked(2 * time.Hour)
	w.heard(presence.Online, "boot-2") // ends the question, so that what names what is held can come again and again
	c.Nonce = nil
	e := w.evidence(c, nil)
	text, err := evidence.Encode(e)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	begun := cpu(b)
	var id [16]byte
	for i := 0; b.Loop(); i++ {
		id[1], id[2], id[3], id[4] = byte(i), byte(i>>8), byte(i>>16), 1
		parts, err := evidence.Split(id, text)
		if err != nil {
			b.Fatal(err)
		}
		w.now = w.now.Add(time.Minute)
		say := w.v.Take(w.now, tenant, name, parts[0], nil)
		if len(say) != 1 || say[0].Verdict.Verdict != appraisal.Affirming {
			b.Fatal(said(say))
		}
	}
	b.ReportMetric(float64(len(text)), "bytes")
	b.ReportMetric(float64(b.N)/(cpu(b)-begun).Seconds(), "appraisals/core-s")
}

// cpu is the processor time that this process has taken: what others run on the
// same machine does not count.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
