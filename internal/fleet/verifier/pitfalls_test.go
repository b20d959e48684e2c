package verifier_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/fleet/register"
	"ward/internal/fleet/verifier"
	"ward/internal/format/dsse"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/presence"
	"ward/internal/trust/quote/quotetest"
	"ward/internal/trust/receipt"
)

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

	if _, err := w.config.Keys.Add(w.now, tenant, name, publicPEM(t, &other.PublicKey), false, ""); !errors.Is(err, register.ErrOtherKey) {
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

	// Nor does it count as added where file and record were taken away.
	for _, gone := range []string{file, filepath.Join(w.dir, "acts.jsonl")} {
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
	}
	if act, err := w.config.Keys.Add(w.now, tenant, name, publicPEM(t, &other.PublicKey), false, ""); err != nil || act.Act != "add" {
		t.Fatal(act, err)
	}
	w.d.AK = other
	got, _ = w.take(w.evidence(w.asked(2*time.Hour), nil))
	if !strings.HasPrefix(got, "contraindicated boot.quote-other-key") {
		t.Errorf("added where it was replaced: %s", got)
	}

	// The main board is replaced, and the operator says so.
	if err := os.WriteFile(file, publicPEM(t, &true1.PublicKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.config.Keys.Add(w.now, tenant, name, publicPEM(t, &other.PublicKey), true, "main board replaced, order 4711"); err != nil {
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
