// Package checkpoint anchors a device's record in its TPM: a checkpoint is an
// event in the record by which the TPM certifies the value of a counter
// (TPM2_NV_Certify, TPM 2.0 Library, Part 3, section 31.16; TPMS_NV_CERTIFY_INFO,
// Part 2, section 10.12.8) with a digest of the record's head as qualifying data.
// The counter is stepped behind it, so a value that has passed is certified once
// for ever. Verify is the only maker of Verified, and History judges checkpoints in
// the order of the record: the same on the device, on a laptop and in the fleet.
package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/trust/event"
	"ward/internal/trust/policy"
)

// Counter names one of the journal's two counters.
type Counter string

// Counters.
const (
	Orderly Counter = "orderly" // the everyday one: no wear, jumps ahead at a power cut
	Durable Counter = "durable" // of each boot's first checkpoint, and one a day
)

// Index is the counter's NV index, by whose Name a certificate is told from one
// for another index; false for a name that is no counter's.
func (c Counter) Index() (policy.Index, bool) {
	return policy.JournalCounter(c == Durable), c == Durable || c == Orderly
}

// Bounds in bytes: a TPMS_ATTEST of an NV certificate with SHA-256 names takes
// 145, a TPMT_SIGNATURE of ECDSA on P-256 72; other names and digests may be of
// SHA-512.
const (
	maxAttest    = 512
	maxSignature = 128
	maxReport    = 4 << 10
)

// domain keeps a checkpoint's qualifying data apart from every other signature of
// the attestation key.
const domain = "ward journal checkpoint v1\n"

// ErrMalformed: the bytes are no checkpoint.
var ErrMalformed = errors.New("not a checkpoint")

// Place is the record that a checkpoint certifies: it and all before it.
type Place struct {
	Epoch    uint64
	Sequence uint64
	Head     chain.Hash // of that record
}

// Report is what a checkpoint event reports (docs/schema/event.v1.schema.json,
// $defs/checkpoint). Sequence and Head name a durable record before the event's own,
// of the same epoch.
type Report struct {
	Counter  Counter    `json:"counter"`
	Value    uint64     `json:"value"`
	Sequence uint64     `json:"sequence"`
	Head     chain.Hash `json:"head"`
	// Evidence ties the first checkpoints of a boot to what was started: the
	// pcrDigest of the quote over the boot registers, SHA-256. Empty on the others.
	Evidence  pcr.Digest `json:"evidence,omitempty"`
	Attest    []byte     `json:"attest"`    // TPMS_ATTEST, the bytes that are signed
	Signature []byte     `json:"signature"` // TPMT_SIGNATURE
}

// Qualifying is the qualifying data of a checkpoint:
// SHA-256("ward journal checkpoint v1\n" ‖ source ‖ 0x00 ‖ epoch ‖ sequence ‖ head ‖
// evidence), numbers of 8 bytes, big-endian; 32 zeros where there is no evidence.
func Qualifying(source event.Source, p Place, evidence pcr.Digest) [32]byte {
	var boot [sha256.Size]byte
	copy(boot[:], evidence)
	b := append([]byte(domain), source.String()...)
	b = binary.BigEndian.AppendUint64(append(b, 0), p.Epoch)
	b = binary.BigEndian.AppendUint64(b, p.Sequence)
	b = append(append(b, p.Head[:]...), boot[:]...)
	return sha256.Sum256(b)
}

// Encode writes a report as the event carries it.
func Encode(r Report) (json.RawMessage, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	return json.Marshal(r)
}

// Parse reads a report. Keys that this version does not know are ignored, as in
// every event. Errors wrap ErrMalformed.
func Parse(b []byte) (Report, error) {
	if len(b) > maxReport {
		return Report{}, fmt.Errorf("parse checkpoint: %w: %d bytes, want at most %d", ErrMalformed, len(b), maxReport)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return Report{}, fmt.Errorf("parse checkpoint: %w: %w", ErrMalformed, err)
	}
	if err := r.check(); err != nil {
		return Report{}, fmt.Errorf("parse checkpoint: %w", err)
	}
	return r, nil
}

func (r Report) check() error {
	_, known := r.Counter.Index()
	switch {
	case !known:
		return fmt.Errorf("%w: counter %.20q, want orderly or durable", ErrMalformed, r.Counter)
	case r.Value == 0 || r.Sequence == 0:
		return fmt.Errorf("%w: value %d, sequence %d: both count from 1", ErrMalformed, r.Value, r.Sequence)
	case r.Head == chain.Hash{}:
		return fmt.Errorf("%w: no head", ErrMalformed)
	case len(r.Evidence) != 0 && len(r.Evidence) != sha256.Size:
		return fmt.Errorf("%w: evidence of %d bytes, want a SHA-256", ErrMalformed, len(r.Evidence))
	case len(r.Attest) == 0 || len(r.Attest) > maxAttest:
		return fmt.Errorf("%w: a statement of %d bytes, want 1 to %d", ErrMalformed, len(r.Attest), maxAttest)
	case len(r.Signature) == 0 || len(r.Signature) > maxSignature:
		return fmt.Errorf("%w: a signature of %d bytes, want 1 to %d", ErrMalformed, len(r.Signature), maxSignature)
	}
	return nil
}
