package self

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ward/internal/device/statefile"
)

// runningFile is in the state folder while a daemon runs: the id of its boot. One
// of this boot that is there at a start was left by a daemon that did not end in
// order; one of another boot by a power cut or a device that was switched off.
const runningFile = "running"

// Begin notes that a daemon runs, and says whether the one before it in this boot
// was ended without being asked to stop. Where nothing can be kept nothing is known.
func Begin(state, boot string) (killed bool, err error) {
	file := filepath.Join(state, runningFile)
	before, err := statefile.Read(file)
	if err == nil {
		killed = strings.TrimSpace(string(before)) == boot
	}
	if killed {
		return true, nil // it says so already
	}
	if err := statefile.Write(file, []byte(boot+"\n")); err != nil {
		return false, fmt.Errorf("note that the daemon runs: %w", err)
	}
	return false, nil
}

// End notes that the daemon has ended in order.
func End(state string) error {
	if err := os.Remove(filepath.Join(state, runningFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note that the daemon has ended: %w", err)
	}
	return nil
}
