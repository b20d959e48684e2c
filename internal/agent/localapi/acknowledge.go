package localapi

import (
	"context"
	"encoding/json"
	"net/http"

	"ward/internal/trust/finding"
)

// acknowledgePath is where conditions are acknowledged.
const acknowledgePath = "/v1/acknowledge"

// acknowledgeRequest names conditions: those of a code, about a subject or all.
type acknowledgeRequest struct {
	Code    finding.Code `json:"code"`
	Subject string       `json:"subject,omitempty"`
}

// Acknowledged are the conditions that an Acknowledge was about.
type Acknowledged struct {
	Conditions []Condition `json:"conditions"`
}

// AcknowledgeConditions is the action that notes that somebody has seen the
// conditions of a code, for the asker's role. Readers may: the technician at the
// bedside is one of them and need not be root to say that he has seen what he may
// see; it changes nothing but the record, which says that it was done.
func AcknowledgeConditions(do func(ctx context.Context, by string, code finding.Code, subject string) ([]Condition, error)) Action {
	return Action{Pattern: "POST " + acknowledgePath, Who: Readers, Do: func(ctx context.Context, r Request) (any, error) {
		var in acknowledgeRequest
		if err := json.Unmarshal(r.Body, &in); err != nil || in.Code == "" {
			return nil, Refuse(http.StatusBadRequest, `want {"code":"link.down","subject":"which of them, or nothing"}`)
		}
		cs, err := do(ctx, r.Role, in.Code, in.Subject)
		return Acknowledged{cs}, err
	}}
}

// Acknowledge says that the conditions of a code were seen, those about a subject
// or, with an empty one, all. A *Refusal of status 409 says that there is none.
func (c *Client) Acknowledge(ctx context.Context, code finding.Code, subject string) ([]Condition, error) {
	var a Acknowledged
	err := c.Do(ctx, acknowledgePath, acknowledgeRequest{code, subject}, &a)
	return a.Conditions, err
}
