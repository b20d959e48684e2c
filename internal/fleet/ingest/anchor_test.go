package ingest

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/anchor/anchortest"
	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

var source = event.Source{Tenant: "acme", Device: "pump-1"}

// anchor takes a checkpoint over the newest record; mutate, which may be nil, changes
// its report.
func (l *life) anchor(soft *anchortest.Soft, c checkpoint.Counter, step bool, mutate func(*checkpoint.Report)) []byte {
	l.t.Helper()
	last := l.records[len(l.records)-1]
	p := checkpoint.Place{Epoch: l.epoch, Sequence: uint64(len(l.records)), Head: chain.Next(last)}
	attest, signature, err := soft.Certify(l.t.Context(), c, checkpoint.Qualifying(source, p, nil))
	if err != nil {
		l.t.Fatal(err)
	}
	value, err := checkpoint.UntrustedValue(attest)
	if err != nil {
		l.t.Fatal(err)
	}
	r := checkpoint.Report{Counter: c, Value: value, Sequence: p.Sequence, Head: p.Head, Attest: attest, Signature: signature}
	if mutate != nil {
		mutate(&r)
	}
	b, err := event.Encode(anchortest.Event(l.t, r), event.Stamp{Source: source, Epoch: l.epoch, Sequence: p.Sequence + 1, Boot: boot, Prev: p.Head})
	if err != nil {
		l.t.Fatal(err)
	}
	l.records = append(l.records, b)
	if step {
		if err := soft.Step(l.t.Context(), c); err != nil {
			l.t.Fatal(err)
		}
	}
	return b
}

// The fleet verifies the checkpoints that devices send with the keys that it has
// registered, and keeps what it knows over a restart.
//
// Verifies: SR-052, SR-053
func TestCheckpointsAtTheFleet(t *testing.T) {
	var soft *anchortest.Soft
	key := func(time.Time, string, string) (*ecdsa.PublicKey, error) { return soft.AK(), nil }
	for name, c := range map[string]struct {
		then func(l *life)
		ak   func(time.Time, string, string) (*ecdsa.PublicKey, error)
		want string
	}{
		"honest": {func(l *life) {
			l.add("more")
			l.anchor(soft, checkpoint.Orderly, true, nil)
			l.anchor(soft, checkpoint.Durable, true, nil)
		}, key, ""},
		"a power cut": {func(l *life) { soft.Cut(); l.anchor(soft, checkpoint.Orderly, true, nil) }, key, "journal.counter-jump"},
		"one missing": {func(l *life) {
			if err := soft.Step(t.Context(), checkpoint.Orderly); err != nil {
				t.Fatal(err)
			}
			l.anchor(soft, checkpoint.Orderly, true, nil)
		}, key, "journal.anchor-gap"},
		"a value twice": {func(l *life) {
			l.anchor(soft, checkpoint.Orderly, false, nil)
			l.anchor(soft, checkpoint.Orderly, true, nil)
		}, key, "journal.anchor-invalid"},
		"another value": {func(l *life) { l.anchor(soft, checkpoint.Orderly, true, func(r *checkpoint.Report) { r.Value++ }) }, key, "journal.anchor-invalid"},
		"another TPM, twice": {func(l *life) {
			other := anchortest.NewSoft(t)
			l.anchor(other, checkpoint.Orderly, true, nil)
			l.anchor(other, checkpoint.Orderly, true, nil)
		}, key, "journal.foreign"},
		"no key is registered": {func(l *life) { l.anchor(soft, checkpoint.Orderly, true, func(r *checkpoint.Report) { r.Value++ }) },
			func(time.Time, string, string) (*ecdsa.PublicKey, error) { return nil, nil }, ""},
		"the register cannot be read": {func(l *life) { l.anchor(soft, checkpoint.Orderly, true, func(r *checkpoint.Report) { r.Value++ }) },
			func(time.Time, string, string) (*ecdsa.PublicKey, error) { return nil, errors.New("no") }, ""},
		"nobody verifies": {func(l *life) { l.anchor(soft, checkpoint.Orderly, true, func(r *checkpoint.Report) { r.Value++ }) }, nil, ""},
	} {
		soft = anchortest.NewSoft(t)
		var log bytes.Buffer
		i := &Ingest{config: Config{AK: c.ak, Log: slog.New(slog.NewTextHandler(&log, nil))}, book: newBook(nil, false)}
		sent := 0
		send := func(l *life) (found []string) {
			for ; sent < len(l.records); sent++ {
				m := up(l.records[sent])
				_, accepted := i.book.take(start, m)
				if accepted == nil {
					t.Fatalf("%s: record %d was not accepted", name, sent+1)
				}
				for _, r := range i.anchored(start, m, accepted) {
					if r.Device != "pump-1" || r.Kind != KindFinding {
						t.Errorf("%s: %+v", name, r)
					}
					found = append(found, string(r.Finding.Code))
				}
			}
			return found
		}
		l := lifeOf(t, 1, 3)
		l.anchor(soft, checkpoint.Durable, true, nil)
		l.anchor(soft, checkpoint.Orderly, true, nil)
		if found := send(l); len(found) != 0 {
			t.Errorf("%s: at the begin %v", name, found)
		}
		// a restart of the fleet
		b, err := json.Marshal(i.book.devices)
		if err != nil {
			t.Fatal(err)
		}
		known := make(map[string]*device)
		if err := json.Unmarshal(b, &known); err != nil {
			t.Fatal(err)
		}
		i.book = newBook(known, false)
		c.then(l)
		if got := strings.Join(send(l), " "); got != c.want {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
		if missing := strings.Contains(log.String(), "no attestation key"); missing != strings.HasPrefix(name, "no key") && !strings.HasPrefix(name, "the register") {
			t.Errorf("%s: log %q", name, log.String())
		}
	}
}

// Records that lost their content may have been checkpoints.
//
// Verifies: SR-053
func TestCheckpointsBesideLostContent(t *testing.T) {
	soft := anchortest.NewSoft(t)
	i := &Ingest{config: Config{AK: func(time.Time, string, string) (*ecdsa.PublicKey, error) { return soft.AK(), nil }, Log: slog.New(slog.DiscardHandler)}, book: newBook(nil, false)}
	l := lifeOf(t, 1, 2)
	l.anchor(soft, checkpoint.Orderly, true, nil)
	l.anchor(soft, checkpoint.Orderly, true, nil) // is lost
	l.anchor(soft, checkpoint.Orderly, true, nil)
	var found []finding.Code
	for n, b := range l.records {
		m := up(b)
		if n == 3 {
			shed, err := presence.EncodeShed(presence.Shed{Epoch: 1, Sequence: uint64(n + 1), Hash: chain.Next(b)})
			if err != nil {
				t.Fatal(err)
			}
			m = mqtt.Message{Topic: presence.Topic("acme", "pump-1", presence.ShedEvent), Payload: shed}
		}
		_, accepted := i.book.take(start, m)
		for _, r := range i.anchored(start, m, accepted) {
			found = append(found, r.Finding.Code)
		}
	}
	if len(found) != 1 || found[0] != finding.JournalCounterJump {
		t.Errorf("found %v", found)
	}
}
