package posture

import (
	"context"
	"errors"
	"io/fs"
	"time"

	device "ward/internal/device/posture"
	"ward/internal/trust/posture"
)

// errSilent means that a collector did not come back in time: a read of sysfs may
// hang with the device behind it.
var errSilent = errors.New("no answer within " + patience.String())

// source is a collector with what is known of its latest run.
type source struct {
	device.Collector
	took    time.Duration
	running chan posture.Claim // nil: it has come back
}

// collect runs the collector for as long as patience lasts. One that hangs keeps
// its goroutine, the only one that it gets, and is unreadable until it comes back.
func (s *source) collect(ctx context.Context, root fs.FS) posture.Claim {
	if s.running != nil {
		select {
		case <-s.running: // what it has read is old
			s.running = nil
		default:
			return device.Failed(s.Name, errSilent)
		}
	}
	done := make(chan posture.Claim, 1)
	began := time.Now()
	go func() { done <- s.Collect(root) }()
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case c := <-done:
		s.took = time.Since(began)
		if c.Name != s.Name { // a defect of the collector; its claim is nobody's
			return device.Failed(s.Name, errors.New("the collector claims "+c.Name))
		}
		return c
	case <-wait.C:
		s.took = patience
	case <-ctx.Done():
	}
	s.running = done
	return device.Failed(s.Name, errSilent)
}
