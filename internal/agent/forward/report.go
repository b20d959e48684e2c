package forward

import (
	"context"
	"errors"
	"time"

	device "ward/internal/device/syslog"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// gapEvery bounds how often gaps are recorded: each record is one more to send.
const gapEvery = 10 * time.Minute

// failed says what is wrong with the sink: a server that is not trusted or that
// refuses the device, at once; one that cannot be reached after a grace. What is
// known to be wrong stays until a connection stands.
func (s *Sink) failed(ctx context.Context, err error) {
	if err == nil || errors.Is(err, errNoIdentity) {
		return
	}
	s.setState("connecting", err)
	s.config.Log.Info("no connection to the sink", "error", err)
	cause := device.Unreachable
	if e := (*device.Error)(nil); errors.As(err, &e) {
		cause = e.Cause
	} else if errors.Is(err, errAnchors) {
		cause = device.Untrusted
	}
	code := finding.LinkSinkDown
	switch cause {
	case device.Untrusted:
		code = finding.LinkSinkUntrusted
	case device.Refused:
		code = finding.LinkSinkRefused
	default:
		if s.wrong != nil || time.Since(s.lastSeen) < downGrace {
			return
		}
		if cause == device.EarlyEnd {
			code = finding.LinkSinkRefused
		}
	}
	s.raise(ctx, code, err.Error())
}

// raise records a condition when it begins and when its code changes, and not at
// every retry.
func (s *Sink) raise(ctx context.Context, code finding.Code, detail string) {
	if s.wrong != nil && s.wrong.Code == code {
		return
	}
	s.clear(ctx)
	f := finding.New(code, detail)
	s.wrong = &f
	s.record(ctx, event.FindingRaised, s.wrong)
}

func (s *Sink) clear(ctx context.Context) {
	if s.wrong != nil {
		s.record(ctx, event.FindingCleared, s.wrong)
		s.wrong = nil
	}
}

// tell records a gap, the first at once and then one in a while. The sink is told of
// each.
func (s *Sink) tell(ctx context.Context, detail string) {
	if s.toldAt.IsZero() || time.Since(s.toldAt) >= gapEvery {
		s.toldAt = time.Now()
		f := finding.New(finding.LinkSinkGap, detail)
		s.record(ctx, event.FindingIncident, &f)
	}
}

func (s *Sink) record(ctx context.Context, kind string, f *finding.Finding) {
	err := s.config.Recorder.Record(ctx, event.Event{Type: kind, Subject: "sink " + s.config.Name, Severity: f.Severity, Finding: f})
	if err != nil && ctx.Err() == nil {
		s.config.Log.Error("record sink event", "type", kind, "error", err)
	}
}
