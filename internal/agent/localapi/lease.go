package localapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Where a therapy lease is taken and ended.
const (
	leasePath    = "/v1/lease"
	leaseEndPath = "/v1/lease/end"
)

// Lease is a therapy lease: heavy work waits while it is held.
type Lease struct {
	Holder      string `json:"holder"`
	User        uint32 `json:"user"`        // of the device, who took it
	HeldSeconds int64  `json:"heldSeconds"` // so far
	LeftSeconds int64  `json:"leftSeconds"` // until it ends by itself
}

// leaseRequest takes, renews or ends a lease.
type leaseRequest struct {
	Holder  string `json:"holder"`
	Seconds int64  `json:"seconds,omitempty"`
}

// leaseAnswer says for how long a lease is granted.
type leaseAnswer struct {
	Seconds int64 `json:"seconds"`
}

// maxLeaseSeconds keeps a number of seconds in a time.Duration; the release's bound is
// far below it.
const maxLeaseSeconds = 1 << 31

const leaseForm = `want {"holder":"pump-ui","seconds":600}`

// Leases are what the daemon does about leases, for a user and a role.
type Leases interface {
	// Take takes or renews one, and gives the time for which it is granted.
	Take(uid uint32, by, holder string, d time.Duration) (time.Duration, error)
	End(uid uint32, by, holder string) error
}

// KeepLeases are the actions that take, renew and end a lease: for readers. DELETE is
// there for who prefers it.
func KeepLeases(l Leases, refuse func(error) error) []Action {
	take := func(_ context.Context, r Request) (any, error) {
		var in leaseRequest
		if err := json.Unmarshal(r.Body, &in); err != nil {
			return nil, Refuse(http.StatusBadRequest, leaseForm)
		}
		d, err := l.Take(r.UID, r.Role, in.Holder, time.Duration(max(0, min(in.Seconds, maxLeaseSeconds)))*time.Second)
		return leaseAnswer{int64(d / time.Second)}, refuse(err)
	}
	end := func(_ context.Context, r Request) (any, error) {
		in := leaseRequest{Holder: r.Query.Get("holder")}
		if in.Holder == "" {
			if err := json.Unmarshal(r.Body, &in); err != nil {
				return nil, Refuse(http.StatusBadRequest, `want {"holder":"pump-ui"} or ?holder=pump-ui`)
			}
		}
		return struct{}{}, refuse(l.End(r.UID, r.Role, in.Holder))
	}
	return []Action{
		{Pattern: "POST " + leasePath, Who: Readers, Do: take},
		{Pattern: "POST " + leaseEndPath, Who: Readers, Do: end},
		{Pattern: "DELETE " + leasePath, Who: Readers, Do: end},
	}
}

// TakeLease takes or renews a lease and gives the time for which it is granted. A
// *Refusal says why not.
func (c *Client) TakeLease(ctx context.Context, holder string, d time.Duration) (time.Duration, error) {
	var a leaseAnswer
	err := c.Do(ctx, leasePath, leaseRequest{holder, int64(d / time.Second)}, &a)
	return time.Duration(a.Seconds) * time.Second, err
}

// EndLease ends a lease. A *Refusal of status 409 says that there is none.
func (c *Client) EndLease(ctx context.Context, holder string) error {
	return c.Do(ctx, leaseEndPath, leaseRequest{Holder: holder}, new(struct{}))
}
