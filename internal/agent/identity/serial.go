package identity

import (
	"context"
	"strings"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/anchors"
	"ward/internal/trust/finding"
)

// maxSerial bounds the file of the serial number (SMBIOS strings have 64
// characters as a rule).
const maxSerial = 4 << 10

// lookAtSerial compares the hardware's serial number with the one that
// manufacture fixed. A device with another one keeps its identity, so that it can
// say so, and asks for no certificate: it would be enrolled under a foreign name.
func (r *Role) lookAtSerial(ctx context.Context, d idstore.Device) {
	state := "not checked: no file is configured"
	if r.config.SerialFile != "" {
		b, err := anchors.Read(r.config.SerialFile, maxSerial)
		found := strings.TrimSpace(string(b))
		switch {
		case err != nil:
			state = "not checked: " + oneLine(err)
		case found == "":
			state = "not checked: " + r.config.SerialFile + " is empty"
		case found == d.Serial:
			state = "matches"
		default:
			r.board.raise(ctx, aboutSerial, finding.IdentityMismatch,
				"the hardware's serial number is %.64q and the state partition was made for %s: it comes from another device, or the main board was replaced", found, d.Serial)
			r.setSerial("differs")
			return
		}
	}
	r.board.clear(ctx, aboutSerial)
	r.setSerial(state)
}

func (r *Role) setSerial(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Serial = state
}

func (r *Role) serialDiffers() bool { _, differs := r.board.active[aboutSerial]; return differs }
