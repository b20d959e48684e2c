package localapi

import (
	"context"
	"time"

	"ward/internal/trust/posture"
)

// posturePath is where the device's posture is read.
const posturePath = "/v1/posture"

// Posture is what the device says of its state beside its files, and what its
// release expects, as GET /v1/posture gives it.
type Posture struct {
	Release Release         `json:"release"`
	Policy  *posture.Policy `json:"policy,omitempty"` // absent: the release expects nothing, or none is verified
	Claims  []posture.Claim `json:"claims"`           // of the latest look; none before the first
	At      time.Time       `json:"at,omitzero"`      // of that look
}

// TellPosture is the action that tells the posture, to all who may read.
func TellPosture(tell func() Posture) Action {
	return Action{Pattern: "GET " + posturePath, Who: Readers, Do: func(context.Context, Request) (any, error) { return tell(), nil }}
}

// Posture asks for the device's posture.
func (c *Client) Posture(ctx context.Context) (Posture, error) {
	var p Posture
	return p, c.get(ctx, posturePath, nil, &p)
}
