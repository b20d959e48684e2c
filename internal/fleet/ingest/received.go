package ingest

import (
	"encoding/json"
	"fmt"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/verdict"
)

// Kind is what was received.
type Kind string

// Kinds.
const (
	KindEvent   Kind = "event"   // a device's event
	KindStatus  Kind = "status"  // a birth, farewell or last will
	KindFinding Kind = "finding" // what the fleet itself has found
	KindReceipt Kind = "receipt" // a receipt was sent
	KindShed    Kind = "shed"    // a record that lost its content on the device
	KindVerdict Kind = "verdict" // evidence was appraised
)

// Received is one thing that arrived, or that the fleet found about what
// arrived or did not. At is the fleet's clock.
type Received struct {
	At     time.Time
	Kind   Kind
	Topic  string
	Tenant string
	Device string
	// Retained says that the broker had kept the status from before.
	Retained bool
	Event    event.Decoded    // of KindEvent
	Raw      []byte           // of KindEvent: the record, byte for byte
	Status   presence.Status  // of KindStatus
	Finding  *finding.Finding // of KindFinding
	Sequence uint64           // of KindReceipt: what it covers; of KindShed: the record
	Epoch    uint64           // of KindShed
	// Held says that a receipt will not cover the event yet: one before it is
	// missing.
	Held    bool
	Verdict *verdict.Verdict // of KindVerdict
	Cleared bool             // of KindFinding: the condition no longer holds
}

// line is Received as JSON: the event stands in it as it was sent.
type line struct {
	At       time.Time        `json:"receivedAt"`
	Kind     Kind             `json:"kind"`
	Topic    string           `json:"topic,omitempty"`
	Tenant   string           `json:"tenant"`
	Device   string           `json:"device"`
	Retained bool             `json:"retained,omitempty"`
	Event    json.RawMessage  `json:"event,omitempty"`
	Status   *presence.Status `json:"status,omitempty"`
	Finding  *finding.Finding `json:"finding,omitempty"`
	Sequence uint64           `json:"sequence,omitempty"`
	Epoch    uint64           `json:"epoch,omitempty"`
	Held     bool             `json:"held,omitempty"`
	Verdict  *verdict.Verdict `json:"verdict,omitempty"`
	Cleared  bool             `json:"cleared,omitempty"`
}

// MarshalJSON writes one object; an event is in it as it was sent.
func (r Received) MarshalJSON() ([]byte, error) {
	l := line{At: r.At, Kind: r.Kind, Topic: r.Topic, Tenant: r.Tenant, Device: r.Device, Retained: r.Retained,
		Finding: r.Finding, Sequence: r.Sequence, Epoch: r.Epoch, Held: r.Held, Verdict: r.Verdict, Cleared: r.Cleared}
	switch r.Kind {
	case KindEvent:
		l.Event = r.Raw
	case KindStatus:
		l.Status = &r.Status
	}
	return json.Marshal(l)
}

// UnmarshalJSON reads what MarshalJSON wrote. The record's bytes are kept as
// far as JSON keeps them: they are for reading, not for the chain.
func (r *Received) UnmarshalJSON(b []byte) error {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return fmt.Errorf("parse received: %w", err)
	}
	*r = Received{At: l.At, Kind: l.Kind, Topic: l.Topic, Tenant: l.Tenant, Device: l.Device, Retained: l.Retained,
		Finding: l.Finding, Sequence: l.Sequence, Epoch: l.Epoch, Held: l.Held, Raw: l.Event, Verdict: l.Verdict, Cleared: l.Cleared}
	if l.Status != nil {
		r.Status = *l.Status
	}
	if l.Kind == KindEvent {
		var err error
		if r.Event, err = event.Parse(l.Event); err != nil {
			return fmt.Errorf("parse received: %w", err)
		}
	}
	return nil
}
