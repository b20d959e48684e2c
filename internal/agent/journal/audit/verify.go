// Package audit verifies a journal: its chain, and what the device's TPM certified of
// it, against what else is known. It reads a folder or a copy and changes nothing;
// the daemon follows the chain of its own journal with it.
package audit

import (
	"fmt"

	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
)

// Verification is what following a journal's chain gave.
type Verification struct {
	Epoch       uint64
	First, Last uint64 // sequences
	Records     int
	Shed        int // of them without content
	Source      string
	Head        chain.Hash
	Problems    []string // places where the chain does not hold, one line each
	Dropped     int      // problems beyond maxProblems
	Torn        string   // an unfinished end; empty when there is none
	Anchoring            // what its checkpoints are worth
}

// maxProblems bounds what is listed: after the first few, more tell nothing.
const maxProblems = 100

// Verify is VerifyAgainst nothing: the chain alone.
func Verify(fs wal.FS, each func(wal.Record) error) (Verification, error) {
	return VerifyAgainst(fs, Against{}, each)
}

// VerifyAgainst reads a whole journal without changing it, and calls each, which
// may be nil, for every record. It checks, in this order:
//
//  1. checksums, and that no durable record is missing (package wal);
//  2. every record with content is an event of this epoch and sequence;
//  3. all events come from one device;
//  4. every record names the hash of the one before it;
//  5. with a key: every checkpoint is certified by it, for a record in this chain,
//     and none is missing between two (package checkpoint);
//  6. with a known place: the journal holds it.
//
// Whether newer records once existed cannot be told from the folder alone.
func VerifyAgainst(fs wal.FS, against Against, each func(wal.Record) error) (Verification, error) {
	anchored := newAnchors(against)
	f := Follower{also: anchored}
	scan, err := wal.Inspect(fs, func(r wal.Record) error {
		f.Add(r)
		if each == nil {
			return nil
		}
		return each(r)
	})
	if err != nil {
		return Verification{}, err
	}
	v := f.v
	v.Head = f.head()
	if v.Records > 0 && v.Epoch != scan.Epoch {
		f.problem("the events are of epoch %d, the segments of epoch %d", v.Epoch, scan.Epoch)
	}
	v.Epoch = scan.Epoch
	for _, d := range scan.Damage {
		f.problem("%s", d)
	}
	v.Problems, v.Dropped = f.v.Problems, f.v.Dropped
	if scan.Torn != nil {
		v.Torn = scan.Torn.String()
	}
	v.Anchoring = anchored.conclude(v)
	return v, nil
}

// also looks at the records beside the chain. It keeps what reads copies out of the
// daemon, which follows the chain of its own journal only.
type also interface {
	take(e event.Decoded, r wal.Record)
	lost(sequence uint64, h chain.Hash) // a record whose content is not there
}

// Follower follows the chain over a log's records. Its zero value follows the chain
// alone.
type Follower struct {
	v     Verification
	chain chain.Verifier
	also  // nil: the chain alone
}

func (f *Follower) problem(format string, args ...any) {
	if len(f.v.Problems) == maxProblems {
		f.v.Dropped++
		return
	}
	f.v.Problems = append(f.v.Problems, fmt.Sprintf(format, args...))
}

func (f *Follower) head() chain.Hash { _, _, h := f.chain.Head(); return h }

// Add takes the next record.
func (f *Follower) Add(r wal.Record) {
	if f.v.Records++; f.v.Records == 1 {
		f.v.First = r.Sequence
	}
	f.v.Last = r.Sequence
	if r.Kind == wal.Stub {
		f.v.Shed++
		h, err := HashOf(r)
		if f.also != nil {
			f.lost(r.Sequence, h)
		}
		if err == nil {
			// Before the first whole record the epoch is not known; the one of
			// that record is taken.
			err = f.chain.AddHash(f.v.Epoch, r.Sequence, h)
		}
		if err != nil {
			f.problem("record %d: %v", r.Sequence, err)
			f.chain = *chain.Resume(f.v.Epoch, r.Sequence, h)
		}
		return
	}
	e, err := event.Parse(r.Payload)
	if err != nil {
		f.problem("record %d: %v", r.Sequence, err)
		if f.also != nil {
			f.lost(r.Sequence, chain.Next(r.Payload))
		}
		f.chain.Accept(chain.Link{Epoch: f.v.Epoch, Sequence: r.Sequence}, r.Payload)
		return
	}
	if f.also != nil {
		f.take(e, r)
	}
	if f.v.Source == "" {
		f.v.Source, f.v.Epoch = e.Source.String(), e.Epoch
		if epoch, last, head := f.chain.Head(); epoch == 0 && last > 0 {
			f.chain = *chain.Resume(e.Epoch, last, head)
		}
	}
	switch {
	case e.Sequence != r.Sequence:
		f.problem("record %d holds event %d", r.Sequence, e.Sequence)
	case e.Source.String() != f.v.Source:
		f.problem("record %d is of %s, the first one of %s", r.Sequence, e.Source, f.v.Source)
	}
	if err := f.chain.Add(e.Link(), r.Payload); err != nil {
		f.problem("record %d: %v", r.Sequence, err)
		f.chain.Accept(chain.Link{Epoch: f.v.Epoch, Sequence: r.Sequence}, r.Payload)
	}
}

// Problems are the places where the chain does not hold, one line each.
func (f *Follower) Problems() []string { return f.v.Problems }

// HashOf is the hash of a record, also of one whose content was shed.
func HashOf(r wal.Record) (chain.Hash, error) {
	if r.Kind == wal.Full {
		return chain.Next(r.Payload), nil
	}
	if len(r.Payload) != chain.Size {
		return chain.Hash{}, fmt.Errorf("read journal: record %d has no hash", r.Sequence)
	}
	return chain.Hash(r.Payload), nil
}
