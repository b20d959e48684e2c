package scan

import "time"

// States of the role.
const (
	Waiting    = "waiting"
	Scanning   = "scanning"
	Paused     = "paused" // a therapy lease is held
	NoBaseline = "no-baseline"
)

// Status is the role at this moment.
type Status struct {
	State   string
	Detail  string
	Reason  string // of the scan that runs
	Full    bool
	Resumed bool          // it was broken off and goes on
	Counts  Counts        // of the scan that runs
	Total   int           // files that the release names
	Next    time.Duration // until the next scan begins, while none runs
	Mounts  []Mount
	Last    *Report // of the scan that ended last, in this run of the daemon
	LastAt  time.Time
	Ended   int           // scans that ended in this run of the daemon
	Coming  int           // the number that Ended has when what was asked for by now is done
	Kept    *Counts       // of the full scan that came to its end last, ever
	Late    time.Duration // running time since then
	Overdue bool
	Where   string // folder of the release in which the scan is

	path string
}

// Percent is how much of the release's files was looked at.
func (s *Status) Percent() int {
	if s.Total == 0 {
		return 0
	}
	return min(100*s.Counts.Files/s.Total, 100)
}

// Status says how the role stands.
func (s *Scanner) Status() Status {
	s.mu.Lock()
	out := s.status
	out.Kept, out.Overdue = s.state.Last, s.state.Overdue
	out.Ended, out.Coming = s.ended, s.ended
	if out.State == Scanning || out.State == Paused {
		out.Coming++
	}
	if s.pending != "" {
		out.Coming++
	}
	out.Late = s.state.Waiting + s.c.Now() - s.state.At
	s.mu.Unlock()
	if files := s.c.Files(); files != nil && out.path != "" {
		out.Where = files.Ancestor(out.path)
	}
	return out
}

// Began is when the last scan began that came to its end; zero before there is one.
func (s *Scanner) Began() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Last == nil || s.status.Last.Verdict == "failed" {
		return time.Time{}
	}
	return s.status.LastAt.Add(-time.Duration(s.status.Last.Seconds * float64(time.Second)))
}
