package uplink_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/fleetkeys"
	"ward/internal/agent/uplink"
	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/presence"
	"ward/internal/trust/rotation"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rotating has the uplink take its keys from a store of rotations.
func rotating(t *testing.T, c *uplink.Config) {
	keys := fleetkeys.Open(filepath.Join(t.TempDir(), fleetkeys.File), c.Receipts(), c.Receipts(), slog.New(slog.DiscardHandler))
	c.Receipts, c.Challenges, c.Rotations = keys.Receipts, keys.Challenges, keys
}

func successor(t testing.TB, use rotation.Use, serial int, from, to crypto.Signer) mqtt.Message {
	t.Helper()
	b, err := rotation.Sign(use, serial, from, to.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return mqtt.Message{Topic: "ward/v1/acme/pump-1/down/" + string(use), Payload: b}
}

// keys lists the keys that the statuses named, in order, without repetitions.
func (n *net) keys() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, m := range n.got {
		if m.kind != presence.State {
			continue
		}
		s, err := presence.Parse(m.payload)
		if err != nil {
			n.t.Fatal(err)
		}
		named := "none"
		if s.Keys != nil {
			named = fmt.Sprint(s.Keys)
		}
		if len(out) == 0 || out[len(out)-1] != named {
			out = append(out, named)
		}
	}
	return out
}

func hint(t testing.TB, key crypto.Signer) string {
	t.Helper()
	id, err := dsse.KeyID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return rotation.Hint(id)
}

// The receipt key is rotated and then that of challenges: the device says so at
// once, and takes what the new keys sign and no longer what the old one does.
//
// Verifies: SR-068
func TestKeysAreRotated(t *testing.T) {
	a := &tpm{takes: time.Second, size: 100}
	second, third := newKey(t), newKey(t)
	var first *ecdsa.PrivateKey
	run(t, func(c *uplink.Config) { c.Attester = a; rotating(t, c) }, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		first = n.key
		m.add(t, 3)
		synctest.Wait()
		c := n.current()
		n.mu.Lock()
		n.key = second
		n.mu.Unlock()
		c.push(successor(t, rotation.Receipt, 1, first, second))
		time.Sleep(time.Second)
		m.add(t, 3)
		time.Sleep(time.Second)
		if got, want := m.Acknowledged(), uint64(m.len()); got != want {
			t.Errorf("%d of %d records are freed by the new key", got, want)
		}
		c.push(n.ask(1, first, nil)) // the challenge key is another matter
		time.Sleep(time.Minute)
		if asked, _ := a.count(); asked != 1 {
			t.Errorf("%d questions answered", asked)
		}
		c.push(successor(t, rotation.Challenge, 1, first, third))
		c.push(n.ask(2, third, nil))
		time.Sleep(time.Minute)
		if asked, _ := a.count(); asked != 2 {
			t.Errorf("%d questions answered", asked)
		}
		c.push(n.ask(3, first, nil))
		time.Sleep(time.Minute)
		if asked, _ := a.count(); asked != 2 {
			t.Error("the old key's question was answered")
		}
		if got, want := fmt.Sprint(m.findings(0)), "[ward.link.connected ward.link.key-rotated ward.link.key-rotated incident link.challenge-invalid]"; got != want {
			t.Errorf("recorded %s, want %s", got, want)
		}
		h1, h2, h3 := hint(t, first), hint(t, second), hint(t, third)
		if got, want := fmt.Sprint(n.keys()), fmt.Sprintf("[[%s %s] [%s %s] [%s %s]]", h1, h1, h2, h1, h2, h3); got != want {
			t.Errorf("the statuses name %s, want %s", got, want)
		}
	})
}

// refusing stores nothing.
type refusing struct{}

func (refusing) Apply(rotation.Use, []byte) (*rotation.Verified, error) {
	return nil, errors.New("store rotation: no space left on device")
}

// A rotation that does not follow changes nothing; it is found once a minute at
// most.
//
// Verifies: SR-068
func TestRefusedRotations(t *testing.T) {
	stranger, heir := newKey(t), newKey(t)
	for name, c := range map[string]struct {
		message func(n *net) mqtt.Message
		change  func(t *testing.T, c *uplink.Config)
		want    string
	}{
		"a stranger's":     {func(*net) mqtt.Message { return successor(t, rotation.Receipt, 1, stranger, heir) }, rotating, "the old key is not known"},
		"of the other use": {func(n *net) mqtt.Message { return otherTopic(successor(t, rotation.Challenge, 1, n.key, heir)) }, rotating, "keys of another use"},
		"a changed one": {func(n *net) mqtt.Message {
			m := successor(t, rotation.Receipt, 1, n.key, heir)
			at := strings.Index(string(m.Payload), `"sig":"`) + 20
			m.Payload[at] = map[bool]byte{true: 'B', false: 'A'}[m.Payload[at] == 'A']
			return m
		}, rotating, "not enough valid signatures"},
		"not to be stored": {func(n *net) mqtt.Message { return successor(t, rotation.Receipt, 1, n.key, heir) },
			func(_ *testing.T, c *uplink.Config) { c.Rotations = refusing{} }, "no space left on device"},
	} {
		run(t, func(conf *uplink.Config) { c.change(t, conf) }, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
			for range 20 {
				n.current().push(c.message(n))
				time.Sleep(time.Second)
			}
			if got, want := fmt.Sprint(m.findings(0)), "[ward.link.connected incident link.key-rotation-refused]"; got != want {
				t.Errorf("%s: recorded %s, want %s", name, got, want)
			}
			if last := m.records[len(m.records)-1]; !strings.Contains(string(last.Bytes), c.want) {
				t.Errorf("%s: recorded %s", name, last.Bytes)
			}
			time.Sleep(time.Minute)
			n.current().push(c.message(n))
			synctest.Wait()
			if last := m.records[len(m.records)-1]; !strings.Contains(string(last.Bytes), "and 19 more since") {
				t.Errorf("%s: recorded %s", name, last.Bytes)
			}
			m.add(t, 1)
			time.Sleep(time.Second)
			if got, want := m.Acknowledged(), uint64(m.len()); got != want {
				t.Errorf("%s: %d of %d records are freed by the fleet's key", name, got, want)
			}
			before := m.Acknowledged()
			n.mu.Lock()
			n.noReceipt = true
			n.mu.Unlock()
			m.add(t, 1)
			fleet := n.key
			n.mu.Lock()
			n.key = heir
			n.mu.Unlock()
			n.current().push(n.receipt(before+1, chain.Next(m.records[before].Bytes)))
			synctest.Wait()
			n.mu.Lock()
			n.key = fleet
			n.mu.Unlock()
			if m.Acknowledged() != before {
				t.Errorf("%s: the refused key freed a record", name)
			}
		})
	}
}

func otherTopic(m mqtt.Message) mqtt.Message {
	m.Topic = "ward/v1/acme/pump-1/down/receipt"
	return m
}

// An uplink that follows no rotation takes one for what it is: no receipt.
func TestRotationsAreNotFollowed(t *testing.T) {
	run(t, nil, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		n.current().push(successor(t, rotation.Receipt, 1, n.key, newKey(t)))
		time.Sleep(time.Second)
		if got, want := fmt.Sprint(m.findings(0)), "[ward.link.connected incident link.receipt-invalid]"; got != want {
			t.Errorf("recorded %s, want %s", got, want)
		}
	})
}

// A device that accepts more keys than a status can name names none.
func TestManyKeysAreNotNamed(t *testing.T) {
	run(t, func(c *uplink.Config) {
		publics := []crypto.PublicKey{}
		for range presence.MaxKeys/2 + 1 {
			publics = append(publics, newKey(t).Public())
		}
		keys, err := dsse.NewKeyring(publics...)
		if err != nil {
			t.Fatal(err)
		}
		c.Receipts = func() *dsse.Keyring { return keys }
		c.Challenges = c.Receipts
	}, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		if got := fmt.Sprint(n.keys()); got != "[none]" {
			t.Errorf("named %s", got)
		}
	})
}
