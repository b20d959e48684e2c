package updategate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

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

// confirm writes down that the release was marked good, and records it once. The
// error says that it is not kept over a restart.
func (g *Gate) confirm(ctx context.Context, r *release.Verified, by string) error {
	if g.state.Confirmed == name(r) {
		return nil
	}
	g.recordConfirmed(ctx, r, by)
	g.state.Confirmed, g.state.Waiting, g.state.Seconds = name(r), "", 0
	if err := g.save(); err != nil {
		g.config.Log.Error("keep that the release was confirmed", "error", err)
		return err
	}
	return nil
}

// committed records once that the counter stands at a confirmed release. The
// record comes first: a power cut in between repeats it, and loses nothing.
func (g *Gate) committed(ctx context.Context, r *release.Verified, counter uint64) {
	if g.state.Committed == name(r) {
		return
	}
	g.recordCommitted(ctx, r, counter)
	g.state.Committed = name(r)
	if err := g.save(); err != nil {
		g.config.Log.Error("keep that the counter was moved", "error", err)
	}
}
