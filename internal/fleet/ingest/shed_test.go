package ingest

import (
	"testing"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/trust/presence"
)

func shed(t *testing.T, epoch, sequence uint64, record []byte) mqtt.Message {
	t.Helper()
	b, err := presence.EncodeShed(presence.Shed{Epoch: epoch, Sequence: sequence, Hash: chain.Next(record)})
	if err != nil {
		t.Fatal(err)
	}
	return mqtt.Message{Topic: presence.Topic("acme", "pump-1", presence.ShedEvent), Payload: b}
}

// A run of records without content is one finding, and each of them a line.
//
// Verifies: SR-010
func TestLostContentIsToldOnce(t *testing.T) {
	l := &life{t: t, epoch: 1}
	for range 6 {
		l.add("history")
	}
	for _, ended := range []string{"by a whole record", "by time"} {
		t.Run(ended, func(t *testing.T) {
			b := newBook(nil, false)
			b.take(start, status(t, presence.Status{State: presence.Online, Session: 1}))
			var tell []Received
			take := func(m mqtt.Message) {
				told, _ := b.take(start, m)
				tell = append(tell, told...)
			}
			take(up(l.records[0]))
			for n := uint64(2); n <= 4; n++ {
				take(shed(t, 1, n, l.records[n-1]))
			}
			take(shed(t, 1, 3, l.records[2])) // again
			if ended == "by time" {
				if early := b.lookForSilence(start.Add(lostGrace)); len(early) > 0 {
					t.Errorf("told at once: %s", told(early))
				}
				tell = append(tell, b.lookForSilence(start.Add(lostGrace+time.Second))...)
			}
			take(up(l.records[4]))
			want := "event 1, shed 2, shed 3, shed 4, link.content-lost, event 5"
			if got := told(tell); got != want {
				t.Errorf("told %s, want %s", got, want)
			}
			if d := b.devices["acme/pump-1"]; d.Sequence != 5 {
				t.Errorf("accepted up to %d, want 5", d.Sequence)
			}
		})
	}
}
