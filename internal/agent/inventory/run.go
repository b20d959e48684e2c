package inventory

import (
	"context"
	"encoding/hex"
	"strconv"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
)

// subject is what the number of untold incidents is about.
const subject = "inventory"

// Run tells of programs without a component and keeps the set on flash, until ctx
// ends.
func (r *Role) Run(ctx context.Context) error {
	for {
		r.c.Alive()
		r.tell(ctx)
		r.save(saveEvery)
		select {
		case <-ctx.Done():
			r.tell(context.WithoutCancel(ctx))
			r.save(0)
			return nil
		case <-r.wake:
		case <-time.After(tick):
		}
	}
}

// tell records the programs that wait.
func (r *Role) tell(ctx context.Context) {
	r.mu.Lock()
	waiting, more := r.waiting, r.more
	r.waiting, r.more = nil, 0
	r.mu.Unlock()
	for _, s := range waiting {
		r.incident(ctx, measured.UntrustedPath(s.path), "sha256:"+hex.EncodeToString(s.sum[:]), "executed but in no SBOM")
	}
	if more > 0 {
		r.incident(ctx, subject, "", strconv.Itoa(more)+" more programs were executed and are in no SBOM")
	}
}

func (r *Role) incident(ctx context.Context, path, found, detail string) {
	f := finding.New(finding.InventoryNoComponent, detail)
	if f.Found = found; path != subject {
		f.Path = path
	}
	if !r.c.First(ctx, path, f) {
		return
	}
	e := event.Event{Type: event.FindingIncident, Time: time.Now(), Subject: path, Severity: f.Severity, Finding: &f}
	if err := r.c.Recorder.Record(ctx, e); err != nil {
		r.c.Log.Error("record event", "code", string(f.Code), "error", err)
	}
}
