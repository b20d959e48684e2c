package storm

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// limits bound the events of each severity, repetitions not counted: so many at
// once, and then one in so much time. A flood of critical ones for a whole day is
// some 70 MB, of high ones 14 MB, of the others 4 MB together; a device that is
// well has some hundred events a day.
var limits = [finding.Critical + 1]bucket{
	finding.Critical: {burst: 1024, every: time.Second},
	finding.High:     {burst: 512, every: 5 * time.Second},
	finding.Medium:   {burst: 256, every: 30 * time.Second},
	finding.Low:      {burst: 128, every: time.Minute},
	finding.Info:     {burst: 128, every: time.Minute},
}

// bucket is a limit and what was taken of it.
type bucket struct {
	burst int
	every time.Duration
	taken int
	at    time.Time // when taken was right
}

// take says whether there is room for one more event. One without a severity has
// room in any case: the journal refuses it. The caller holds the lock.
func (s *Storm) take(severity finding.Severity, now time.Time) bool {
	b := &s.buckets[min(severity, finding.Critical)]
	if b.burst == 0 {
		return true
	}
	if b.taken == 0 {
		b.at = now
	}
	if back := int(now.Sub(b.at) / b.every); back > 0 {
		b.taken, b.at = max(0, b.taken-back), b.at.Add(time.Duration(back)*b.every)
	}
	if b.taken == b.burst {
		return false
	}
	b.taken++
	return true
}

const (
	// maxCodes bounds the codes that are counted apart; the catalogue has some more.
	maxCodes = 64
	// others are counted under this name.
	others = "others"
	// maxListed bounds the codes that a summary names.
	maxListed = 16
)

// excess is what the limits let through only as a number.
type excess struct {
	began       time.Time // of the window; zero: there is nothing
	counts      map[string]int
	total       int
	first, last time.Time // by the wall clock
}

func (x *excess) add(now time.Time, e event.Event) {
	name := e.Type
	if e.Finding != nil {
		name = string(e.Finding.Code)
	}
	x.merge(excess{began: now, counts: map[string]int{name: 1}, total: 1, first: e.Time, last: e.Time})
}

// merge adds what was counted elsewhere, or could not be told.
func (x *excess) merge(more excess) {
	if x.total == 0 {
		*x = excess{began: more.began, counts: make(map[string]int), first: more.first, last: more.last}
	}
	for name, n := range more.counts {
		if _, known := x.counts[name]; !known && len(x.counts) >= maxCodes {
			name = others
		}
		x.counts[name] += n
	}
	x.total += more.total
	if more.first.Before(x.first) {
		x.first = more.first
	}
	if more.last.After(x.last) {
		x.last = more.last
	}
}

// due is the summary of a window that has ended, nil when there is none, and what
// it was made of.
func (x *excess) due(now time.Time, everything bool) (*event.Event, excess) {
	if x.total == 0 || now.Sub(x.began) < window && !everything {
		return nil, excess{}
	}
	taken := *x
	*x = excess{}
	names := slices.Sorted(maps.Keys(taken.counts))
	sort.SliceStable(names, func(i, j int) bool { return taken.counts[names[i]] > taken.counts[names[j]] })
	var parts []string
	for _, name := range names[:min(len(names), maxListed)] {
		parts = append(parts, fmt.Sprintf("%s %d", name, taken.counts[name]))
	}
	text := strings.Join(parts, ", ")
	if more := len(names) - maxListed; more > 0 {
		text += fmt.Sprintf(", and %d codes more", more)
	}
	f := finding.New(finding.JournalLimited, text)
	return &event.Event{
		Type: event.FindingIncident, Time: taken.last, Subject: "journal", Severity: f.Severity, Finding: &f,
		Repeated: &event.Repeated{Count: taken.total, First: taken.first, Last: taken.last},
	}, taken
}
