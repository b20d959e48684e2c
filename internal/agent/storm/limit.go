package storm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// limits bound the events of each severity, repetitions not counted: so many at
// once, and then one in so much time. A flood of critical ones for a whole day is
// some 70 MB, of high ones 14 MB, of the others 4 MB together; a device that is
// well has some hundred events a day.
var limits = map[finding.Severity]struct {
	burst int
	every time.Duration
}{
	finding.Critical: {1024, time.Second},
	finding.High:     {512, 5 * time.Second},
	finding.Medium:   {256, 30 * time.Second},
	finding.Low:      {128, time.Minute},
	finding.Info:     {128, time.Minute},
}

// bucket is what is left of a limit.
type bucket struct {
	burst int
	every time.Duration
	left  int
	at    time.Time // when left was right
}

func newBuckets(now time.Time) map[finding.Severity]*bucket {
	all := make(map[finding.Severity]*bucket)
	for severity, l := range limits {
		all[severity] = &bucket{burst: l.burst, every: l.every, left: l.burst, at: now}
	}
	return all
}

// take says whether there is room for one more. An event without a severity has
// none in any case: the journal refuses it.
func (b *bucket) take(now time.Time) bool {
	if b == nil {
		return true
	}
	if more := int(now.Sub(b.at) / b.every); more > 0 {
		b.left, b.at = min(b.burst, b.left+more), b.at.Add(time.Duration(more)*b.every)
	}
	if b.left == 0 {
		return false
	}
	b.left--
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
	names := slices.SortedFunc(maps.Keys(taken.counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(taken.counts[b], taken.counts[a]), cmp.Compare(a, b))
	})
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
