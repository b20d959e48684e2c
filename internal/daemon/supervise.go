package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"ward/internal/agent/health"
)

// Restart delays of a role that ended with an error: doubled from the first to
// the last. A role is never given up.
const (
	firstRestart = time.Second
	lastRestart  = time.Minute
)

// supervise runs a role until ctx ends. A role that returns an error or panics
// is begun anew after a growing delay; the others are not touched, so one
// failing part leaves the rest at work.
func supervise(ctx context.Context, log *slog.Logger, role *health.Role, name string, run func(context.Context) error) {
	delay := firstRestart
	for {
		begun := time.Now()
		err := guarded(ctx, log.With("role", name), run)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it returned though nobody asked it to stop")
		}
		role.Stopped(err.Error())
		log.Error("role stopped", "role", name, "error", err, "again_in", delay)
		if time.Since(begun) > lastRestart {
			delay = firstRestart
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, lastRestart)
	}
}

// guarded turns a panic of a role into an error; the log has its place.
func guarded(ctx context.Context, log *slog.Logger, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("panic", "value", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return run(ctx)
}
