package ingest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

const boot = "2a1b3c4d-0000-4000-8000-000000000001"

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// life is a device's chain: record n of an epoch, made by text.
type life struct {
	t       testing.TB
	epoch   uint64
	records [][]byte
}

func (l *life) add(text string) []byte {
	l.t.Helper()
	var prev chain.Hash
	if n := len(l.records); n > 0 {
		prev = chain.Next(l.records[n-1])
	}
	f := finding.New(finding.IMAUnknownFile, text)
	b, err := event.Encode(
		event.Event{Type: event.FindingIncident, Time: start, Severity: f.Severity, Finding: &f},
		event.Stamp{Source: event.Source{Tenant: "acme", Device: "pump-1"}, Epoch: l.epoch, Sequence: uint64(len(l.records)) + 1, Boot: boot, Prev: prev})
	if err != nil {
		l.t.Fatal(err)
	}
	l.records = append(l.records, b)
	return b
}

func lifeOf(t testing.TB, epoch uint64, n int) *life {
	l := &life{t: t, epoch: epoch}
	for i := range n {
		l.add(fmt.Sprintf("record %d of epoch %d", i+1, epoch))
	}
	return l
}

func up(payload []byte) mqtt.Message {
	return mqtt.Message{Topic: presence.Topic("acme", "pump-1", presence.Event), Payload: payload}
}

func status(t testing.TB, s presence.Status) mqtt.Message {
	t.Helper()
	s.Tenant, s.Boot, s.Epoch = "acme", boot, 1
	if s.Device == "" {
		s.Device = "pump-1"
	}
	if s.State == presence.Online {
		s.WorryAfterSeconds = 60
	}
	b, err := presence.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return mqtt.Message{Topic: presence.Topic("acme", "pump-1", presence.State), Payload: b}
}

// told writes what was told in short: "event 3", "event 5 held", a finding's
// code, "status online".
func told(tell []Received) string {
	var out []string
	for _, r := range tell {
		switch {
		case r.Kind == KindFinding:
			out = append(out, string(r.Finding.Code))
		case r.Kind == KindStatus:
			out = append(out, "status "+r.Status.State)
		case r.Kind == KindShed:
			out = append(out, fmt.Sprintf("shed %d", r.Sequence))
		case r.Held:
			out = append(out, fmt.Sprintf("event %d held", r.Event.Sequence))
		default:
			out = append(out, fmt.Sprintf("event %d", r.Event.Sequence))
		}
	}
	return strings.Join(out, ", ")
}

// Verifies: SR-022
func TestChain(t *testing.T) {
	a, b := lifeOf(t, 1, 9), lifeOf(t, 2, 3)
	other := &life{t: t, epoch: 1}
	for range 9 {
		other.add("another history")
	}
	type step struct {
		payload  []byte
		want     string
		sequence uint64 // that a receipt would cover
	}
	for name, steps := range map[string][]step{
		"in order": {{a.records[0], "event 1", 1}, {a.records[1], "event 2", 2}},
		"repeated": {{a.records[0], "event 1", 1}, {a.records[0], "", 1}, {a.records[1], "event 2", 2}, {a.records[0], "", 2}},
		"gap that is mended": {
			{a.records[0], "event 1", 1}, {a.records[3], "event 4 held, link.sequence-gap", 1}, {a.records[4], "event 5 held", 1},
			{a.records[3], "", 1}, {a.records[1], "event 2", 2}, {a.records[2], "event 3", 3}, {a.records[3], "", 4}, {a.records[4], "", 5},
			{a.records[5], "event 6", 6}, {a.records[8], "event 9 held, link.sequence-gap", 6},
		},
		"fork":                            {{a.records[0], "event 1", 1}, {other.records[1], "event 2 held, link.sequence-gap", 1}, {other.records[1], "", 1}, {a.records[1], "event 2", 2}},
		"repeated with other content":     {{a.records[0], "event 1", 1}, {other.records[0], "link.sequence-gap", 1}},
		"first seen in its middle":        {{a.records[4], "event 5 held, link.sequence-gap", 0}, {a.records[5], "event 6 held", 0}, {a.records[4], "", 0}},
		"journal begun anew":              {{a.records[0], "event 1", 1}, {b.records[0], "event 1, link.sequence-gap", 1}, {b.records[1], "event 2", 2}, {a.records[1], "event 2 held, link.sequence-gap", 2}},
		"begun anew, its first one lost":  {{a.records[0], "event 1", 1}, {b.records[1], "event 2 held, link.sequence-gap", 1}, {b.records[0], "event 1, link.sequence-gap", 1}, {b.records[1], "", 2}},
		"not JSON":                        {{[]byte("hello"), "link.message-invalid", 0}},
		"cut short":                       {{a.records[0][:100], "link.message-invalid", 0}},
		"over the bound":                  {{append([]byte(strings.Repeat(" ", event.MaxSize)), a.records[0]...), "link.message-invalid", 0}},
		"with a blank before it":          {{append([]byte(" "), a.records[0]...), "event 1", 1}, {a.records[1], "event 2 held, link.sequence-gap", 1}},
		"another device's event":          {{[]byte(strings.ReplaceAll(string(a.records[0]), "pump-1", "pump-2")), "link.message-invalid", 0}},
		"a severity that there is not":    {{[]byte(strings.Replace(string(a.records[0]), `"severity":"high"`, `"severity":"fatal"`, 1)), "link.message-invalid", 0}},
		"a key of a later version, first": {{[]byte(strings.Replace(string(a.records[0]), `{`, `{"later":1,`, 1)), "event 1", 1}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newBook(nil, false)
			for i, s := range steps {
				tell, accepted := k.take(start, up(s.payload))
				d := k.devices["acme/pump-1"]
				if got := told(tell); got != s.want || d.Sequence != s.sequence {
					t.Errorf("step %d: told %q, want %q; at record %d, want %d", i, got, s.want, d.Sequence, s.sequence)
				}
				if accepted != nil && d.Head != chain.Next(s.payload) {
					t.Errorf("step %d: head %s", i, d.Head)
				}
			}
		})
	}
}

// A journal in memory begins at record 1 beside the one on the disk, which goes on
// later; each has its own receipt, and nothing is an alarm.
//
// Verifies: SR-057
func TestAJournalInMemoryIsALineOfItsOwn(t *testing.T) {
	const one, two = event.FirstVolatile + 7_000_000_000, event.FirstVolatile + 5
	disk, first, second := lifeOf(t, 3, 9), lifeOf(t, one, 9), lifeOf(t, two, 9)
	fork := &life{t: t, epoch: one}
	for range 9 {
		fork.add("another history")
	}
	k := newBook(nil, true)
	for i, s := range []struct {
		payload []byte
		want    string
		lines   string
	}{
		{disk.records[4], "event 5", "5"},
		{first.records[0], "event 1", "5 1"},
		{first.records[1], "event 2", "5 2"},
		{first.records[1], "", "5 2"},
		{disk.records[5], "event 6", "6 2"},
		{second.records[0], "event 1", "6 2 1"}, // a start with the disk still broken
		{first.records[2], "event 3", "6 3 1"},  // late
		{second.records[1], "event 2", "6 3 2"},
		{second.records[3], "event 4 held, link.sequence-gap", "6 3 2"}, // within a line a gap is a gap
		{second.records[2], "event 3", "6 3 3"},
		{second.records[3], "", "6 3 4"},
		{fork.records[3], "event 4 held, link.sequence-gap", "6 3 4"},
		{disk.records[6], "event 7", "7 3 4"},
	} {
		tell, _ := k.take(start, up(s.payload))
		d := k.devices["acme/pump-1"]
		var lines []string
		for _, l := range d.strands() {
			lines = append(lines, fmt.Sprint(l.Sequence))
		}
		if got := strings.Join(lines, " "); told(tell) != s.want || got != s.lines {
			t.Errorf("step %d: told %q, want %q; at records %s, want %s", i, told(tell), s.want, got, s.lines)
		}
	}
	for _, known := range []*life{disk, first, second} {
		if h, ok := k.hash("acme", "pump-1", known.epoch, 3); known != disk && (!ok || h != chain.Next(known.records[2])) {
			t.Errorf("record 3 of epoch %d: %s, %v", known.epoch, h, ok)
		}
	}
	if _, ok := k.hash("acme", "pump-1", event.FirstVolatile+1, 1); ok {
		t.Error("a record of a line that there is not is known")
	}

	// The birth tells which line the device is in: that one is answered.
	for _, l := range k.devices["acme/pump-1"].strands() {
		l.due = false
	}
	b, err := presence.Encode(presence.Status{State: presence.Online, Tenant: "acme", Device: "pump-1", Boot: boot, Epoch: one, Session: 4, WorryAfterSeconds: 60})
	if err != nil {
		t.Fatal(err)
	}
	k.take(start, mqtt.Message{Topic: presence.Topic("acme", "pump-1", presence.State), Payload: b})
	for _, l := range k.devices["acme/pump-1"].strands() {
		if l.due != (l.Epoch == one) {
			t.Errorf("behind a birth in epoch %d: line %d is due: %v", uint64(one), l.Epoch, l.due)
		}
	}

	// The number of lines is bounded, and the state file keeps them.
	for n := range uint64(9) {
		k.take(start, up(lifeOf(t, event.FirstVolatile+100+n, 1).records[0]))
	}
	text, err := json.Marshal(k.devices["acme/pump-1"])
	if err != nil {
		t.Fatal(err)
	}
	var again device
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if again.Epoch != 3 || again.Sequence != 7 || len(again.Volatile) != maxVolatile || again.Volatile[maxVolatile-1].Epoch != event.FirstVolatile+108 {
		t.Errorf("kept is %s", text)
	}
}

// What was held of an epoch that has ended is not waited for: gaps of the next one
// are told.
//
// Verifies: SR-022 SR-056
func TestAGapBehindAnEpochThatEndedIsTold(t *testing.T) {
	k := newBook(nil, false)
	a, b := lifeOf(t, 1, 5), lifeOf(t, 2, 5)
	for _, s := range []struct {
		payload []byte
		want    string
	}{
		{a.records[0], "event 1"}, {a.records[3], "event 4 held, link.sequence-gap"}, {b.records[0], "event 1, link.sequence-gap"},
		{b.records[2], "event 3 held, link.sequence-gap"}, {b.records[1], "event 2"}, {b.records[2], ""},
	} {
		if tell, _ := k.take(start, up(s.payload)); told(tell) != s.want {
			t.Errorf("told %q, want %q", told(tell), s.want)
		}
	}
}

// Verifies: SR-022
func TestAdopt(t *testing.T) {
	a := lifeOf(t, 3, 9)
	k := newBook(nil, true)
	for i := 4; i < 9; i++ {
		if tell, _ := k.take(start, up(a.records[i])); told(tell) != fmt.Sprintf("event %d", i+1) {
			t.Errorf("record %d: %s", i+1, told(tell))
		}
	}
}

func TestShed(t *testing.T) {
	a := lifeOf(t, 1, 4)
	k := newBook(nil, false)
	k.take(start, up(a.records[0]))
	b, err := presence.EncodeShed(presence.Shed{Epoch: 1, Sequence: 2, Hash: chain.Next(a.records[1])})
	if err != nil {
		t.Fatal(err)
	}
	shed := mqtt.Message{Topic: presence.Topic("acme", "pump-1", presence.ShedEvent), Payload: b}
	for _, s := range []struct {
		m    mqtt.Message
		want string
	}{{shed, "shed 2"}, {shed, ""}, {up(a.records[2]), "link.content-lost, event 3"}, {up(a.records[3]), "event 4"}} {
		if tell, _ := k.take(start, s.m); told(tell) != s.want {
			t.Errorf("told %q, want %q", told(tell), s.want)
		}
	}
	lie, err := presence.EncodeShed(presence.Shed{Epoch: 1, Sequence: 5, Hash: chain.Next([]byte("x"))})
	if err != nil {
		t.Fatal(err)
	}
	shed.Payload = lie
	k.take(start, shed)
	if tell, _ := k.take(start, up(a.add("five"))); told(tell) != "" && !strings.Contains(told(tell), "link.sequence-gap") {
		t.Errorf("a lie about a shed record: %q", told(tell))
	}
	if tell, _ := k.take(start, up(a.add("six"))); !strings.Contains(told(tell), "held") {
		t.Errorf("what follows a lie about a shed record: %q", told(tell))
	}
}

// Verifies: SR-014, SR-022
func TestStatusAndSilence(t *testing.T) {
	k := newBook(nil, false)
	now := start
	a := lifeOf(t, 1, 9)
	step := func(after time.Duration, m mqtt.Message, want string) {
		t.Helper()
		now = now.Add(after)
		if tell, _ := k.take(now, m); told(tell) != want {
			t.Errorf("told %q, want %q", told(tell), want)
		}
	}
	look := func(after time.Duration, want string) {
		t.Helper()
		now = now.Add(after)
		if got := told(k.lookForSilence(now)); got != want {
			t.Errorf("after %s: %q, want %q", now.Sub(start), got, want)
		}
	}
	step(0, status(t, presence.Status{State: presence.Online, Session: 5}), "status online")
	look(59*time.Second, "")
	step(0, up(a.records[0]), "event 1") // counts as a sign of life
	look(59*time.Second, "")
	look(2*time.Second, "link.silence")
	look(time.Hour, "")
	step(0, up(a.records[1]), "event 2")
	look(61*time.Second, "link.silence")
	step(0, status(t, presence.Status{State: presence.Offline, Session: 5}), "status offline")
	look(time.Hour, "")
	step(0, up(a.records[2]), "event 3")
	look(5*time.Second, "")
	look(6*time.Second, "link.silence") // it speaks and was not born
	step(0, up(a.records[3]), "event 4")
	look(time.Hour, "")
	step(0, status(t, presence.Status{State: presence.Lost, Session: 5}), "status lost, link.silence")
	step(0, status(t, presence.Status{State: presence.Online, Session: 4}), "status online, link.message-invalid")
	step(0, status(t, presence.Status{State: presence.Online, Session: 6, Device: "pump-2"}), "link.message-invalid")
	step(0, mqtt.Message{Topic: presence.Topic("acme", "pump-1", presence.State), Payload: []byte("{}")}, "link.message-invalid")
	step(0, mqtt.Message{Topic: "ward/v1/acme/pump-1/up/evidence", Payload: []byte("of a later version")}, "")
	step(0, mqtt.Message{Topic: "something/else"}, "")
}

func TestMemoryIsBounded(t *testing.T) {
	k := newBook(nil, false)
	a := lifeOf(t, 1, 6000)
	for _, r := range a.records[:3000] {
		k.take(start, up(r))
	}
	for _, r := range a.records[3001:] {
		k.take(start, up(r))
	}
	d := k.devices["acme/pump-1"]
	if d.Sequence != 3000 || len(d.recent) > maxRecent || len(d.ahead) > maxAhead {
		t.Errorf("at %d, %d recent, %d ahead", d.Sequence, len(d.recent), len(d.ahead))
	}
}

func FuzzTake(f *testing.F) {
	a := lifeOf(f, 1, 2)
	f.Add("up/event", a.records[0])
	f.Add("up/status", status(f, presence.Status{State: presence.Lost, Session: 1}).Payload)
	f.Add("up/shed", []byte(`{"epoch":1,"sequence":2,"hash":"00"}`))
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		k := newBook(nil, false)
		k.take(start, up(a.records[0]))
		tell, accepted := k.take(start, mqtt.Message{Topic: "ward/v1/acme/pump-1/" + kind, Payload: payload})
		for _, r := range tell {
			if l := r.Line(); strings.ContainsAny(l, "\n\r\x1b") {
				t.Errorf("line %q", l)
			}
			if _, err := r.MarshalJSON(); err != nil {
				t.Errorf("%+v: %v", r, err)
			}
		}
		if d := k.devices["acme/pump-1"]; (accepted != nil) != (d.Sequence != 1 || d.Epoch != 1) {
			t.Errorf("accepted %q, at %d of %d", accepted, d.Sequence, d.Epoch)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	a := lifeOf(b, 1, 1000)
	k := newBook(nil, true)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			k = newBook(nil, true)
		}
		k.take(start, up(a.records[i%1000]))
	}
}
