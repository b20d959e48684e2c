package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"ward/internal/device/statefile"
	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
)

// state is what the journal keeps beside its segments; a journal in memory,
// with no folder, keeps none. It can be lost: the segments tell the epoch, what
// was acknowledged is sent once more, and damage is told once more.
type state struct {
	Epoch        uint64     `json:"epoch"`
	Acknowledged uint64     `json:"acknowledged"`
	Gone         uint64     `json:"gone"`    // up to here records were dropped unacknowledged, for want of space
	Durable      uint64     `json:"durable"` // a record that was durable when this was written
	Head         chain.Hash `json:"head"`    // its hash
	Told         []string   `json:"told"`    // damage that was recorded
	Flash        Flash      `json:"flash"`   // written with the rest, and never for its own sake
	Again        *again     `json:"again,omitempty"`
}

// stateFile lies beside the segments; its name is not a segment's.
const stateFile = "state.json"

// maxTold bounds the damage that is remembered; what is behind it is told at
// each start.
const maxTold = 64

// loadState says whether there was a state file. One that cannot be read as
// such counts as none.
func (j *Journal) loadState() (bool, error) {
	if j.c.Dir == "" {
		return false, nil
	}
	b, err := statefile.Read(filepath.Join(j.c.Dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err = json.Unmarshal(b, &j.state); err == nil && event.Volatile(j.state.Epoch) {
		err = fmt.Errorf("epoch %d, want that of a journal on a disk", j.state.Epoch)
	}
	if err != nil {
		j.c.Log.Warn("the journal's state file cannot be read; it is written anew", "error", err)
		j.state = state{}
		return false, nil
	}
	return true, nil
}

// saveState writes the state where it changed, or always. The caller holds the
// lock or is alone.
func (j *Journal) saveState(always bool) error {
	if j.c.Dir == "" {
		return nil
	}
	if newest := j.log.Durable(); newest > 0 && newest == j.log.Next()-1 {
		j.state.Durable, j.state.Head = newest, j.head
	}
	plain := j.state
	plain.Flash = Flash{}
	b, err := json.Marshal(plain)
	if err != nil {
		return fmt.Errorf("encode the journal's state: %w", err)
	}
	if j.dirty = false; bytes.Equal(b, j.saved) && !always {
		return nil
	}
	if err := j.writeState(); err != nil {
		j.dirty = true
		return err
	}
	j.saved = b
	return nil
}

func (j *Journal) writeState() error {
	b, err := json.Marshal(j.state)
	if err != nil {
		return fmt.Errorf("encode the journal's state: %w", err)
	}
	return statefile.Write(filepath.Join(j.c.Dir, stateFile), append(b, '\n'))
}

// tell returns what of the damage was not recorded before, and remembers it.
func (j *Journal) tell(damage []wal.Damage) []string {
	var fresh []string
	known := make(map[string]bool)
	for _, t := range j.state.Told {
		known[t] = true
	}
	for _, d := range damage {
		if text := d.String(); !known[text] {
			fresh = append(fresh, text)
			if len(j.state.Told) < maxTold {
				j.state.Told, j.dirty = append(j.state.Told, text), true
			}
		}
	}
	return fresh
}
