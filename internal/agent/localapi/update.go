package localapi

import "context"

// confirmPath is where the running release is confirmed.
const confirmPath = "/v1/update/confirm"

// Update is where the device stands between two releases (docs/update.md).
type Update struct {
	// State is a word: unverified, unbound, foreign, locked-out, current,
	// not-permitted, not-affirming, unconfirmed, open.
	State     string  `json:"state"`
	Counter   *uint64 `json:"counter,omitempty"` // of the TPM; absent while it was not read
	Base      uint64  `json:"base"`              // where manufacture put it
	Index     uint64  `json:"index"`             // rollback index of the running release
	Confirmed bool    `json:"confirmed"`         // the slot was marked good
	Raisable  bool    `json:"raisable"`          // the release may move the counter to base + index
	Detail    string  `json:"detail,omitempty"`
}

// ConfirmUpdate is the action that marks the running release's slot good: root
// alone, for from then on older releases may be locked out. It is done for the
// asker "uid 0, pid 17".
func ConfirmUpdate(confirm func(ctx context.Context, by string) (Update, error)) Action {
	return Action{Pattern: "POST " + confirmPath, Who: Root, Do: func(ctx context.Context, r Request) (any, error) {
		return confirm(ctx, r.From)
	}}
}

// ConfirmUpdate marks the running release good. A *Refusal of status 409 says why
// not.
func (c *Client) ConfirmUpdate(ctx context.Context) (Update, error) {
	var u Update
	return u, c.Do(ctx, confirmPath, nil, &u)
}
