package inventory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"ward/internal/device/statefile"
	"ward/internal/trust/inventory"
)

// File is the name of the state file in Ward's state folder.
const File = "inventory.json"

// state is the state file.
type state struct {
	Boot    string `json:"boot"`    // the kernel's boot id
	Running []byte `json:"running"` // the set, in base64
}

// Read reads the set that a daemon kept, with the boot that it is of.
func Read(file string) (boot string, set *inventory.Set, err error) {
	b, err := statefile.Read(file)
	if err != nil {
		return "", nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return "", nil, fmt.Errorf("read inventory: %w", err)
	}
	set, err = inventory.Parse(s.Running)
	if err != nil {
		return "", nil, fmt.Errorf("read inventory: %w", err)
	}
	return s.Boot, set, nil
}

// kept is what an earlier run of the daemon kept in this boot, nil: nothing. A file
// that cannot be read counts as none: the measurement list tells most of it again.
func (r *Role) kept() *inventory.Set {
	if r.c.State == "" {
		return nil
	}
	boot, set, err := Read(r.c.State)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.c.Log.Warn("what was known of this boot cannot be read", "error", err)
	}
	if err != nil || boot != r.c.Boot {
		return nil
	}
	return set
}

// save writes the set if it has grown, at most once in a while.
func (r *Role) save(every time.Duration) {
	r.mu.Lock()
	if r.c.State == "" || r.set == nil || !r.changed || !r.saved.IsZero() && time.Since(r.saved) < every {
		r.mu.Unlock()
		return
	}
	r.changed, r.saved = false, time.Now()
	s := state{Boot: r.c.Boot, Running: r.set.Encode()}
	r.mu.Unlock()
	b, err := json.Marshal(s)
	if err == nil {
		err = statefile.Write(r.c.State, append(b, '\n'))
	}
	if err != nil {
		r.c.Log.Warn("keep which components have run", "error", err)
		r.mu.Lock()
		r.changed = true
		r.mu.Unlock()
	}
}
