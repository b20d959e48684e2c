package verifier_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/fleet/register"
	"ward/internal/fleet/verifier"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
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
	keys, err := register.Open(w.dir)
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
	if _, err := keys.Add(w.now, tenant, name, publicPEM(t, &w.d.AK.PublicKey), false, ""); err != nil {
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
