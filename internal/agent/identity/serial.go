package identity

import (
	"context"

	"ward/internal/agent/identity/board"
	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/identity/issued"
	"ward/internal/trust/finding"
)

// lookAtSerial compares the hardware's serial number. A device with another one
// keeps its identity, so that it can say so, and asks for no certificate: it would
// be enrolled under a foreign name.
func (r *Role) lookAtSerial(ctx context.Context, d idstore.Device) {
	state, other := issued.Serial(r.config.SerialFile, d.Serial)
	if other == "" {
		r.board.Clear(ctx, board.AboutSerial)
	} else {
		r.board.Raise(ctx, board.AboutSerial, finding.IdentityMismatch,
			"the hardware's serial number is %.64q and the state partition was made for %s: it comes from another device, or the main board was replaced", other, d.Serial)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Serial = state
}

func (r *Role) serialDiffers() bool { return r.board.Holds(board.AboutSerial) != "" }
