package uplink_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/uplink"
	"ward/internal/device/mqtt"
	"ward/internal/format/dsse"
	"ward/internal/trust/evidence"
	"ward/internal/trust/receipt"
)

// tpm is an attester that takes its time.
type tpm struct {
	mu    sync.Mutex
	takes time.Duration
	size  int // of a document
	fail  error
	asked []string // the nonces that were answered, "" for a document that nobody asked for
	now   int
	most  int // how many asked at once
}

func (a *tpm) Evidence(ctx context.Context, c *receipt.Challenge) ([]byte, error) {
	a.mu.Lock()
	a.now++
	a.most = max(a.most, a.now)
	n := ""
	if c != nil {
		n = c.Nonce.String()[:8]
	}
	a.asked = append(a.asked, n)
	takes, size, fail := a.takes, a.size, a.fail
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.now--
		a.mu.Unlock()
	}()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fail != nil {
		return nil, fail
	}
	return append([]byte(n+" "), bytes.Repeat([]byte{7}, size)...), nil
}

// count says how often it was asked, and how many asked at once.
func (a *tpm) count() (asked, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked), a.most
}

func (a *tpm) questions() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("%q", a.asked)
}

// arrived are the documents that the fleet has: the nonces they answer.
func (n *net) arrived() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, d := range n.documents {
		nonce, _, _ := bytes.Cut(d, []byte(" "))
		out = append(out, string(nonce))
	}
	return fmt.Sprintf("%q", out)
}

func nonceOf(n int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return sum[:]
}

func short(n int) string { return fmt.Sprintf("%x", nonceOf(n)[:4]) }

func (n *net) ask(number int, key *ecdsa.PrivateKey, change func(c *receipt.Challenge)) mqtt.Message {
	now := time.Now()
	c := receipt.Challenge{Tenant: "acme", Device: "pump-1", Nonce: nonceOf(number), Issued: now, Expires: now.Add(time.Minute), Boot: boot}
	if change != nil {
		change(&c)
	}
	b, err := receipt.SignChallenge(c, key)
	if err != nil {
		n.t.Fatal(err)
	}
	return mqtt.Message{Topic: "ward/v1/acme/pump-1/down/challenge", Payload: b}
}

// attested runs an uplink that answers questions.
func attested(t *testing.T, a *tpm, body func(t *testing.T, u *uplink.Uplink, m *memory, n *net)) {
	t.Helper()
	run(t, func(c *uplink.Config) { c.Attester, c.Challenges = a, c.Receipts }, body)
}

// A question is answered once, with its nonce; evidence goes up unasked once
// after the first connection and then every six hours, and an answer serves for
// it.
//
// Verifies: SR-030
func TestEvidenceAskedAndUnasked(t *testing.T) {
	a := &tpm{takes: time.Second, size: 1000}
	attested(t, a, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		if got := n.arrived(); got != "[]" {
			t.Errorf("at once: %s", got)
		}
		time.Sleep(time.Minute)
		if got := n.arrived(); got != `[""]` {
			t.Errorf("after the first connection: %s", got)
		}
		n.current().Close()
		time.Sleep(time.Hour)
		if got := n.arrived(); got != `[""]` {
			t.Errorf("after another connection: %s", got)
		}
		n.current().push(n.ask(1, n.key, nil))
		time.Sleep(time.Minute)
		if got, want := n.arrived(), fmt.Sprintf("%q", []string{"", short(1)}); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if s := u.Status(); s.LastEvidence == nil || time.Since(*s.LastEvidence) > time.Minute {
			t.Errorf("status %+v", s)
		}
		time.Sleep(5*time.Hour + 50*time.Minute)
		if got, want := n.arrived(), fmt.Sprintf("%q", []string{"", short(1)}); got != want {
			t.Errorf("six hours after the one that nobody asked for: %s, want %s", got, want)
		}
		time.Sleep(20 * time.Minute)
		if got, want := n.arrived(), fmt.Sprintf("%q", []string{"", short(1), ""}); got != want {
			t.Errorf("six hours after the answer: %s, want %s", got, want)
		}
		if got := m.findings(0); slices.ContainsFunc(got, func(s string) bool { return s != "ward.link.connected" }) {
			t.Errorf("recorded %v", got)
		}
	})
}

// A fleet that asks at birth gets one answer, not two documents.
func TestQuestionAtBirthServesForBoth(t *testing.T) {
	a := &tpm{takes: 3 * time.Second, size: 10}
	attested(t, a, func(t *testing.T, _ *uplink.Uplink, _ *memory, n *net) {
		n.current().push(n.ask(1, n.key, nil))
		time.Sleep(time.Hour)
		if got, want := n.arrived(), fmt.Sprintf("%q", []string{short(1)}); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// Without an attester, or without a key to know the fleet by, no question is
// heard; without an attester nothing goes up.
func TestWithoutAttesterOrKey(t *testing.T) {
	run(t, nil, func(t *testing.T, _ *uplink.Uplink, _ *memory, n *net) {
		time.Sleep(time.Hour)
		if got := n.arrived(); got != "[]" || fmt.Sprint(n.current().filters) != "[ward/v1/acme/pump-1/down/receipt]" {
			t.Errorf("%s, subscribed to %v", got, n.current().filters)
		}
	})
	a := &tpm{}
	run(t, func(c *uplink.Config) { c.Attester = a }, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		n.current().push(n.ask(1, n.key, nil))
		time.Sleep(time.Hour)
		if got := a.questions(); got != `[""]` || len(n.current().filters) != 1 {
			t.Errorf("asked %s, subscribed to %v", got, n.current().filters)
		}
	})
}

// Forged, replayed, foreign and malformed questions are not answered, and each is
// a finding.
//
// Verifies: SR-030
func TestBadQuestionsAreNotAnswered(t *testing.T) {
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		message func(n *net) mqtt.Message
		want    string
	}{
		{"signed by another key", func(n *net) mqtt.Message { return n.ask(2, stranger, nil) }, "link.challenge-invalid"},
		{"for another device", func(n *net) mqtt.Message {
			return n.ask(2, n.key, func(c *receipt.Challenge) { c.Device = "pump-2" })
		}, "link.challenge-invalid"},
		{"for another tenant", func(n *net) mqtt.Message {
			return n.ask(2, n.key, func(c *receipt.Challenge) { c.Tenant = "other" })
		}, "link.challenge-invalid"},
		{"answered before", func(n *net) mqtt.Message { return n.ask(1, n.key, nil) }, "link.challenge-invalid"},
		{"a receipt in its place", func(n *net) mqtt.Message {
			m := n.receipt(1, [32]byte{1})
			m.Topic = "ward/v1/acme/pump-1/down/challenge"
			return m
		}, "link.challenge-invalid"},
		{"no question at all", func(n *net) mqtt.Message {
			return mqtt.Message{Topic: "ward/v1/acme/pump-1/down/challenge", Payload: []byte("reboot now")}
		}, "link.challenge-invalid"},
		{"good for two days", func(n *net) mqtt.Message {
			now := time.Now().UTC().Format(time.RFC3339)
			then := time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339)
			payload := fmt.Sprintf(`{"tenant":"acme","device":"pump-1","nonce":"%x","issued":%q,"expires":%q}`, nonceOf(3), now, then)
			b, err := dsse.Sign(receipt.ChallengeType, []byte(payload), n.key)
			if err != nil {
				t.Fatal(err)
			}
			return mqtt.Message{Topic: "ward/v1/acme/pump-1/down/challenge", Payload: b}
		}, "link.challenge-invalid"},
		{"on the topic of receipts", func(n *net) mqtt.Message {
			m := n.ask(2, n.key, nil)
			m.Topic = "ward/v1/acme/pump-1/down/receipt"
			return m
		}, "link.receipt-invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &tpm{}
			attested(t, a, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
				n.current().push(n.ask(1, n.key, nil))
				time.Sleep(time.Minute)
				before, asked := m.len(), a.questions()
				for range 50 {
					n.current().push(c.message(n))
					synctest.Wait()
				}
				time.Sleep(time.Second)
				if got := fmt.Sprint(m.findings(before)); got != "[incident "+c.want+"]" {
					t.Errorf("fifty of them recorded %s, want one %s", got, c.want)
				}
				if got := a.questions(); got != asked {
					t.Errorf("answered %s", got)
				}
				n.current().push(n.ask(4, n.key, nil))
				time.Sleep(time.Second)
				if got, want := n.arrived(), fmt.Sprintf("%q", []string{short(1), short(4)}); got != want {
					t.Errorf("a good question afterwards: %s, want %s", got, want)
				}
			})
		})
	}
}

// The device's clock may be wrong: whether a question has expired is the fleet's
// to judge.
func TestQuestionOfAnotherClock(t *testing.T) {
	a := &tpm{}
	attested(t, a, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		n.current().push(n.ask(1, n.key, func(c *receipt.Challenge) {
			c.Issued, c.Expires = c.Issued.AddDate(-9, 0, 0), c.Expires.AddDate(-9, 0, 0)
		}))
		time.Sleep(time.Second)
		if got, want := n.arrived(), fmt.Sprintf("%q", []string{short(1)}); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// Good questions in a flood: one in ten seconds is answered, one at a time, and
// that it lasts is a finding. Events go up meanwhile.
//
// Verifies: SR-030
func TestFloodOfQuestions(t *testing.T) {
	a := &tpm{takes: 4 * time.Second, size: 5}
	attested(t, a, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		before := m.len()
		for i := range 600 {
			n.current().push(n.ask(i, n.key, nil))
			time.Sleep(100 * time.Millisecond)
			if i == 300 {
				m.add(t, 5)
				time.Sleep(50 * time.Millisecond)
				if m.Acknowledged() != uint64(m.len()) {
					t.Errorf("%d of %d confirmed in the flood", m.Acknowledged(), m.len())
				}
			}
		}
		time.Sleep(5 * time.Second)
		answered, most := a.count()
		if answered < 5 || answered > 7 || most != 1 {
			t.Errorf("%d answers in a minute, %d at once", answered, most)
		}
		got := m.findings(before)
		if len(got) == 0 || len(got) > 2 || got[0] != "incident link.challenge-flood" {
			t.Errorf("recorded %v", got)
		}
	})
}

// Two questions in a short time are no flood.
func TestTwoQuestionsAreNoFlood(t *testing.T) {
	a := &tpm{}
	attested(t, a, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		before := m.len()
		n.current().push(n.ask(1, n.key, nil))
		n.current().push(n.ask(2, n.key, nil))
		time.Sleep(11 * time.Second)
		n.current().push(n.ask(2, n.key, nil)) // was not answered: may come again
		time.Sleep(time.Second)
		if got, want := n.arrived(), fmt.Sprintf("%q", []string{short(1), short(2)}); got != want || len(m.findings(before)) != 0 {
			t.Errorf("%s, want %s; recorded %v", got, want, m.findings(before))
		}
	})
}

// A long document goes up in parts, few at a time; events overtake it, and a slow
// link gets one part at a time.
//
// Verifies: SR-020
func TestLongEvidence(t *testing.T) {
	for _, c := range []struct {
		slow time.Duration
		most int
	}{{10 * time.Millisecond, 4}, {3 * time.Second, 1}} {
		a := &tpm{size: 20 * evidence.PartSize}
		attested(t, a, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
			n.mu.Lock()
			n.slow = c.slow
			n.mu.Unlock()
			n.current().push(n.ask(1, n.key, nil))
			time.Sleep(2 * c.slow)
			m.add(t, 1)
			synctest.Wait()
			if m.Acknowledged() != uint64(m.len()) || n.arrived() != "[]" {
				t.Errorf("the event stands in line: %d of %d confirmed, arrived %s", m.Acknowledged(), m.len(), n.arrived())
			}
			time.Sleep(30 * c.slow)
			if got, want := n.arrived(), fmt.Sprintf("%q", []string{short(1)}); got != want || n.mostParts != c.most {
				t.Errorf("%s, want %s; %d parts at once, want %d", got, want, n.mostParts, c.most)
			}
		})
	}
}

// What is lost with a connection is not sent again; the fleet asks again.
func TestLostConnectionDropsEvidence(t *testing.T) {
	a := &tpm{takes: 5 * time.Second, size: 20 * evidence.PartSize}
	attested(t, a, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		n.current().push(n.ask(1, n.key, nil))
		time.Sleep(2 * time.Second) // being made
		n.current().Close()
		time.Sleep(30 * time.Second)
		n.mu.Lock()
		n.slow = time.Second
		n.mu.Unlock()
		n.current().push(n.ask(2, n.key, nil))
		time.Sleep(10 * time.Second) // on its way
		n.current().Close()
		time.Sleep(time.Minute)
		if got := n.arrived(); got != "[]" {
			t.Errorf("arrived %s", got)
		}
		n.current().push(n.ask(3, n.key, nil))
		time.Sleep(time.Minute)
		if got, want := n.arrived(), fmt.Sprintf("%q", []string{short(3)}); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if _, most := a.count(); most != 1 {
			t.Errorf("%d at once", most)
		}
	})
}

// Verifies: SR-017
func TestAttesterThatFails(t *testing.T) {
	a := &tpm{fail: errors.New("the TPM does not answer")}
	attested(t, a, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		n.current().push(n.ask(1, n.key, nil))
		m.add(t, 3)
		time.Sleep(time.Hour)
		if m.Acknowledged() != uint64(m.len()) || u.Status().State != "connected" || u.Status().LastEvidence != nil {
			t.Errorf("%d of %d confirmed, status %+v", m.Acknowledged(), m.len(), u.Status())
		}
		if tried, _ := a.count(); tried > 14 {
			t.Errorf("tried %d times in an hour", tried)
		}
	})
}

// Verifies: SR-017
func TestChallengeSubscriptionRefused(t *testing.T) {
	attested(t, &tpm{}, func(t *testing.T, _ *uplink.Uplink, m *memory, n *net) {
		n.mu.Lock()
		n.noAsk = true
		n.mu.Unlock()
		before := m.len()
		n.current().Close()
		m.add(t, 1)
		time.Sleep(time.Minute)
		if got := fmt.Sprint(m.findings(before)); got != "[raised link.challenge-refused]" || m.Acknowledged() != uint64(m.len()) {
			t.Errorf("recorded %s, %d of %d confirmed", got, m.Acknowledged(), m.len())
		}
		n.mu.Lock()
		n.noAsk = false
		n.mu.Unlock()
		n.current().Close()
		time.Sleep(time.Minute)
		if got := fmt.Sprint(m.findings(before)); got != "[raised link.challenge-refused cleared link.challenge-refused]" {
			t.Errorf("after the repair: %s", got)
		}
	})
}
