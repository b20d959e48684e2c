package localapi

import (
	"context"
	"encoding/json"
)

// checkpointPath is where a checkpoint of the journal is asked for.
const checkpointPath = "/v1/journal/checkpoint"

// Anchor is how far the record is certified by the TPM (docs/journal.md).
type Anchor struct {
	Anchored uint64 `json:"anchored"`          // the record up to which the chain is certified; 0: none
	Counter  string `json:"counter,omitempty"` // of the newest checkpoint of this boot: orderly, durable; absent: there is none
	Value    uint64 `json:"value,omitempty"`
	Record   uint64 `json:"record,omitempty"` // the checkpoint's own event
	AgeMS    int64  `json:"ageMs,omitempty"`
	Missing  string `json:"missing,omitempty"` // why none can be taken now
}

// TakeCheckpoint is the action that certifies the record up to now: for readers. It
// answers the event, as it was recorded.
func TakeCheckpoint(take func(ctx context.Context) (json.RawMessage, error)) Action {
	return Action{Pattern: "POST " + checkpointPath, Who: Readers, Do: func(ctx context.Context, _ Request) (any, error) {
		return take(ctx)
	}}
}

// TakeCheckpoint has a checkpoint taken and returns its event, as it was recorded. A
// *Refusal says why there is none.
func (c *Client) TakeCheckpoint(ctx context.Context) (json.RawMessage, error) {
	var record json.RawMessage
	return record, c.Do(ctx, checkpointPath, nil, &record)
}
