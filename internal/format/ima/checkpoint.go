package ima

import (
	"fmt"

	"ward/internal/format/pcr"
)

// Checkpoint is a place in a list: how many entries stand before it and which
// PCR 10 they gave. The zero value is the list's begin. Newer kernels can give up
// entries that were handed over, so a list need not begin at its first entry;
// whoever goes on from a checkpoint has to know it from an earlier replay of the
// same boot.
type Checkpoint struct {
	Entries int        `json:"entries"`
	PCR     pcr.Digest `json:"pcr,omitempty"` // of the replay's bank; nil at the begin
}

// ReplayFrom returns a replay that goes on from a checkpoint. It fails when this
// build cannot compute the algorithm, or the checkpoint is of another bank.
func ReplayFrom(a pcr.Algorithm, c Checkpoint) (*Replay, error) {
	r, err := NewReplay(a)
	if err != nil || c.Entries == 0 && len(c.PCR) == 0 {
		return r, err
	}
	if c.Entries < 0 || len(c.PCR) != a.Size() {
		return nil, fmt.Errorf("replay IMA list: a checkpoint after %d entries with a PCR of %d bytes, want %d", c.Entries, len(c.PCR), a.Size())
	}
	if err := r.bank.Resume(Register, c.PCR); err != nil {
		return nil, fmt.Errorf("replay IMA list: %w", err)
	}
	r.entries = c.Entries
	return r, nil
}

// Checkpoint returns the place after the entries so far.
func (r *Replay) Checkpoint() Checkpoint {
	if r.entries == 0 {
		return Checkpoint{}
	}
	return Checkpoint{Entries: r.entries, PCR: r.Value()}
}
