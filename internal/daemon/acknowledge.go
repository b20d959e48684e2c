package daemon

import (
	"context"
	"net/http"
	"sync"

	"ward/internal/agent/health"
	"ward/internal/agent/localapi"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// recorder takes events into the record.
type recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// acknowledge is the board of conditions as somebody at the device acknowledges
// what stands on it. What is acknowledged already is not recorded again.
func acknowledge(board *health.Conditions, rec recorder) localapi.Action {
	var one sync.Mutex
	return localapi.AcknowledgeConditions(func(ctx context.Context, by string, code finding.Code, subject string) ([]localapi.Condition, error) {
		switch d, ok := finding.Lookup(code); {
		case !ok:
			return nil, localapi.Refuse(http.StatusBadRequest, "there is no finding %.80q", code)
		case d.Kind == finding.Incident:
			return nil, localapi.Refuse(http.StatusConflict, "%s is an incident: it happened, and only conditions are acknowledged", code)
		}
		one.Lock()
		defer one.Unlock()
		held, _ := board.Active()
		var out []localapi.Condition
		for _, c := range held {
			if c.Code != code || subject != "" && c.Subject != subject {
				continue
			}
			if c.Acknowledged == nil {
				f := c.Finding
				if err := rec.Record(ctx, event.Event{
					Type: event.FindingAcknowledged, Subject: c.Subject, Severity: f.Severity, Finding: &f,
					Report: event.Acknowledgement{By: by}.Encode(),
				}); err != nil {
					return out, err
				}
			}
			out = append(out, describeCondition(c))
		}
		if len(out) == 0 {
			return nil, localapi.Refuse(http.StatusConflict, "%s does not hold on this device, or not about that", code)
		}
		return out, nil
	})
}

func describeCondition(c health.Condition) localapi.Condition {
	out := localapi.Condition{Finding: c.Finding, Subject: c.Subject}
	if a := c.Acknowledged; a != nil {
		out.Acknowledged = &localapi.Acknowledgement{Time: a.Time, By: a.By}
	}
	return out
}
