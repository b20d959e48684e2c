package ima

import (
	"fmt"

	"ward/internal/format/pcr"
)

// Replay computes the registers that a list's entries give, in constant memory.
type Replay struct {
	bank       *pcr.Bank
	ones       pcr.Digest
	scratch    pcr.Digest
	entries    int
	violations int
}

// NewReplay returns a replay for one bank, at the registers' reset values. It
// fails when this build cannot compute the algorithm.
func NewReplay(a pcr.Algorithm) (*Replay, error) {
	bank, err := pcr.NewBank(a)
	if err != nil {
		return nil, fmt.Errorf("replay IMA list: %w", err)
	}
	return &Replay{bank: bank, ones: pcr.AllOnes(a), scratch: make(pcr.Digest, 0, a.Size())}, nil
}

// Add extends the entry's register by what the kernel extended for it.
func (r *Replay) Add(e Entry) error { return r.add(&e) }

func (r *Replay) add(e *Entry) error {
	extension := r.ones
	switch {
	case e.Violation:
	case r.bank.Algorithm() == hashAlgorithm(e.TemplateHash):
		extension = e.TemplateHash
	case e.Hidden != nil:
		if r.bank.Algorithm() != pcr.SHA256 {
			return fmt.Errorf("replay IMA entry %d: its path is hidden, and with it the hash in bank %s", e.Index, r.bank.Algorithm())
		}
		extension = e.Hidden
	default:
		r.scratch = r.bank.Algorithm().AppendSum(r.scratch[:0], e.Data)
		extension = r.scratch
	}
	if err := r.bank.Extend(e.PCR, extension); err != nil {
		return fmt.Errorf("replay IMA entry %d: %w", e.Index, err)
	}
	r.entries++
	if e.Violation {
		r.violations++
	}
	return nil
}

// Value returns the value of PCR 10 after the entries so far.
func (r *Replay) Value() pcr.Digest { return r.bank.Value(Register) }

// Values returns all registers that entries extended: a policy rule may name
// another one than PCR 10.
func (r *Replay) Values() pcr.Values { return r.bank.Values() }

// Entries returns how many entries were added.
func (r *Replay) Entries() int { return r.entries }

// Violations returns how many of them were violations.
func (r *Replay) Violations() int { return r.violations }

// BootAggregate returns the digest that the first entry of a boot, named
// boot_aggregate, must hold: the hash over PCR 0 to 9 (0 to 7 for SHA-1) of its
// algorithm's bank (ima_crypto.c, ima_calc_boot_aggregate_tfm). Registers that
// are not in values count as zero. It is nil when it cannot be computed.
func BootAggregate(a pcr.Algorithm, values pcr.Values) pcr.Digest {
	h := a.New()
	if h == nil {
		return nil
	}
	last := 9
	if a == pcr.SHA1 {
		last = 7
	}
	for i := 0; i <= last; i++ {
		v, ok := values[i]
		if !ok {
			v = pcr.ResetValue(a, i)
		}
		h.Write(v)
	}
	return h.Sum(nil)
}

// IsBootAggregate tells whether an entry is the one that ties the list to the
// boot.
func (e Entry) IsBootAggregate() bool { return e.Path == "boot_aggregate" && e.Hidden == nil }
