package registrar

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxSources bounds the addresses that are remembered: one that is forgotten
	// begins with a full measure again.
	maxSources = 8192
	// burst is for how many seconds' worth of requests may come at once.
	burst = 10
)

// measure is what may still come: it fills with time.
type measure struct {
	left float64
	at   time.Time
}

// take takes one, or says how long to wait for it.
func (m *measure) take(now time.Time, perSecond float64) time.Duration {
	m.fill(now, perSecond)
	if m.left < 1 {
		return time.Duration((1 - m.left) / perSecond * float64(time.Second))
	}
	m.left--
	return 0
}

func (m *measure) fill(now time.Time, perSecond float64) {
	if m.at.IsZero() {
		m.left = burst * perSecond
	}
	if passed := now.Sub(m.at).Seconds(); passed > 0 {
		m.left = min(m.left+passed*perSecond, burst*perSecond)
	}
	m.at = now
}

// limits bound requests, by their source and all together.
type limits struct {
	mu               sync.Mutex
	perSource, total float64 // requests a second
	all              measure
	sources          map[netip.Prefix]*measure
}

func newLimits(perSource, total int) limits {
	return limits{perSource: float64(perSource), total: float64(total), sources: make(map[netip.Prefix]*measure)}
}

// take counts one request, or says how long its source should wait.
func (l *limits) take(now time.Time, address string) time.Duration {
	source := sourceOf(address)
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.sources[source]
	if m == nil {
		if len(l.sources) >= maxSources {
			l.forget(now)
		}
		m = &measure{}
		l.sources[source] = m
	}
	if wait := m.take(now, l.perSource); wait > 0 {
		return wait
	}
	return l.all.take(now, l.total)
}

// forget drops the sources that were quiet, or some, when none was.
func (l *limits) forget(now time.Time) {
	for s, m := range l.sources {
		if m.fill(now, l.perSource); m.left >= burst*l.perSource {
			delete(l.sources, s)
		}
	}
	for s := range l.sources {
		if len(l.sources) < maxSources*3/4 {
			return
		}
		delete(l.sources, s)
	}
}

// sourceOf is a client's address; of IPv6 the network that one customer has.
func sourceOf(address string) netip.Prefix {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return netip.Prefix{}
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 32
	if a = a.Unmap().WithZone(""); a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
