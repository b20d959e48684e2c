// Package filescan wires the scan of the files (package scan) for the daemon, and
// says on the local socket how it stands.
package filescan

import (
	"encoding/json"
	"time"

	"ward/internal/agent/attester"
	"ward/internal/agent/integrity/scan"
	"ward/internal/agent/localapi"
	"ward/internal/device/bootclock"
	"ward/internal/trust/baseline"
	"ward/internal/trust/watch"
)

// New makes the role, which compares with the release that the attester has verified
// last. The rest of its configuration is the caller's.
func New(a *attester.Attester, c scan.Config) *scan.Scanner {
	c.Files = func() *baseline.Index {
		s, _ := a.Latest()
		return s.Baseline
	}
	c.Policy = func() watch.Policy {
		if s, _ := a.Latest(); s.Release != nil {
			return s.Release.Manifest().Watch.Complete()
		}
		return watch.Default()
	}
	c.Now = bootclock.Now
	return scan.New(c)
}

// Actions are those of the local socket.
func Actions(s *scan.Scanner) []localapi.Action {
	return localapi.ScanFiles(s.Ask, func() localapi.Scan { return *Describe(s.Status()) })
}

// Describe is the scan for the local socket.
func Describe(s scan.Status) *localapi.Scan {
	out := &localapi.Scan{
		State: s.State, Detail: s.Detail, Reason: s.Reason, Full: s.Full, Percent: s.Percent(), Files: s.Counts.Files, Bytes: s.Counts.Bytes,
		Where: s.Where, NextSeconds: int64(s.Next / time.Second), Ended: s.Ended, Coming: s.Coming, Overdue: s.Overdue, LateHours: int64(s.Late / time.Hour),
	}
	if s.Last != nil {
		out.Last, _ = json.Marshal(s.Last) // counts and words: it always encodes
		at := s.LastAt
		out.LastAt = &at
	}
	return out
}
