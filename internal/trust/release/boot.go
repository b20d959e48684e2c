package release

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"ward/internal/format/pcr"
	"ward/internal/trust/secureboot"
)

// Boot holds the reference values of one bank of registers, for every firmware
// that the release accepts.
type Boot struct {
	Bank       string             `json:"bank"`                 // "sha256"
	Firmware   []string           `json:"firmware"`             // names of the accepted firmware, each once
	PCRs       map[int]Reference  `json:"pcrs"`                 // by register, 0 to 23
	SecureBoot *secureboot.Policy `json:"secureBoot,omitempty"` // nil: not judged beyond PCR 7
	Composites []Composite        `json:"composites,omitempty"`
}

// Mode says how a register is judged.
type Mode string

const (
	// Exact: the register holds one of the values, and all exact registers
	// together hold those of one firmware.
	Exact Mode = "exact"
	// Events: the log explains the register, and each of its events is one that
	// a rule allows.
	Events Mode = "events"
	// Recorded: the register is reported and not judged, for a reason that is
	// written down.
	Recorded Mode = "recorded"
)

// Reference is what a release says about one register.
type Reference struct {
	Mode   Mode        `json:"mode"`
	Reason string      `json:"reason,omitempty"` // recorded: why it is not judged
	Values []Value     `json:"values,omitempty"` // exact: one for each accepted firmware
	Rules  []EventRule `json:"rules,omitempty"`  // events: without one, only the separator may be there
	// UserEvents is what user space may extend after the firmware, in this
	// order; a device that has not come so far yet has the first of them only.
	UserEvents []ReferenceEvent `json:"userEvents,omitempty"`
}

// Judged tells whether the register is more than reported.
func (r Reference) Judged() bool { return r.Mode == Exact || r.Mode == Events }

// Digests lists the values that an exact register may hold.
func (r Reference) Digests() []pcr.Digest {
	var list []pcr.Digest
	for _, v := range r.Values {
		if !slices.ContainsFunc(list, func(d pcr.Digest) bool { return string(d) == string(v.Digest) }) {
			list = append(list, v.Digest)
		}
	}
	return list
}

// Of returns the value that belongs to a firmware.
func (r Reference) Of(firmware string) (Value, bool) {
	for _, v := range r.Values {
		if v.Firmware == firmware {
			return v, true
		}
	}
	return Value{}, false
}

// Value is what a register holds after the firmware, loaders and kernel, under
// one firmware.
type Value struct {
	Digest   pcr.Digest       `json:"digest"`
	Firmware string           `json:"firmware"`
	Events   []ReferenceEvent `json:"events,omitempty"` // what makes it up, in order
}

// ReferenceEvent is an event that a released boot measures. It explains a
// difference to people; judged are the values alone.
type ReferenceEvent struct {
	Type   string     `json:"type"` // TCG's name, "EV_SEPARATOR"
	Digest pcr.Digest `json:"digest"`
	Text   string     `json:"text,omitempty"`
}

// EventRule allows events of one type. The separator of PCR 0 to 7 needs no
// rule: exactly one is demanded.
type EventRule struct {
	Type    string       `json:"type"`
	Digests []pcr.Digest `json:"digests,omitempty"` // one of these
	// Any allows every digest to which the event's data hash. A type is a label
	// that nothing vouches for, so the data must be what was measured; of images
	// and firmware they are not, and only Digests can allow those.
	Any bool `json:"any,omitempty"`
	// Required: an event of this rule must be there.
	Required bool `json:"required,omitempty"`
}

// Allows tells whether the rule allows an event of a type with a digest;
// vouched says that its data hash to it.
func (r EventRule) Allows(kind string, digest pcr.Digest, vouched bool) bool {
	if r.Type != kind {
		return false
	}
	return r.Any && vouched || slices.ContainsFunc(r.Digests, func(d pcr.Digest) bool { return string(d) == string(digest) })
}

// Composite is the digest over several registers as TPM2_Quote and
// TPM2_PolicyPCR compute it (TPM 2.0 Library, Part 3, 18.4 and 23.7): what a key
// or secret that is bound to this boot state depends on.
type Composite struct {
	Firmware string     `json:"firmware"`
	PCRs     []int      `json:"pcrs"` // ascending
	Digest   pcr.Digest `json:"digest"`
}

// DefaultComposite are the registers of the composite that a release names
// where nobody asks for others: Secure Boot, kernel image, overrides.
var DefaultComposite = []int{7, 11, 12}

// Composite computes the composite of exact registers under a firmware.
func (b Boot) Composite(firmware string, pcrs []int) (Composite, error) {
	h := sha256.New()
	for _, n := range pcrs {
		v, ok := b.PCRs[n].Of(firmware)
		if !ok {
			return Composite{}, fmt.Errorf("compute composite of firmware %q: PCR %d has no exact value", firmware, n)
		}
		h.Write(v.Digest)
	}
	return Composite{Firmware: firmware, PCRs: slices.Clone(pcrs), Digest: h.Sum(nil)}, nil
}

// Compose names the composite of these registers for every firmware.
func (b *Boot) Compose(pcrs []int) error {
	for _, f := range b.Firmware {
		c, err := b.Composite(f, pcrs)
		if err != nil {
			return err
		}
		b.Composites = append(b.Composites, c)
	}
	return nil
}
