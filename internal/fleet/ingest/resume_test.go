package ingest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

// The fleet is killed between a record's line in the events file and the state
// file that covers it, at every byte: whatever is sent again, the file then holds
// every record once and in order.
//
// Verifies: SR-064
func TestKilledBetweenRecordAndState(t *testing.T) {
	source := event.Source{Tenant: "acme", Device: "pump-1"}
	var records [][]byte
	var prev chain.Hash
	for n := range uint64(6) {
		f := finding.New(finding.IMAUnknownFile, "something ran")
		r, err := event.Encode(event.Event{Type: event.FindingIncident, Time: time.Unix(int64(n), 0), Severity: f.Severity, Finding: &f},
			event.Stamp{Source: source, Epoch: 1, Sequence: n + 1, Boot: "b", Prev: prev})
		if err != nil {
			t.Fatal(err)
		}
		records, prev = append(records, r), chain.Next(r)
	}
	whole := append(bytes.Join(records, []byte("\n")), '\n')
	second := len(records[0]) + len(records[1]) + 2
	for cut := second; cut <= len(whole); cut += 7 {
		dir := t.TempDir()
		open := func() (*store, *book) {
			s, err := openStore(filepath.Join(dir, "state"), filepath.Join(dir, "events"))
			if err != nil {
				t.Fatal(err)
			}
			devices, err := s.load()
			if err != nil {
				t.Fatal(err)
			}
			b := newBook(devices, false)
			if err := s.resume(b, time.Now()); err != nil {
				t.Fatal(err)
			}
			return s, b
		}
		send := func(s *store, b *book, records [][]byte) {
			for _, r := range records {
				_, accepted := b.take(time.Now(), mqtt.Message{Topic: presence.Topic("acme", "pump-1", presence.Event), Payload: r})
				if accepted != nil {
					if err := s.append(accepted); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		s, b := open()
		send(s, b, records[:2])
		if err := s.sync(b.devices); err != nil {
			t.Fatal(err)
		}
		send(s, b, records[2:])
		s.close()
		if err := os.Truncate(filepath.Join(dir, "events"), int64(cut)); err != nil {
			t.Fatal(err)
		}
		s, b = open()
		send(s, b, records) // the device has had no receipt
		if err := s.sync(b.devices); err != nil {
			t.Fatal(err)
		}
		s.close()
		got, err := os.ReadFile(filepath.Join(dir, "events"))
		if err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("cut at byte %d of %d: %v, the file holds\n%s", cut, len(whole), err, got)
		}
		s, b = open()
		s.close()
		if d := b.devices["acme/pump-1"]; d.Sequence != 6 || s.covered != int64(len(whole)) {
			t.Fatalf("then known up to %d, %d bytes covered", d.Sequence, s.covered)
		}
	}
}
