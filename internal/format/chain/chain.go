// Package chain is the hash chain of journal records: every record names the
// hash of the one before it, so that a record cannot be changed, removed or put
// elsewhere without the next one telling. A record is the exact bytes of an
// event, which carry epoch, sequence and the previous hash; the same bytes go
// over MQTT, so the fleet follows the chain without any other data.
package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Size is the length of a hash in bytes.
const Size = sha256.Size

// domain keeps the hash of a record apart from every other use of SHA-256.
const domain = "ward record v1\n"

// Hash names a record; the zero value stands before the first one.
type Hash [Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes lower-case hex.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != 2*Size {
		return fmt.Errorf("parse chain hash: %d characters, want %d", len(b), 2*Size)
	}
	if _, err := hex.Decode(h[:], b); err != nil {
		return fmt.Errorf("parse chain hash: %w", err)
	}
	return nil
}

// Next is the hash of a record, which the record after it names:
// SHA-256("ward record v1\n" ‖ record).
func Next(record []byte) Hash {
	d := sha256.New()
	d.Write([]byte(domain))
	d.Write(record)
	var h Hash
	d.Sum(h[:0])
	return h
}

// What a verifier can find.
var (
	ErrGap  = errors.New("records are missing")
	ErrFork = errors.New("the record does not follow the one before it")
)

// Link is a record's place in the chain.
type Link struct {
	Epoch    uint64 // the number of the journal's life
	Sequence uint64 // from 1 in every epoch
	Prev     Hash
}

// Verifier follows a chain. Its zero value accepts any first record; one that
// begins an epoch must have sequence 1 and a zero previous hash.
type Verifier struct {
	begun bool
	last  Link
	head  Hash
}

// Resume returns a verifier that goes on behind a record known before.
func Resume(epoch, sequence uint64, head Hash) *Verifier {
	return &Verifier{begun: sequence > 0, last: Link{Epoch: epoch, Sequence: sequence}, head: head}
}

// Head is the hash of the last record that was added, with its place.
func (v *Verifier) Head() (epoch, sequence uint64, head Hash) {
	return v.last.Epoch, v.last.Sequence, v.head
}

// Add takes the next record. On ErrGap and ErrFork the verifier stays where it
// was; Accept goes on behind the record nonetheless.
func (v *Verifier) Add(l Link, record []byte) error {
	switch {
	case l.Sequence == 0:
		return fmt.Errorf("%w: sequence 0 does not exist", ErrFork)
	case l.Sequence == 1 && l.Prev != Hash{}:
		return fmt.Errorf("%w: record 1 of epoch %d names a record before it", ErrFork, l.Epoch)
	case !v.begun, l.Epoch > v.last.Epoch && l.Sequence == 1:
	case l.Epoch != v.last.Epoch:
		return fmt.Errorf("%w: epoch %d, sequence %d after epoch %d, sequence %d", ErrGap, l.Epoch, l.Sequence, v.last.Epoch, v.last.Sequence)
	case l.Sequence > v.last.Sequence+1:
		return fmt.Errorf("%w: sequence %d after %d", ErrGap, l.Sequence, v.last.Sequence)
	case l.Sequence != v.last.Sequence+1:
		return fmt.Errorf("%w: sequence %d after %d", ErrFork, l.Sequence, v.last.Sequence)
	case l.Prev != v.head:
		return fmt.Errorf("%w: sequence %d names %s, the record before it has %s", ErrFork, l.Sequence, l.Prev, v.head)
	}
	v.Accept(l, record)
	return nil
}

// AddHash takes a record of which only the hash is left. Whether it follows the
// one before it cannot be told; the next whole record tells whether the hash is
// the right one.
func (v *Verifier) AddHash(epoch, sequence uint64, h Hash) error {
	if v.begun && (epoch != v.last.Epoch || sequence != v.last.Sequence+1) {
		return fmt.Errorf("%w: epoch %d, sequence %d after epoch %d, sequence %d", ErrGap, epoch, sequence, v.last.Epoch, v.last.Sequence)
	}
	v.begun, v.last, v.head = true, Link{Epoch: epoch, Sequence: sequence}, h
	return nil
}

// Accept goes on behind a record whatever stood before it.
func (v *Verifier) Accept(l Link, record []byte) {
	v.begun, v.last, v.head = true, l, Next(record)
}
