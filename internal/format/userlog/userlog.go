// Package userlog parses and replays the log of what user space measured, which
// systemd keeps in /run/log/systemd/tpm2-measure.log: records of the TCG
// Canonical Event Log format 1.0 in its JSON form (section 5, CEL-JSON), set
// apart as RFC 7464 says, with the content type "systemd" as systemd's "TPM2 PCR
// Measurements Made by systemd" describes it. Only digests are trusted: what a
// record says counts where its string hashes to its digests. What a log does
// against the rules is kept as anomalies beside what could be read. The user land
// of the virtual device has no systemd and writes no such log: the fixtures are
// made from the specification.
package userlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"ward/internal/format/pcr"
)

// ErrFormat is the error for input that is no such log at all.
var ErrFormat = errors.New("no sequence of JSON records")

// Log is a parsed log. A log without a byte is one without records: nothing was
// measured, or systemd was not told to.
type Log struct {
	Records   []Record  `json:"records"`
	Anomalies []Anomaly `json:"anomalies"`
}

// Digest is a digest with its algorithm.
type Digest struct {
	Algorithm pcr.Algorithm `json:"algorithm"`
	Digest    pcr.Digest    `json:"digest"`
}

// Record is one measurement. All but the digests is what the log says about
// itself; String counts where Standing is Vouched.
type Record struct {
	Index       int      `json:"index"`  // from 0; a record that cannot be read counts too
	Offset      int64    `json:"offset"` // of the record's separator, in bytes
	PCR         int      `json:"pcr"`    // -1: it is about an NV index
	NVIndex     uint32   `json:"nvIndex,omitempty"`
	Digests     []Digest `json:"digests"`
	ContentType string   `json:"contentType"`

	// Of the content type "systemd".
	EventType string  `json:"eventType,omitempty"` // "phase" and the like; untrusted
	String    *string `json:"string,omitempty"`    // nil: there is none
	BootID    string  `json:"bootId,omitempty"`    // untrusted
	Timestamp uint64  `json:"timestamp,omitempty"` // microseconds of CLOCK_BOOTTIME; untrusted

	// UntrustedContent is the content as it stands in the log.
	UntrustedContent json.RawMessage `json:"untrustedContent,omitempty"`
}

// Digest returns the record's digest of an algorithm.
func (r Record) Digest(a pcr.Algorithm) (pcr.Digest, bool) {
	for _, d := range r.Digests {
		if d.Algorithm == a {
			return d.Digest, true
		}
	}
	return nil, false
}

// Extends tells whether a PCR was extended for the record.
func (r Record) Extends() bool { return r.PCR >= 0 && r.PCR < pcr.Count }

// Standing says what vouches for a record's string.
type Standing uint8

const (
	// Unvouched: there is no string, or it does not hash to the digests.
	Unvouched Standing = iota
	// Keyed: the record says that its digest is an HMAC under a secret that no
	// log holds (the volume key of a disk). It can be compared, not recomputed,
	// and the string is no more trusted than if it were unvouched.
	Keyed
	// Vouched: the string hashes to every digest that this build can compute,
	// and to one at least.
	Vouched
)

var standingNames = [...]string{"unvouched", "keyed", "vouched"}

func (s Standing) String() string { return standingNames[min(int(s), len(standingNames)-1)] }

// MarshalText writes the standing's name.
func (s Standing) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Standing tells whether the record's string is what was measured.
func (r Record) Standing() Standing {
	computed := false
	if r.String != nil {
		for _, d := range r.Digests {
			sum := d.Algorithm.Sum([]byte(*r.String))
			if sum == nil {
				continue
			}
			if computed = bytes.Equal(sum, d.Digest); !computed {
				break
			}
		}
	}
	switch {
	case computed:
		return Vouched
	case keyed[r.EventType]:
		return Keyed
	}
	return Unvouched
}

// AnomalyKind names a way in which a log breaks the rules.
type AnomalyKind uint8

// The ways. What Malformed and Truncated name was not read, and so not extended.
const (
	Truncated        AnomalyKind = iota + 1 // the log ends inside a record
	Malformed                               // a record cannot be read; the next one can
	TooMany                                 // the log holds more than is read of one
	PCROutOfRange                           // a record names a register that does not exist; it was not extended
	DigestMissing                           // a record lacks a digest of an algorithm that others have
	DigestRepeated                          // a record has two digests of one algorithm; the first counts
	DigestMalformed                         // a digest is not one of its algorithm; it does not count
	UnknownAlgorithm                        // a digest's algorithm is unknown; it does not count
	TypeDiffers                             // the string hashes to the digest, and is that of another event type
	BootDiffers                             // a record names another boot than the first
)

var anomalyNames = [...]string{
	Truncated:        "truncated",
	Malformed:        "malformed",
	TooMany:          "too-many",
	PCROutOfRange:    "pcr-out-of-range",
	DigestMissing:    "digest-missing",
	DigestRepeated:   "digest-repeated",
	DigestMalformed:  "digest-malformed",
	UnknownAlgorithm: "unknown-algorithm",
	TypeDiffers:      "type-differs",
	BootDiffers:      "boot-differs",
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
	Index  int         `json:"index"`  // of the record; -1: the log as a whole
	PCR    int         `json:"pcr"`    // -1: none
	Offset int64       `json:"offset"` // in the log, in bytes
	Detail string      `json:"detail"` // one line
}

// Algorithms returns the algorithms of which the log's records have digests, in
// the order in which they first appear.
func (l *Log) Algorithms() []pcr.Algorithm {
	var all []pcr.Algorithm
	for _, r := range l.Records {
		all = addAlgorithms(all, r)
	}
	return all
}

// Extend extends a bank by the log's records, in their order. Given the bank that
// the firmware's log replays to, it goes on in user space where the firmware
// stopped, so that one replay explains PCR 9, 11, 12, 13 and 15 (the kernel's PCR
// 10 has a list of its own). Records without a digest of the bank's algorithm are
// passed over; it fails when the log has records and no such digest at all.
func (l *Log) Extend(bank *pcr.Bank) error {
	a := bank.Algorithm()
	records, extended := 0, 0
	for _, r := range l.Records {
		if !r.Extends() {
			continue
		}
		records++
		d, ok := r.Digest(a)
		if !ok {
			continue
		}
		if err := bank.Extend(r.PCR, d); err != nil {
			return fmt.Errorf("replay user space log: record %d at offset %d: %w", r.Index, r.Offset, err)
		}
		extended++
	}
	if records > 0 && extended == 0 {
		return fmt.Errorf("replay user space log: the log has no digests of %s", a)
	}
	return nil
}
