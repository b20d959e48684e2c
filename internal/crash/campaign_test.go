package crash

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// seedOf is what a campaign's choices are drawn from: WARD_SEED, or always the same.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(1)
	if text := os.Getenv("WARD_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		check(t, err)
	}
	t.Logf("WARD_SEED=%d", seed)
	return seed
}

// Phases of a run in which it is killed.
const (
	inStart = "start" // before it answers on its socket
	inLoad  = "load"  // while programs run that are not of the release
	inBurst = "burst" // right behind several of them
	inStop  = "stop"  // after it was asked to end
)

// campaign kills the daemon again and again and holds what remains against what
// was seen.
type campaign struct {
	w      *world
	book   *book
	rand   *rand.Rand
	kills  map[string]int
	fleets int // times that the fleet was begun anew
}

func newCampaign(t *testing.T) *campaign {
	w := newWorld(t)
	return &campaign{w: w, book: w.newBook(), rand: rand.New(rand.NewPCG(seedOf(t), 0)), kills: make(map[string]int)}
}

func (c *campaign) pause(least, most time.Duration) {
	time.Sleep(least + time.Duration(c.rand.Int64N(int64(most-least)+1)))
}

// round is one life of the daemon, and its end.
func (c *campaign) round(n int) {
	p, phase := c.w.start(), []string{inStart, inStart, inStart, inLoad, inLoad, inLoad, inLoad, inLoad, inBurst, inStop}[c.rand.IntN(10)]
	var durable uint64
	if phase == inStart {
		c.pause(0, 60*time.Millisecond)
	} else {
		durable = c.load(p)
	}
	switch phase {
	case inBurst:
		for range 3 {
			c.w.kernel.run()
		}
		c.pause(0, 100*time.Millisecond)
	case inStop:
		p.signal(syscall.SIGTERM)
		c.pause(0, 60*time.Millisecond)
	}
	p.kill()
	if phase == inStart && strings.Contains(p.log.String(), "msg=running") {
		phase = inLoad // it was quicker
	}
	c.kills[phase]++
	c.w.received(c.book)
	c.book.verify(fmt.Sprintf("kill %d in %s", n, phase), durable)
}

// load has programs run for a while and looks at the journal now and then. It
// returns the newest record that the daemon itself called durable.
func (c *campaign) load(p *process) (durable uint64) {
	for end := time.Now().Add(200*time.Millisecond + time.Duration(c.rand.Int64N(int64(1300*time.Millisecond)))); time.Now().Before(end); {
		c.pause(20*time.Millisecond, 400*time.Millisecond)
		c.w.kernel.run()
		switch c.rand.IntN(4) {
		case 0:
			c.book.look()
		case 1:
			if s, ok := p.status(); ok {
				durable = max(durable, s.Journal.Durable)
			}
		}
		if !p.alive() {
			c.w.t.Fatalf("wardd ended by itself: %v\n%s", p.err, p.log.String())
		}
	}
	return durable
}

// run is the whole campaign, with a last life in peace.
func (c *campaign) run(kills int) {
	t := c.w.t
	for n := range kills {
		if n%50 == 49 {
			c.w.fleet.stop()
			c.w.fleet.start()
			c.fleets++
		}
		c.round(n + 1)
		if t.Failed() {
			t.Fatalf("after %d kills", n+1)
		}
		if n%100 == 99 {
			t.Logf("%d kills, %d records", n+1, c.book.last)
		}
	}
	p := c.w.start()
	c.w.kernel.run()
	p.quiet()
	c.w.kernel.run() // one more, while nothing else happens
	p.quiet()
	p.kill() // what a farewell would add is not at the fleet before the next start
	c.w.received(c.book)
	c.book.verify("after a life in peace", 0)
	c.w.complete(c.book)
	c.w.told()
	c.tell()
}

func (c *campaign) tell() {
	t, w := c.w.t, c.w
	var phases []string
	all := 0
	for _, name := range slices.Sorted(maps.Keys(c.kills)) {
		phases = append(phases, fmt.Sprintf("%s %d", name, c.kills[name]))
		all += c.kills[name]
	}
	w.wire.mu.Lock()
	w.fleet.mu.Lock()
	defer w.wire.mu.Unlock()
	defer w.fleet.mu.Unlock()
	t.Logf("%d kills (%s), %d unfinished ends, the fleet begun anew %d times", all, strings.Join(phases, ", "), c.book.torn, c.fleets)
	t.Logf("%d programs ran, %d records in the journal, epoch %d", len(w.kernel.entries), c.book.last, c.book.epoch)
	t.Logf("on the wire %d events, %d of them again; at the fleet %d once, %d told twice; %d last wills, receipts up to %d",
		w.wire.events, w.wire.events-len(w.wire.seen), len(w.fleet.stored()), w.fleet.twice, w.fleet.lost, w.fleet.receipts)
}

// The short form of the campaign.
//
// Verifies: SR-073
func TestKilledDaemonLosesNothing(t *testing.T) {
	t.Parallel()
	newCampaign(t).run(5)
}
