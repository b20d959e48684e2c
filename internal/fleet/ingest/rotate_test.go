package ingest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"ward/internal/agent/fleetkeys"
	"ward/internal/contracttest"
	"ward/internal/device/mqtt"
	"ward/internal/fleet/ingest"
	"ward/internal/fleet/verifier"
	"ward/internal/format/dsse"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
	"ward/internal/trust/rotation"
)

// told is what a device's link records.
type told struct {
	mu     sync.Mutex
	events []event.Event
}

func (n *told) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	return nil
}

// count counts the events of a type, or the incidents of a code.
func (n *told) count(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(n.events), func(e event.Event) bool {
		return e.Type != what && (e.Finding == nil || string(e.Finding.Code) != what)
	}))
}

// incidents are the codes of all findings.
func (n *told) incidents() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, e := range n.events {
		if e.Finding != nil {
			out = append(out, string(e.Finding.Code))
		}
	}
	return out
}

// world is a broker, a device with its keys in a folder, and the keys of a fleet.
type world struct {
	t          testing.TB
	pki        *pki
	broker     *mosquitto
	keys       []*ecdsa.PrivateKey // receipt keys in their order
	questions  []*ecdsa.PrivateKey // challenge keys
	store      string
	told       *told
	device     *device
	attester   *paper
	stopDevice func()
}

func newWorld(t testing.TB) *world {
	p := newPKI(t)
	w := &world{t: t, pki: p, broker: startMosquitto(t, p), store: filepath.Join(t.TempDir(), fleetkeys.File), told: &told{}}
	for range 3 {
		for _, list := range []*[]*ecdsa.PrivateKey{&w.keys, &w.questions} {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			*list = append(*list, key)
		}
	}
	w.device = newDevice(t, w.broker.url(), p.client(t, "pump-1"), nil)
	w.attester = &paper{t: t, device: appraisaltest.Booted(t, appraisaltest.Log(appraisaltest.Events()...))}
	return w
}

// start starts the device as a release with these anchors does.
func (w *world) start(receipts, challenges int) {
	keys := fleetkeys.Open(w.store, keyring(w.t, w.keys[receipts]), keyring(w.t, w.questions[challenges]), slog.New(slog.DiscardHandler))
	c := &w.device.config
	c.Receipts, c.Challenges, c.Rotations, c.Attester, c.Recorder = keys.Receipts, keys.Challenges, keys, w.attester, w.told
	w.stopDevice = w.device.run()
}

// listen starts the fleet with receipt and challenge keys of these places, and the
// rotations that lead there.
func (w *world) listen(receipts, challenges int) *fleet {
	w.t.Helper()
	v, err := verifier.New(verifier.Config{ChallengeKey: w.questions[challenges], Keys: registry(w.t, w.attester.device)})
	if err != nil {
		w.t.Fatal(err)
	}
	c := ingest.Config{
		Broker: w.broker.url(), TLS: w.pki.client(w.t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: w.keys[receipts], Verifier: v,
		StateFile: w.pki.file("state"),
	}
	for n := range receipts {
		if err := c.Rotations.Receipt.Add(rotation.Receipt, w.rotation(rotation.Receipt, n+1)); err != nil {
			w.t.Fatal(err)
		}
	}
	for n := range challenges {
		if err := c.Rotations.Challenge.Add(rotation.Challenge, w.rotation(rotation.Challenge, n+1)); err != nil {
			w.t.Fatal(err)
		}
	}
	return startFleet(w.t, c)
}

// rotation is the one with this serial number.
func (w *world) rotation(use rotation.Use, serial int) []byte {
	list := w.keys
	if use == rotation.Challenge {
		list = w.questions
	}
	return w.sign(use, serial, list[serial-1], list[serial])
}

func (w *world) sign(use rotation.Use, serial int, from, to crypto.Signer) []byte {
	w.t.Helper()
	b, err := rotation.Sign(use, serial, from, to.Public(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// confirmed waits until n more records have their receipt.
func (w *world) confirmed(n int) {
	w.t.Helper()
	w.device.add(n)
	w.device.mu.Lock()
	all := uint64(len(w.device.records))
	w.device.mu.Unlock()
	until(w.t, fmt.Sprintf("record %d is confirmed", all), func() bool { return w.device.Acknowledged() == all })
}

// thief can write to the device's topics.
func (w *world) thief() func(kind presence.Kind, b []byte) {
	conn, err := mqtt.Connect(w.t.Context(), mqtt.Options{Broker: w.broker.url(), ClientID: "thief", TLS: w.pki.client(w.t, "wardfleet")})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(conn.Close)
	return func(kind presence.Kind, b []byte) {
		if err := conn.Publish(w.t.Context(), presence.Topic("acme", "pump-1", kind), false, b); err != nil {
			w.t.Fatal(err)
		}
	}
}

func keyring(t testing.TB, keys ...crypto.Signer) *dsse.Keyring {
	t.Helper()
	var publics []crypto.PublicKey
	for _, k := range keys {
		publics = append(publics, k.Public())
	}
	r, err := dsse.NewKeyring(publics...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) asked() int {
	w.attester.mu.Lock()
	defer w.attester.mu.Unlock()
	return len(w.attester.asked)
}

// Both keys are rotated while the device stays connected: events are freed and
// questions answered as before, nothing is found, and what the old key signs frees
// nothing. Nothing but rotations, receipts and questions came down.
//
// Verifies: SR-068, SR-069
func TestRotateWhileRunning(t *testing.T) {
	w := newWorld(t)
	sub := w.broker.subscribe(t)
	f := w.listen(0, 0)
	w.start(0, 0)
	w.confirmed(20)
	until(t, "a question is answered", func() bool { return w.asked() == 1 })
	f.stop()

	f = w.listen(1, 1)
	until(t, "both keys are rotated", func() bool { return w.told.count(event.LinkKeyRotated) == 2 })
	w.confirmed(20)
	if got := w.told.incidents(); len(got) != 0 {
		t.Errorf("the device found %v", got)
	}
	if got := f.received(ingest.KindFinding); slices.ContainsFunc(got, func(r ingest.Received) bool { return r.Finding.Code == finding.LinkKeyUnknown }) {
		t.Errorf("the fleet found %v", f.codes())
	}
	until(t, "the device names its new keys", func() bool {
		s := f.received(ingest.KindStatus)
		ids := keyring(t, w.keys[1], w.questions[1]).IDs()
		return slices.Equal(s[len(s)-1].Status.Keys, []string{rotation.Hint(ids[0]), rotation.Hint(ids[1])})
	})
	f.stop()

	// The old key's receipt for an event that no fleet holds.
	w.device.add(1)
	w.device.mu.Lock()
	last := w.device.records[len(w.device.records)-1]
	w.device.mu.Unlock()
	envelope, err := receipt.Sign(receipt.Receipt{Tenant: "acme", Device: "pump-1", Epoch: 1, Sequence: last.Sequence, Head: last.Hash, Time: time.Now()}, w.keys[0])
	if err != nil {
		t.Fatal(err)
	}
	w.thief()(presence.Receipt, envelope)
	until(t, "the old key's receipt is refused", func() bool { return w.told.count(string(finding.LinkReceiptInvalid)) == 1 })
	if got := w.device.Acknowledged(); got != last.Sequence-1 {
		t.Errorf("record %d was freed by the old key", got)
	}
	checkRotationsOnWire(t, sub.lines())
	checkKeyEvents(t, w)
}

func checkRotationsOnWire(t *testing.T, lines []string) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("../../../docs/schema/key-rotation.v1.schema.json#/$defs/envelope")
	if err != nil {
		t.Fatal(err)
	}
	rotations := make(map[string]int)
	for _, l := range lines {
		topic, payload, _ := strings.Cut(l, " ")
		if !rotation.IsRotation([]byte(payload)) {
			continue
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(payload))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v", payload, err)
		}
		rotations[topic]++
	}
	// One may come twice: between the two the device says what it lacks.
	if rotations["ward/v1/acme/pump-1/down/receipt"] == 0 || rotations["ward/v1/acme/pump-1/down/challenge"] == 0 || len(rotations) != 2 {
		t.Errorf("rotations on the wire: %v", rotations)
	}
}

// checkKeyEvents looks at what the device says of its new keys.
func checkKeyEvents(t *testing.T, w *world) {
	t.Helper()
	w.told.mu.Lock()
	defer w.told.mu.Unlock()
	uses := make(map[string]bool)
	for _, e := range w.told.events {
		if e.Type != event.LinkKeyRotated {
			continue
		}
		var r struct {
			Use, From, To string
			Serial        int
		}
		if err := json.Unmarshal(e.Report, &r); err != nil {
			t.Fatal(err)
		}
		list := map[string][]*ecdsa.PrivateKey{"receipt": w.keys, "challenge": w.questions}[r.Use]
		from, _ := dsse.KeyID(list[0].Public())
		to, _ := dsse.KeyID(list[1].Public())
		if r.From != from || r.To != to || r.Serial != 1 || e.Severity != finding.Info || e.Subject != r.Use {
			t.Errorf("reported %s", e.Report)
		}
		uses[r.Use] = true
	}
	if len(uses) != 2 {
		t.Errorf("reported %v", uses)
	}
}

// A device that was away during two rotations of both keys follows them at its
// birth, before its first receipt, without a finding. So does one whose state was
// lost, and one whose release holds the middle keys; one that was started anew has
// them already.
//
// Verifies: SR-068, SR-069
func TestCatchUp(t *testing.T) {
	for _, c := range []struct {
		name     string
		anchors  int
		between  func(t *testing.T, w *world)
		followed int // rotations in all
	}{
		{"away", 0, func(*testing.T, *world) {}, 4},
		{"started anew", 0, func(t *testing.T, w *world) {
			w.start(0, 0)
			w.confirmed(3)
			w.stopDevice()
		}, 4},
		{"its state was lost", 0, func(t *testing.T, w *world) {
			w.start(0, 0)
			w.confirmed(3)
			w.stopDevice()
			if err := os.Remove(w.store); err != nil {
				t.Fatal(err)
			}
		}, 8},
		{"its state was damaged", 0, func(t *testing.T, w *world) {
			w.start(0, 0)
			w.confirmed(3)
			w.stopDevice()
			if err := os.Truncate(w.store, 100); err != nil {
				t.Fatal(err)
			}
		}, 8},
		{"its release holds the middle keys", 1, func(*testing.T, *world) {}, 2},
		{"its release holds the newest keys", 2, func(*testing.T, *world) {}, 0},
		{"it was rotated, and its new release holds the newest keys", 2, func(t *testing.T, w *world) {
			w.start(0, 0)
			w.confirmed(3)
			w.stopDevice()
		}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			f := w.listen(2, 2)
			c.between(t, w)
			asked := w.asked()
			w.start(c.anchors, c.anchors)
			w.confirmed(5)
			if asked == 0 {
				until(t, "a question is answered", func() bool { return w.asked() == 1 })
			}
			if got := w.told.count(event.LinkKeyRotated); got != c.followed {
				t.Errorf("%d rotations were followed, want %d", got, c.followed)
			}
			if got := w.told.incidents(); len(got) != 0 {
				t.Errorf("the device found %v", got)
			}
			if got := f.received(ingest.KindFinding); slices.ContainsFunc(got, func(r ingest.Received) bool { return r.Finding.Code == finding.LinkKeyUnknown }) {
				t.Error("the fleet says that the device does not know its key")
			}
		})
	}
}

// A thief of the old key who comes after the rotation gets nothing but a finding;
// one who comes before it takes the device's keys over, which the fleet sees, and a
// release with the new key mends.
//
// Verifies: SR-068, SR-069
func TestStolenKey(t *testing.T) {
	w := newWorld(t)
	stolen, own := w.keys[0], w.questions[2] // any key of the thief's
	f := w.listen(1, 0)
	w.start(0, 0)
	w.confirmed(3)
	send := w.thief()
	for _, b := range [][]byte{
		w.sign(rotation.Receipt, 1, stolen, own), w.sign(rotation.Receipt, 2, stolen, own),
		w.sign(rotation.Receipt, 2, own, stolen), w.sign(rotation.Challenge, 1, stolen, own), []byte(`{"payloadType":"` + rotation.PayloadType + `","payload":"e30=","signatures":[]}`),
	} {
		send(presence.Receipt, b)
	}
	send(presence.Receipt, w.rotation(rotation.Receipt, 1)) // the fleet's own, replayed
	until(t, "a finding", func() bool { return w.told.count(string(finding.LinkRotationRefused)) > 0 })
	w.confirmed(3)
	if got := w.told.incidents(); !slices.Equal(got, []string{string(finding.LinkRotationRefused)}) || w.told.count(event.LinkKeyRotated) != 1 {
		t.Errorf("found %v, which is one incident a minute; %d rotations", got, w.told.count(event.LinkKeyRotated))
	}
	f.stop()
	w.stopDevice()

	// The thief is there before the fleet: the state is as new.
	if err := os.Remove(w.store); err != nil {
		t.Fatal(err)
	}
	w.start(0, 0)
	until(t, "the device is there", func() bool { return w.device.link.Status().State == "connected" })
	send(presence.Receipt, w.sign(rotation.Receipt, 1, stolen, own))
	until(t, "the device follows the thief", func() bool { return w.told.count(event.LinkKeyRotated) == 2 })
	f = w.listen(1, 0)
	until(t, "the fleet sees it", func() bool { return slices.Contains(f.codes(), finding.LinkKeyUnknown) })
	w.stopDevice()
	w.device.add(1)
	before := w.device.Acknowledged()

	// The remedy: a release whose anchors hold the new key and not the old one.
	w.start(1, 0)
	until(t, "the device's events are freed again", func() bool { return w.device.Acknowledged() == before+1 })
	until(t, "the fleet sees that, too", func() bool {
		return slices.ContainsFunc(f.received(ingest.KindFinding), func(r ingest.Received) bool { return r.Finding.Code == finding.LinkKeyUnknown && r.Cleared })
	})
}

// Where keys were rotated, no receipt goes to a device before its status was seen:
// it would not know the key.
//
// Verifies: SR-069
func TestNoReceiptBeforeTheRotation(t *testing.T) {
	w := newWorld(t)
	f := w.listen(1, 0)
	pump, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: w.broker.url(), ClientID: "pump-1", TLS: w.pki.client(t, "pump-1")})
	if err != nil {
		t.Fatal(err)
	}
	defer pump.Close()
	if err := pump.Subscribe(t.Context(), presence.Topic("acme", "pump-1", presence.Receipt)); err != nil {
		t.Fatal(err)
	}
	other, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: w.broker.url(), ClientID: "pump-2", TLS: w.pki.client(t, "pump-2")})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	publish := func(conn *mqtt.Client, device string, k presence.Kind, b []byte) {
		if err := conn.Publish(t.Context(), presence.Topic("acme", device, k), false, b); err != nil {
			t.Fatal(err)
		}
	}
	born := func(conn *mqtt.Client, device string) {
		now := time.Now()
		birth, err := presence.Encode(presence.Status{State: presence.Online, Tenant: "acme", Device: device, Boot: boot, Session: 4, Epoch: 1, WorryAfterSeconds: 900, Time: &now})
		if err != nil {
			t.Fatal(err)
		}
		publish(conn, device, presence.State, birth)
	}
	publish(pump, "pump-1", presence.Event, record(t, "pump-1", 1, 1, [32]byte{}, "x").Bytes)
	until(t, "the event is told", func() bool { return len(f.received(ingest.KindEvent)) == 1 })
	born(other, "pump-2") // when this one has its receipt, the first one would have its own
	publish(other, "pump-2", presence.Event, record(t, "pump-2", 1, 1, [32]byte{}, "x").Bytes)
	until(t, "a receipt", func() bool { return len(f.received(ingest.KindReceipt)) > 0 })
	born(pump, "pump-1")
	var got []string
	for len(got) < 2 {
		select {
		case m := <-pump.Messages():
			e, err := dsse.Parse(m.Payload)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.UntrustedPayloadType)
		case <-time.After(20 * time.Second):
			t.Fatalf("not within 20 s: two messages; got %v", got)
		}
	}
	if !slices.Equal(got, []string{rotation.PayloadType, receipt.PayloadType}) {
		t.Errorf("came down: %v", got)
	}
}

// What no device would follow ends the command before it connects.
func TestRotationFiles(t *testing.T) {
	w := &world{t: t}
	for range 3 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.keys = append(w.keys, key)
	}
	w.questions = w.keys
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first, second := file("1", w.rotation(rotation.Receipt, 1)), file("2", w.rotation(rotation.Receipt, 2))
	question := file("3", w.rotation(rotation.Challenge, 1))
	r, err := ingest.LoadRotations([]string{first, question, second})
	if err != nil || r.Receipt.Len() != 2 || r.Challenge.Len() != 1 {
		t.Fatalf("%d and %d rotations: %v", r.Receipt.Len(), r.Challenge.Len(), err)
	}
	p := newPKI(t)
	for n, ok := range []bool{false, false, true} {
		_, err := ingest.New(ingest.Config{Broker: "tls://127.0.0.1:1", TLS: p.client(t, "wardfleet"), ClientID: "wardfleet", ReceiptKey: w.keys[n], Rotations: r})
		if (err == nil) != ok {
			t.Errorf("receipts signed with key %d: %v", n, err)
		}
	}
	for name, paths := range map[string][]string{
		"twice": {first, first}, "not there": {filepath.Join(dir, "none")}, "a folder": {dir},
		"too long": {file("4", bytes.Repeat([]byte(" "), 1<<20))}, "a receipt's": {file("5", []byte(`{"payloadType":"x","payload":"e30=","signatures":[]}`))},
	} {
		if _, err := ingest.LoadRotations(paths); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}
