package updategate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"ward/internal/device/statefile"
	"ward/internal/format/dsse"
	"ward/internal/trust/release"
)

// stateSchema is the version of the state file.
const stateSchema = 1

// state is what survives a power cut. Releases are named by the digest of their
// manifest. A file that is lost or damaged is an empty state: the release is to
// be confirmed again, and nothing moves without.
type state struct {
	Schema    int    `json:"schema"`
	Confirmed string `json:"confirmed,omitempty"` // the release that was marked good last
	By        string `json:"by,omitempty"`        // who said so
	Told      string `json:"told,omitempty"`      // the release whose confirmation is on record
	Committed string `json:"committed,omitempty"` // the release whose move of the counter is on record
	Waiting   string `json:"waiting,omitempty"`   // the release that runs unconfirmed
	Seconds   int64  `json:"seconds,omitempty"`   // and how long it has, in running time
}

// name is a release in the state, empty without one.
func name(r *release.Verified) string {
	if r == nil {
		return ""
	}
	return release.Digest(r.Digest()).String()
}

func (g *Gate) load() state {
	empty := state{Schema: stateSchema}
	b, err := statefile.Read(g.config.State)
	if errors.Is(err, fs.ErrNotExist) {
		return empty
	}
	var s state
	if err == nil {
		err = dsse.DecodeJSON(b, &s)
	}
	if err == nil && s.Schema != stateSchema {
		err = fmt.Errorf("schema %d, want %d", s.Schema, stateSchema)
	}
	if err != nil {
		g.config.Log.Warn("the state of updates cannot be read; the release is to be confirmed again", "error", err)
		return empty
	}
	s.Seconds = max(s.Seconds, 0)
	return s
}

func (g *Gate) save() error {
	b, err := json.Marshal(g.state)
	if err != nil {
		return fmt.Errorf("encode state of updates: %w", err)
	}
	return statefile.Write(g.config.State, append(b, '\n'))
}

// confirm writes down that the release was marked good. The error says that it is
// not kept over a restart.
func (g *Gate) confirm(r *release.Verified, by string) error {
	if g.state.Confirmed == name(r) {
		return nil
	}
	g.state.Confirmed, g.state.By, g.state.Waiting, g.state.Seconds = name(r), by, "", 0
	if err := g.save(); err != nil {
		g.config.Log.Error("keep that the release was confirmed", "error", err)
		return err
	}
	return nil
}

// tell records once that the release was confirmed and that the counter stands at
// it. The journal makes an event durable a moment after it took it, so what is on
// record is written down at a later look: a power cut in between repeats an event
// and loses none.
func (g *Gate) tell(ctx context.Context, r *release.Verified, d release.Decision) {
	if r == nil || g.state.Confirmed != name(r) {
		return
	}
	this, now := name(r), time.Now()
	if g.said.release != this {
		g.said = said{release: this}
	}
	if g.said.confirmed.IsZero() && g.state.Told != this && g.recordConfirmed(ctx, r, g.state.By) {
		g.said.confirmed = now
	}
	if d.Gate == release.GateCurrent && g.said.committed.IsZero() && g.state.Committed != this && g.recordCommitted(ctx, r, d.Bound) {
		g.said.committed = now
	}
	kept := g.state
	if on(g.said.confirmed, now) {
		g.state.Told = this
	}
	if on(g.said.committed, now) {
		g.state.Committed = this
	}
	if g.state != kept {
		if err := g.save(); err != nil {
			g.config.Log.Warn("keep what is on record", "error", err)
		}
	}
}

// said is what was recorded in this run, and when.
type said struct {
	release              string
	confirmed, committed time.Time
}

// on tells that an event is on record for good; the journal syncs within seconds.
func on(recorded, now time.Time) bool {
	return !recorded.IsZero() && now.Sub(recorded) >= recheck/2
}
