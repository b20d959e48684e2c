// Package profile holds what one firmware measures on one board: a firmware
// profile, learned once from the event log of a golden boot (TCG PC Client
// Platform Firmware Profile, sections 3.3.4 and 10) and kept as versioned JSON.
// From profiles and the artefacts of a new release it computes the registers
// that the release will have, before any device has booted it: Authenticode
// digests in PCR 4, Secure Boot variables and authorities in PCR 7, what the
// kernel's EFI stub and systemd-stub measure in PCR 9, 11 and 12 (UAPI Group,
// Linux TPM PCR registry; systemd-stub(7)). Assemble makes of profiles the boot
// section of a release manifest.
package profile

import (
	"fmt"
	"slices"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/release"
)

// SchemaVersion is the version of the profile that this package reads.
const SchemaVersion = 1

// Profile is what one firmware measures on one board. Its JSON is the file.
type Profile struct {
	Schema   int    `json:"schema"`
	Board    string `json:"board"`             // name of the board profile
	Firmware string `json:"firmware"`          // the name that manifests use
	Version  string `json:"version,omitempty"` // as the firmware states it (EV_S_CRTM_VERSION)
	Bank     string `json:"bank"`              // "sha256"
	Locality uint8  `json:"locality"`          // at which the TPM was started: 0, 3 or 4

	// BootPhase is the place in the log of PCR 4's separator: images that were
	// loaded before are the firmware's, those behind are of the boot option.
	BootPhase int              `json:"bootPhase"`
	PCRs      map[int]Register `json:"pcrs"` // the judged ones
}

// Register is what one register holds and why.
type Register struct {
	Value  pcr.Digest `json:"value"`
	Events []Event    `json:"events,omitempty"` // in order
}

// Event is a measured event.
type Event struct {
	Index  int        `json:"index"` // place in the log of the golden boot; -1: predicted
	Type   string     `json:"type"`  // TCG's name, "EV_SEPARATOR"
	Digest pcr.Digest `json:"digest"`
	Text   string     `json:"text,omitempty"`
	// Data of the events that a prediction makes anew, where they hash to the
	// digest: Secure Boot variables, authorities, actions.
	Data []byte `json:"data,omitempty"`
}

// predicted is the index of events that are in no log.
const predicted = -1

// value computes a register from events.
func (p *Profile) value(n int, events []Event) (pcr.Digest, error) {
	bank, err := pcr.NewBank(pcr.SHA256)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		if err := bank.StartAtLocality(p.Locality); err != nil {
			return nil, err
		}
	}
	for i, e := range events {
		if err := bank.Extend(n, e.Digest); err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
	}
	return bank.Value(n), nil
}

// set gives a register other events; one that was not learned stays so.
func (p *Profile) set(n int, events []Event) error {
	if _, ok := p.PCRs[n]; !ok {
		return nil
	}
	value, err := p.value(n, events)
	if err != nil {
		return fmt.Errorf("PCR %d: %w", n, err)
	}
	p.PCRs[n] = Register{Value: value, Events: events}
	return nil
}

// references are a register's events as a manifest has them.
func references(events []Event) []release.ReferenceEvent {
	var list []release.ReferenceEvent
	for _, e := range events {
		list = append(list, release.ReferenceEvent{Type: e.Type, Digest: e.Digest, Text: e.Text})
	}
	return list
}

// event makes the event that data cause where the digest is theirs.
func event(n int, kind eventlog.EventType, data []byte, describe func(eventlog.Event) string) Event {
	digest := pcr.SHA256.Sum(data)
	e := eventlog.Event{PCR: n, Type: kind, Data: data, Digests: []eventlog.TaggedDigest{{Algorithm: pcr.SHA256, Digest: digest}}}
	return Event{Index: predicted, Type: kind.String(), Digest: digest, Text: printable(describe(e)), Data: slices.Clone(data)}
}
