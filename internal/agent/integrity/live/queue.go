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
	// rest is the wait when nothing is due.
	rest = time.Hour
)

// pending is one path.
type pending struct {
	origin fanotify.Origin
	first  time.Time // event since it was looked at; zero: none
	last   time.Time
	looked time.Time // zero: never
}

// due is when it is looked at: at once for the first time, then when it is left
// alone; zero: not again.
func (p *pending) due() time.Time {
	switch {
	case p.first.IsZero():
		return time.Time{}
	case p.looked.IsZero():
		return p.first
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

// queue holds paths until they are looked at.
type queue struct {
	mu    sync.Mutex
	paths map[string]*pending
	wake  chan struct{}
}

func newQueue() *queue {
	return &queue{paths: make(map[string]*pending), wake: make(chan struct{}, 1)}
}

// push notes that something happened at a path; false: there is no room.
func (q *queue) push(name string, origin fanotify.Origin, now time.Time) bool {
	q.mu.Lock()
	p, ok := q.paths[name]
	if !ok {
		if len(q.paths) >= maxPaths {
			q.mu.Unlock()
			return false
		}
		p = &pending{}
		q.paths[name] = p
	}
	if p.first.IsZero() {
		p.first = now
	}
	p.last = now
	if origin.Exe != "" || p.origin.PID == 0 {
		p.origin = origin
	}
	q.mu.Unlock()
	q.nudge()
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
	wait = rest
	for name, p := range q.paths {
		when := p.due()
		switch {
		case when.IsZero() && now.Sub(p.looked) >= longest:
			delete(q.paths, name)
		case when.IsZero():
			wait = min(wait, longest-now.Sub(p.looked))
		case when.After(now):
			wait = min(wait, when.Sub(now))
		default:
			due = append(due, visit{name, p.origin})
			p.first, p.looked, p.origin = time.Time{}, now, fanotify.Origin{}
		}
	}
	return due, wait
}

// looked notes when paths were looked at.
func (q *queue) looked(done []visit, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, d := range done {
		if p, ok := q.paths[d.path]; ok {
			p.looked = now
		}
	}
}
