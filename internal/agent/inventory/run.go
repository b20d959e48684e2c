package inventory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"ward/internal/device/securityfs"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
)

// subject is what the number of untold incidents is about.
const subject = "inventory"

// Run tells of programs without a component, goes once through the measurement
// list, and keeps the set on flash, until ctx ends.
func (r *Role) Run(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		r.c.Alive()
		if r.wantsList() {
			r.goThrough(ctx)
		}
		r.tell(ctx)
		r.save(saveEvery)
		select {
		case <-ctx.Done():
			r.tell(context.WithoutCancel(ctx))
			r.save(0)
			return nil
		case <-r.wake:
		case <-ticker.C:
		}
	}
}

func (r *Role) wantsList() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.adopt() && r.unlisted
}

// goThrough takes what the kernel measured until now. A list that is not there is
// for others to tell: then only what was seen since the start is known.
func (r *Role) goThrough(ctx context.Context) {
	err := r.list(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.c.Log.Warn("go through the measurement list", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlisted = ctx.Err() != nil
}

func (r *Role) list(ctx context.Context) error {
	if r.c.SecurityFS == nil {
		return fs.ErrNotExist
	}
	list, err := securityfs.FollowIMA(r.c.SecurityFS)
	if err != nil {
		return err
	}
	defer list.Close()
	for ctx.Err() == nil {
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if sum, ok := measured.Content(e); ok {
			r.Ran(strings.Clone(e.Path), sum)
		}
		if e.Index%256 == 0 {
			r.c.Alive()
		}
	}
	return nil
}

// tell records the programs that wait.
func (r *Role) tell(ctx context.Context) {
	r.mu.Lock()
	waiting, more := r.waiting, r.more
	r.waiting, r.more = nil, 0
	r.mu.Unlock()
	for _, s := range waiting {
		f := finding.New(finding.InventoryNoComponent, "executed but in no SBOM")
		f.Found = fmt.Sprintf("sha256:%x", s.sum)
		if s.path == "" {
			s.path = "content of the release at another path"
		}
		f = f.On(measured.UntrustedPath(s.path))
		r.incident(ctx, f.Path, f)
	}
	if more > 0 {
		r.incident(ctx, subject, finding.New(finding.InventoryNoComponent, fmt.Sprintf("%d more programs were executed and are in no SBOM", more)))
	}
}

func (r *Role) incident(ctx context.Context, subject string, f finding.Finding) {
	if !r.c.First(ctx, subject, f) {
		return
	}
	e := event.Event{Type: event.FindingIncident, Time: time.Now(), Subject: subject, Severity: f.Severity, Finding: &f}
	if err := r.c.Recorder.Record(ctx, e); err != nil {
		r.c.Log.Error("record event", "code", string(f.Code), "error", err)
	}
}
