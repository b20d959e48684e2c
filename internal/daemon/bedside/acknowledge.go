package bedside

import (
	"context"
	"errors"
	"net/http"

	"ward/internal/agent/health"
	"ward/internal/agent/localapi"
	"ward/internal/trust/finding"
)

// Acknowledge is the board of conditions as somebody at the device acknowledges
// what stands on it.
func Acknowledge(board *health.Conditions, rec health.Recorder) localapi.Action {
	return localapi.AcknowledgeConditions(func(ctx context.Context, by string, code finding.Code, subject string) ([]localapi.Condition, error) {
		held, err := board.Acknowledge(ctx, rec, by, code, subject)
		switch {
		case errors.Is(err, health.ErrNoCondition):
			err = localapi.Refuse(http.StatusBadRequest, "%v", err)
		case errors.Is(err, health.ErrNotHeld):
			err = localapi.Refuse(http.StatusConflict, "%v", err)
		}
		return DescribeConditions(held), err
	})
}

// DescribeConditions gives conditions as the local socket does.
func DescribeConditions(held []health.Condition) []localapi.Condition {
	out := []localapi.Condition{}
	for _, c := range held {
		d := localapi.Condition{Finding: c.Finding, Subject: c.Subject}
		if a := c.Acknowledged; a != nil {
			d.Acknowledged = &localapi.Acknowledgement{Time: a.Time, By: a.By}
		}
		out = append(out, d)
	}
	return out
}
