// Package eventlog parses and replays the event log of the firmware, in its
// SHA-1 and its crypto-agile form. It follows the TCG PC Client Platform
// Firmware Profile 1.06 (section 10, event logging). Only digests are
// trusted: an event's type and data count where the data hash to the digest.
// What a log does against the rules is kept as anomalies beside what could be
// read, so that the reader of a damaged log still sees all that it holds; the
// judgement is the appraisal's.
package eventlog

import (
	"bytes"
	"errors"
	"fmt"

	"ward/internal/format/pcr"
)

// Errors of Parse.
var (
	ErrEmpty  = errors.New("the event log is empty")
	ErrHeader = errors.New("no TCG event log header")
)

// Log is a parsed event log. Digests and data are parts of the bytes given to
// Parse.
type Log struct {
	CryptoAgile     bool            `json:"cryptoAgile"` // else SHA-1 only
	Spec            SpecID          `json:"spec"`        // zero where a SHA-1 log has none
	Algorithms      []AlgorithmSize `json:"algorithms"`  // of the header, in its order
	Events          []Event         `json:"events"`
	Anomalies       []Anomaly       `json:"anomalies"`
	StartupLocality *uint8          `json:"startupLocality,omitempty"` // nil: none is stated, so 0
}

// SpecID is the event with which a log names its form (Firmware Profile,
// 10.4.5.1, TCG_EfiSpecIdEvent).
type SpecID struct {
	Signature  string     `json:"signature,omitempty"` // "Spec ID Event03"
	Major      uint8      `json:"major"`
	Minor      uint8      `json:"minor"`
	Errata     uint8      `json:"errata"`
	UintnSize  uint8      `json:"uintnSize"` // 1: 32 bit, 2: 64 bit
	VendorInfo pcr.Digest `json:"vendorInfo,omitempty"`
}

// AlgorithmSize is a digest algorithm that the header announces.
type AlgorithmSize struct {
	Algorithm pcr.Algorithm `json:"algorithm"`
	Size      int           `json:"size"` // bytes
}

// TaggedDigest is a digest with its algorithm (TPMT_HA).
type TaggedDigest struct {
	Algorithm pcr.Algorithm `json:"algorithm"`
	Digest    pcr.Digest    `json:"digest"`
}

// Event is one event (TCG_PCR_EVENT2, or TCG_PCClientPCREvent in a SHA-1 log).
type Event struct {
	Index   int   // from 0, the header's own event included
	Offset  int64 // in the log, in bytes
	PCR     int   // as a signed 32-bit number: 0xFFFFFFFF, used by events that extend nothing, is -1
	Type    EventType
	Digests []TaggedDigest
	Data    []byte // what the event says about itself; untrusted
}

// Digest returns the event's first digest of an algorithm.
func (e Event) Digest(a pcr.Algorithm) (pcr.Digest, bool) {
	for _, d := range e.Digests {
		if d.Algorithm == a {
			return d.Digest, true
		}
	}
	return nil, false
}

// Rehashes tells whether the event's data hash to its digest of an algorithm.
func (e Event) Rehashes(a pcr.Algorithm) bool {
	d, ok := e.Digest(a)
	return ok && bytes.Equal(a.Sum(e.Data), d)
}

// Vouched tells whether the data hash to every digest that this build can
// compute, and to one at least.
func (e Event) Vouched() bool {
	computed := false
	for _, d := range e.Digests {
		sum := d.Algorithm.Sum(e.Data)
		if sum == nil {
			continue
		}
		if !bytes.Equal(sum, d.Digest) {
			return false
		}
		computed = true
	}
	return computed && e.Extends()
}

// AnomalyKind names a way in which a log breaks the rules.
type AnomalyKind uint8

// The ways. Truncated, TrailingData and Malformed end the log: nothing behind
// them was read.
const (
	Truncated         AnomalyKind = iota + 1 // the log ends inside an event
	TrailingData                             // zero padding is followed by something
	Malformed                                // an event has an impossible field
	PCROutOfRange                            // an event names a register that does not exist; it was not extended
	DigestMissing                            // an event lacks a digest of an announced algorithm
	DigestRepeated                           // an event has two digests of one algorithm; the first counts
	NoActionDigest                           // an EV_NO_ACTION event, never extended, has a digest
	LocalityMisplaced                        // StartupLocality after the first extend of PCR 0, or in another PCR; ignored
	LocalityRepeated                         // a second StartupLocality; ignored
	LocalityUnknown                          // StartupLocality other than 0, 3 or 4; ignored
	SeparatorMissing                         // one of PCR 0 to 7 has no separator
	SeparatorRepeated                        // one of PCR 0 to 7 has a second separator
	SeparatorError                           // a separator that reports an error of the firmware
	SeparatorUnknown                         // an EV_SEPARATOR whose digest is of no separator: another event under this name
	UnknownAlgorithm                         // the header announces an algorithm of which only the size is known
)

var anomalyNames = [...]string{
	Truncated:         "truncated",
	TrailingData:      "trailing-data",
	Malformed:         "malformed",
	PCROutOfRange:     "pcr-out-of-range",
	DigestMissing:     "digest-missing",
	DigestRepeated:    "digest-repeated",
	NoActionDigest:    "no-action-digest",
	LocalityMisplaced: "locality-misplaced",
	LocalityRepeated:  "locality-repeated",
	LocalityUnknown:   "locality-unknown",
	SeparatorMissing:  "separator-missing",
	SeparatorRepeated: "separator-repeated",
	SeparatorError:    "separator-error",
	SeparatorUnknown:  "separator-unknown",
	UnknownAlgorithm:  "unknown-algorithm",
}

func (k AnomalyKind) String() string {
	if k == 0 || int(k) >= len(anomalyNames) {
		return fmt.Sprintf("anomaly-%d", uint8(k))
	}
	return anomalyNames[k]
}

// MarshalText writes the kind's name.
func (k AnomalyKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Informational kinds are honest oddities: worth showing, no finding.
func (k AnomalyKind) Informational() bool { return k == UnknownAlgorithm }

// Anomaly is one place at which a log breaks the rules.
type Anomaly struct {
	Kind   AnomalyKind `json:"kind"`
	Index  int         `json:"index"`  // of the event; -1: the log as a whole
	PCR    int         `json:"pcr"`    // -1: none
	Offset int64       `json:"offset"` // in the log, in bytes
	Detail string      `json:"detail"` // one line
}

// Replay computes the registers that the log's events give in a bank. It fails
// when the log has no digests of the algorithm or this build cannot compute it.
func (l *Log) Replay(a pcr.Algorithm) (*pcr.Bank, error) {
	bank, err := pcr.NewBank(a)
	if err != nil {
		return nil, fmt.Errorf("replay event log: %w", err)
	}
	if !l.has(a) {
		return nil, fmt.Errorf("replay event log: the log has no digests of %s", a)
	}
	if l.StartupLocality != nil {
		if err := bank.StartAtLocality(*l.StartupLocality); err != nil {
			return nil, fmt.Errorf("replay event log: %w", err)
		}
	}
	for _, e := range l.Events {
		d, ok := e.Digest(a)
		if !ok || !e.Extends() {
			continue
		}
		if err := bank.Extend(e.PCR, d); err != nil {
			return nil, fmt.Errorf("replay event log: event %d at offset %d: %w", e.Index, e.Offset, err)
		}
	}
	return bank, nil
}

func (l *Log) has(a pcr.Algorithm) bool {
	for _, s := range l.Algorithms {
		if s.Algorithm == a {
			return true
		}
	}
	return false
}

// Extends tells whether the TPM was extended for the event (Firmware Profile,
// 10.4.1: EV_NO_ACTION never extends).
func (e Event) Extends() bool {
	return e.Type != EVNoAction && e.PCR >= 0 && e.PCR < pcr.Count
}
