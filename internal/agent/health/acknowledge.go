package health

import (
	"context"
	"errors"
	"fmt"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Why nothing is acknowledged.
var (
	// ErrNoCondition: the catalogue has no such code.
	ErrNoCondition = errors.New("there is no such finding")
	// ErrNotHeld: no condition of the code, about the subject, holds; an incident
	// never does.
	ErrNotHeld = errors.New("it does not hold")
)

// Acknowledge records that somebody has seen the conditions of a code, those about
// a subject or, when that is empty, all, and returns them as they were before. What
// is acknowledged already is not recorded again. by is a role, event.ByRoot or
// event.ByService.
func (c *Conditions) Acknowledge(ctx context.Context, rec Recorder, by string, code finding.Code, subject string) ([]Condition, error) {
	switch d, ok := finding.Lookup(code); {
	case !ok:
		return nil, fmt.Errorf("%.80q: %w", code, ErrNoCondition)
	case d.Kind == finding.Incident:
		return nil, fmt.Errorf("%s is an incident, it only happened: %w", code, ErrNotHeld)
	}
	c.acknowledging.Lock()
	defer c.acknowledging.Unlock()
	held, _ := c.Active()
	var out []Condition
	for _, h := range held {
		if h.Code != code || subject != "" && h.Subject != subject {
			continue
		}
		if h.Acknowledged == nil {
			f := h.Finding
			if err := rec.Record(ctx, event.Event{
				Type: event.FindingAcknowledged, Subject: h.Subject, Severity: f.Severity, Finding: &f,
				Report: event.Acknowledgement{By: by}.Encode(),
			}); err != nil {
				return out, err
			}
		}
		out = append(out, h)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s on this device, or about that: %w", code, ErrNotHeld)
	}
	return out, nil
}
