package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"ward/internal/device/statefile"
	"ward/internal/trust/inventory"
)

// File is the name of the state file in Ward's state folder: a line with the boot id,
// and behind it the set.
const File = "inventory"

// Read reads the set that a daemon kept, with the boot that it is of.
func Read(file string) (boot string, set *inventory.Set, err error) {
	b, err := statefile.Read(file)
	if err != nil {
		return "", nil, err
	}
	line, kept, _ := bytes.Cut(b, []byte{'\n'})
	if set, err = inventory.Parse(kept); err != nil {
		return "", nil, fmt.Errorf("read inventory: %w", err)
	}
	return string(line), set, nil
}

// kept is what an earlier run of the daemon kept in this boot, nil: nothing. A file
// that cannot be read counts as none: the measurement list tells most of it again.
func (r *Role) kept() *inventory.Set {
	if r.c.State == "" {
		return nil
	}
	boot, set, err := Read(r.c.State)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.c.Log.Warn("read which components ran", "error", err)
	}
	if boot != r.c.Boot {
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
	b := append([]byte(r.c.Boot+"\n"), r.set.Encode()...)
	r.changed, r.saved = false, time.Now()
	r.mu.Unlock()
	if err := statefile.Write(r.c.State, b); err != nil {
		r.c.Log.Warn("keep which components ran", "error", err)
		r.mu.Lock()
		r.changed = true
		r.mu.Unlock()
	}
}
