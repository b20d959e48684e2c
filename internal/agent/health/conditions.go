package health

import (
	"context"
	"sort"
	"sync"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Reader reads the journal by cursor.
type Reader interface {
	// Events returns up to limit events after a sequence number, oldest first,
	// and the sequence number to go on from.
	Events(ctx context.Context, after uint64, limit int) ([]event.Decoded, uint64, error)
	// Wait returns when there is an event after the sequence number.
	Wait(ctx context.Context, after uint64) error
}

// maxConditions bounds what is kept in memory; a device has some dozens.
const maxConditions = 512

// batch is how many events are read at once.
const batch = 128

// Condition is a finding that lasts.
type Condition struct {
	finding.Finding
	Subject      string           // what tells it from others of its code
	Acknowledged *Acknowledgement // nil: nobody has acknowledged it
}

// Acknowledgement says that somebody at the device has seen a condition.
type Acknowledgement struct {
	Time time.Time // wall clock, for people
	By   string    // the role: event.ByRoot, event.ByService
}

// Conditions is what holds on the device in this boot: it follows the journal,
// adds what is raised, notes what is acknowledged and takes away what is cleared.
// An acknowledgement is of the condition as it was raised: it lasts while that
// holds, also when it is raised again in the meantime, and is gone when it is
// cleared. It does not outlive the daemon either: behind a start every condition
// is found anew, and whether it held in between nobody knows.
type Conditions struct {
	journal Reader
	boot    string

	acknowledging sync.Mutex // one at a time

	mu        sync.Mutex
	active    map[string]Condition
	order     map[string]uint64
	incidents []finding.Finding
	dropped   int
}

// NewConditions follows the journal's events of one boot.
func NewConditions(journal Reader, boot string) *Conditions {
	return &Conditions{journal: journal, boot: boot, active: make(map[string]Condition), order: make(map[string]uint64)}
}

// Run follows the journal until ctx ends.
func (c *Conditions) Run(ctx context.Context, alive func()) error {
	var cursor uint64
	for ctx.Err() == nil {
		events, next, err := c.journal.Events(ctx, cursor, batch)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		alive()
		for _, e := range events {
			c.add(e)
		}
		if next != cursor {
			cursor = next
			continue
		}
		if err := c.journal.Wait(ctx, cursor); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (c *Conditions) add(e event.Decoded) {
	if e.Boot != c.boot {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Type == event.DaemonStarted {
		// What a daemon that was killed had raised may have healed since; the
		// roles raise anew what still holds.
		clear(c.active)
		clear(c.order)
		return
	}
	if e.Finding == nil {
		return
	}
	key := string(e.Finding.Code) + "\x00" + e.Subject
	switch e.Type {
	case event.FindingRaised:
		held, known := c.active[key]
		if !known && len(c.active) >= maxConditions {
			c.dropped++
			return
		}
		c.active[key], c.order[key] = Condition{Finding: *e.Finding, Subject: e.Subject, Acknowledged: held.Acknowledged}, e.Sequence
	case event.FindingAcknowledged:
		held, known := c.active[key]
		if !known {
			return
		}
		a, _ := event.ParseAcknowledgement(e.Report) // without a role it is one all the same
		held.Acknowledged = &Acknowledgement{Time: e.Time, By: a.By}
		c.active[key] = held
	case event.FindingCleared:
		delete(c.active, key)
		delete(c.order, key)
	case event.FindingIncident:
		if len(c.incidents) >= maxConditions {
			c.dropped++
			return
		}
		c.incidents = append(c.incidents, *e.Finding)
	}
}

// Active lists the conditions that hold, gravest first, and then the incidents
// of this boot in their order.
func (c *Conditions) Active() (conditions []Condition, incidents []finding.Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]string, 0, len(c.active))
	for k := range c.active {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		a, b := c.active[keys[i]], c.active[keys[j]]
		if a.Severity != b.Severity {
			return a.Severity > b.Severity
		}
		return c.order[keys[i]] < c.order[keys[j]]
	})
	for _, k := range keys {
		conditions = append(conditions, c.active[k])
	}
	return conditions, append([]finding.Finding(nil), c.incidents...)
}
