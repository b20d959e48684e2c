// Package storm stands between the roles and the journal, so that a fault that
// repeats itself, or somebody who makes noise, neither fills the record nor wears
// the flash (IEC 62443-4-2 CR 2.9, CR 7.1). The same thing again within a minute
// is counted and told once; different things beyond the limit of their severity
// are counted by code and told once a minute. What is chained is what is sent: it
// happens before the journal, and nothing is left out behind it.
package storm

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sort"
	"strconv"
	"sync"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// window is how long repetitions are gathered before they are told.
	window = time.Minute
	// tick is how often the ends of windows are looked for.
	tick = time.Second
	// maxConditions and maxThings bound what is remembered: a device has some
	// dozens of conditions. What is beyond them is not coalesced, only limited.
	maxConditions = 256
	maxThings     = 512
)

// Journal keeps events.
type Journal interface {
	Record(ctx context.Context, e event.Event) error
}

// Storm is the journal as the roles see it.
type Storm struct {
	journal Journal
	log     *slog.Logger

	mu         sync.Mutex
	conditions map[key]*series
	things     map[key]*series
	buckets    [finding.Critical + 1]bucket
	excess     excess
}

// key tells things apart; it is a hash, so that a million of long names take no
// room.
type key [16]byte

// series is one thing that happens again and again, or a condition that comes and
// goes. Its held events are those that have no record of their own.
type series struct {
	began time.Time // the window
	went  went      // in this window
	held  event.Event
	count int
	first time.Time
}

// went are the transitions that were recorded at once.
type went uint8

const (
	raised went = 1 << iota
	cleared
	other
	all = raised | cleared | other
)

// New stands before a journal. Run must run, or what is held is not told.
func New(journal Journal, log *slog.Logger) *Storm {
	return &Storm{
		journal: journal, log: log, conditions: make(map[key]*series), things: make(map[key]*series), buckets: limits,
	}
}

// Record takes an event to the journal, at once and with the journal's promise of
// durability when it is the first of its kind within a window, and returns at once
// when it is a repetition or exceeds the limits: then it is told later. Events
// that are neither findings nor about the link, the clock, what is plugged in, logins
// or leases are never held: verdicts, starts and stops, checkpoints, acknowledgements,
// service mode, emergency access.
func (s *Storm) Record(ctx context.Context, e event.Event) error {
	which := transition(e)
	if which == 0 {
		return s.journal.Record(ctx, e)
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	k := keyOf(e)
	q, now := s.admit(k, e, which)
	if !now {
		return nil
	}
	err := s.journal.Record(ctx, e)
	if err != nil && q != nil {
		s.mu.Lock()
		q.went &^= which // it is not in the record: the next one is the first
		s.mu.Unlock()
	}
	return err
}

// transition is what the event is, 0 for one that is never held.
func transition(e event.Event) went {
	switch e.Type {
	case event.FindingRaised:
		return raised
	case event.FindingCleared:
		return cleared
	case event.FindingIncident, event.LinkConnected, event.ClockStepped, event.DeviceAttached, event.DeviceDetached,
		event.AccessSession, event.AccessPrivilege, event.TherapyLease:
		return other
	}
	return 0
}

// keyOf names what the event is about: of a condition code and subject, of an
// incident also path, content and place. The detail is not in it, for it holds
// numbers and times; neither is the report of a step of the clock or of a lease.
func keyOf(e event.Event) key {
	parts := []string{e.Type, e.Subject}
	switch f := e.Finding; {
	case f == nil && (e.Type == event.ClockStepped || e.Type == event.TherapyLease):
	case f == nil:
		parts = append(parts, string(e.Report))
	case e.Type == event.FindingRaised || e.Type == event.FindingCleared:
		parts = []string{string(f.Code), e.Subject}
	default:
		parts = append(parts, string(f.Code), f.Path, f.Found)
		for _, n := range []*int{f.PCR, f.Index} {
			text := ""
			if n != nil {
				text = strconv.Itoa(*n)
			}
			parts = append(parts, text)
		}
		if f.Offset != nil {
			parts = append(parts, strconv.FormatInt(*f.Offset, 10))
		}
	}
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(strconv.Quote(p)))
	}
	return key(h.Sum(nil)[:16])
}

// admit says whether an event is recorded now; else it is held or counted. The
// series is nil where none is kept.
func (s *Storm) admit(k key, e event.Event, which went) (*series, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	where, limit := s.things, maxThings
	if which != other {
		where, limit = s.conditions, maxConditions
	}
	q := where[k]
	if q == nil && len(where) < limit {
		q = &series{began: now}
		where[k] = q
	}
	if q != nil && q.went&which != 0 {
		q.hold(e, 1, e.Time)
		return q, false
	}
	if s.take(e.Severity, now) {
		if q != nil {
			if q.went |= which; q.count > 0 {
				q.held = e // the state at the window's end, so far
			}
		}
		return q, true
	}
	if q != nil && which != other {
		q.hold(e, 1, e.Time) // the state of a condition is never lost
		return q, false
	}
	if q != nil && q.went == 0 && q.count == 0 {
		delete(where, k)
	}
	s.excess.add(now, e)
	return nil, false
}

func (q *series) hold(e event.Event, count int, first time.Time) {
	if q.count == 0 || first.Before(q.first) {
		q.first = first
	}
	q.held, q.count = e, q.count+count
}

// Run tells what was held when its window ends, until ctx ends.
func (s *Storm) Run(ctx context.Context, alive func()) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			s.tell(ctx, now, false)
		}
		alive()
	}
}

// Flush tells everything that is held, for the end of the daemon.
func (s *Storm) Flush(ctx context.Context) { s.tell(ctx, time.Now(), true) }

// told is what a series has to say.
type told struct {
	where  map[key]*series
	key    key
	series *series
	event  event.Event
}

// tell records what is due, in the order in which it last happened. What finds no
// place within the limits, or in the journal, stays held.
func (s *Storm) tell(ctx context.Context, now time.Time, everything bool) {
	s.mu.Lock()
	due := append(s.due(s.conditions, now, everything), s.due(s.things, now, everything)...)
	summary, counts := s.excess.due(now, everything)
	s.mu.Unlock()
	sort.Slice(due, func(i, j int) bool { return due[i].event.Time.Before(due[j].event.Time) })
	for _, d := range due {
		err := s.journal.Record(ctx, d.event)
		if err != nil {
			s.log.Warn("record repeated events", "type", d.event.Type, "error", err)
		}
		s.mu.Lock()
		d.end(err == nil)
		s.mu.Unlock()
	}
	if summary == nil {
		return
	}
	if err := s.journal.Record(ctx, *summary); err != nil {
		s.log.Warn("record what exceeded the limits", "error", err)
		s.mu.Lock()
		s.excess.merge(counts)
		s.mu.Unlock()
	}
}

// due takes what is to be told out of the series, which hold everything that comes
// until it is in the journal: no later state may overtake it. A series in whose
// window nothing was held has ended.
func (s *Storm) due(where map[key]*series, now time.Time, everything bool) []told {
	var out []told
	for k, q := range where {
		if now.Sub(q.began) < window && !everything {
			continue
		}
		if q.count == 0 {
			delete(where, k)
			continue
		}
		if !s.take(q.held.Severity, now) && !everything {
			continue
		}
		e := q.held
		e.Repeated = &event.Repeated{Count: q.count, First: q.first, Last: e.Time}
		out = append(out, told{where, k, q, e})
		*q = series{began: now, went: all}
	}
	return out
}

// end ends a series that was told, so that the next event is a first one, unless
// more was held meanwhile. The caller holds the lock.
func (d told) end(recorded bool) {
	q := d.series
	if !recorded {
		last := d.event
		if q.count > 0 {
			last = q.held
		}
		q.hold(last, d.event.Repeated.Count, d.event.Repeated.First)
	}
	if q.count == 0 {
		delete(d.where, d.key)
	}
}
