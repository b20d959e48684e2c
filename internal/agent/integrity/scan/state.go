package scan

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"ward/internal/device/statefile"
	"ward/internal/trust/baseline"
)

// state is what outlives the daemon, as JSON in one file.
type state struct {
	Boot     string        `json:"boot"`
	At       time.Duration `json:"at"`       // when it was written, since the kernel started
	Baseline string        `json:"baseline"` // digest, of the scan that is not at its end
	// Position is the path up to which that scan has told everything, as a baseline
	// spells it; empty: there is none.
	Position string        `json:"position,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Full     bool          `json:"full,omitempty"`
	Begun    time.Duration `json:"begun"` // since the kernel started, of the newest scan
	Spent    time.Duration `json:"spent"` // by the scan that is not at its end, before At
	Paused   time.Duration `json:"paused"`
	Counts   Counts        `json:"counts"`

	Waiting time.Duration `json:"waiting"` // running time without the end of a full scan, at At
	Last    *Counts       `json:"last,omitempty"`
	// Conditions that were raised in this boot.
	Differ      string `json:"differ,omitempty"`
	Overdue     bool   `json:"overdue,omitempty"`
	Interrupted bool   `json:"interrupted,omitempty"`
}

// load reads what an earlier run of the daemon has left. Of another boot only the
// time of waiting and the last result are of use.
func (s *Scanner) load() {
	b, err := statefile.Read(s.c.State)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var kept state
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err == nil {
		err = kept.check()
	}
	if err != nil {
		s.c.Log.Warn("read the state of the scan; it begins anew", "error", err)
		return
	}
	now := s.c.Now()
	if kept.Boot == s.c.Boot && kept.At <= now {
		kept.Waiting += now - kept.At
		s.state = kept
		return
	}
	s.state = state{Waiting: kept.Waiting, Last: kept.Last}
}

// maxWaiting bounds the time of waiting that is believed: ten years.
const maxWaiting = 10 * 365 * 24 * time.Hour

func (s *state) check() error {
	if s.Waiting < 0 || s.Waiting > maxWaiting || s.At < 0 || s.Begun < 0 || s.Begun > s.At || s.Spent < 0 || s.Paused < 0 {
		return errors.New("state of the scan: a time that cannot be")
	}
	if s.Position == "" {
		return nil
	}
	path, err := baseline.Unescape(s.Position)
	if err != nil || len(path) == 0 || path[0] != '/' {
		return errors.New("state of the scan: the position is no path")
	}
	if b, err := hex.DecodeString(s.Baseline); err != nil || len(b) != 32 {
		return errors.New("state of the scan: the baseline's digest has no form")
	}
	return nil
}

// save keeps the state. What cannot be kept is begun anew after a restart, and a
// condition of the journal's disk tells of it.
func (s *Scanner) save() {
	s.mu.Lock()
	now := s.c.Now()
	s.state.Waiting += now - s.state.At
	s.state.Boot, s.state.At = s.c.Boot, now
	b, err := json.Marshal(&s.state)
	s.mu.Unlock()
	if err == nil && s.c.State != "" {
		err = statefile.Write(s.c.State, b)
	}
	if err != nil {
		s.c.Log.Warn("keep the state of the scan", "error", fmt.Errorf("scan: %w", err))
	}
}
