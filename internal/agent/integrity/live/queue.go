package live

import (
	"sync"
	"time"

	"ward/internal/device/fanotify"
)

const (
	// maxPaths bounds the paths that wait to be looked at, or were looked at a
	// moment ago. What is beyond it is left to a scan.
	maxPaths = 4096
	// quiet is how long a path that was looked at must be left alone before it is
	// looked at again, longest how long that can be put off.
	quiet   = 50 * time.Millisecond
	longest = 500 * time.Millisecond
	// sweep is how often the paths that were looked at before are gone through.
	sweep = 25 * time.Millisecond
	// rest is the wait when nothing is due.
	rest = time.Hour
)

// pending is one path.
type pending struct {
	origin fanotify.Origin
	first  time.Time // event since it was looked at; zero: none
	last   time.Time
	looked time.Time // zero: not yet
}

// due is when it is looked at again: when it is left alone; zero: not again.
func (p *pending) due() time.Time {
	if p.first.IsZero() {
		return time.Time{}
	}
	due := p.last.Add(quiet)
	if bound := p.first.Add(longest); due.After(bound) {
		due = bound
	}
	return due
}

// visit is a path to be looked at, with who was seen to change it.
type visit struct {
	path   string
	origin fanotify.Origin
}

// queue holds paths until they are looked at: new ones in the order in which they
// came, and those that were looked at a moment ago.
type queue struct {
	mu    sync.Mutex
	paths map[string]*pending
	fresh []string // in paths, not looked at yet
	swept time.Time
	wake  chan struct{}
}

func newQueue() *queue {
	return &queue{paths: make(map[string]*pending), wake: make(chan struct{}, 1)}
}

// push notes that something happened at a path; false: there is no room.
func (q *queue) push(name string, origin fanotify.Origin, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	p, ok := q.paths[name]
	if !ok {
		if len(q.paths) >= maxPaths {
			return false
		}
		p = &pending{}
		q.paths[name] = p
		q.fresh = append(q.fresh, name)
		q.nudge()
	}
	if p.first.IsZero() {
		p.first = now
	}
	p.last = now
	if origin.Exe != "" || p.origin.PID == 0 {
		p.origin = origin
	}
	return true
}

// nudge has the queue looked at now.
func (q *queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take gives the paths that are due, and how long to wait where there are none.
// Paths that nothing happened at for a while are forgotten.
func (q *queue) take(now time.Time) (due []visit, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	give := func(name string, p *pending) {
		due = append(due, visit{name, p.origin})
		p.first, p.looked, p.origin = time.Time{}, now, fanotify.Origin{}
	}
	for _, name := range q.fresh {
		give(name, q.paths[name])
	}
	q.fresh = q.fresh[:0]
	switch {
	case len(q.paths) == 0:
		return nil, rest
	case now.Sub(q.swept) < sweep:
		return due, sweep - now.Sub(q.swept)
	}
	q.swept = now
	for name, p := range q.paths {
		switch when := p.due(); {
		case when.IsZero() && now.Sub(p.looked) >= longest:
			delete(q.paths, name)
		case !when.IsZero() && !when.After(now):
			give(name, p)
		}
	}
	return due, sweep
}
