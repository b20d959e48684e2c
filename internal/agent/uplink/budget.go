package uplink

import (
	"context"
	"fmt"
	"math"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// DefaultDailyBytes is twice the default journal: a device that was cut off
	// until its journal was full sends all of it in a day, and its evidence. It is
	// 64 times an idle day.
	DefaultDailyBytes = 32 << 20
	// budgetDay is what the budget is counted over, by the monotonic clock: a clock
	// that is set moves it nowhere.
	budgetDay = 24 * time.Hour
	// sparePercent of the budget leave the rest to events: evidence that nobody
	// asked for stops.
	sparePercent = 80
	// hardStop times the budget end what the grave events may still take, and with
	// them those before them.
	hardStop = 2
	// messageCost is what a message takes beside its topic and payload, in bytes:
	// MQTT's header, topic length and packet id (8), a websocket frame's header (8)
	// and what a TLS record adds (22, RFC 8446, section 5.2). Pings, handshakes and
	// what TCP and IP add are not counted: docs/link.md has them.
	messageCost = 38
	// answerCost is what the acknowledgement of a message from above takes, likewise.
	answerCost = 4 + 6 + 22
	// lookPause is the wait between two looks at records that are held back, so
	// that a long journal is not looked through in one go.
	lookPause = time.Millisecond
)

// budget counts what goes up in a day, and holds records back when that is spent.
//
// The fleet takes records only in their order, so none can go before another.
// Records wait, therefore, until one of high or critical severity is among them;
// then all go up to and including it, since the fleet could not take it else. At
// hardStop times the budget nothing goes but the status, which says that the device
// is there. What waits stays in the journal, under the journal's own rules.
//
// The count begins anew with the daemon: to keep it would cost writes to flash, and
// a reboot tells nothing about how long the device was off.
type budget struct {
	daily uint64
	begun time.Time // of the day that runs
	spent uint64    // bytes in it
	full  condition

	looked uint64 // last record whose severity is known
	grave  uint64 // last one of them that is high or critical
}

func (b *budget) over() bool    { return b.spent >= b.daily }
func (b *budget) sparing() bool { return b.spent >= b.daily/100*sparePercent }
func (b *budget) stopped() bool { return b.spent >= hardStop*b.daily }

// last is the last record that may go up.
func (b *budget) last() uint64 {
	switch {
	case b.stopped():
		return 0
	case b.over():
		return b.grave
	}
	return math.MaxUint64
}

// spend counts bytes that go out.
func (u *Uplink) spend(bytes int) {
	u.budget.spent += uint64(bytes)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.SentToday = u.budget.spent
}

// weigh begins a new day when the old one is over, and says when the budget is
// spent.
func (u *Uplink) weigh(ctx context.Context, now time.Time) {
	b := &u.budget
	if days := now.Sub(b.begun) / budgetDay; days > 0 {
		b.begun, b.spent = b.begun.Add(days*budgetDay), 0
		u.mu.Lock()
		u.status.SentToday = 0
		u.mu.Unlock()
		b.full.clear(ctx, u)
	}
	if b.over() {
		b.full.raise(ctx, u, finding.New(finding.LinkBudgetSpent, fmt.Sprintf("%d bytes of %d a day; the next day begins in %s",
			b.spent, b.daily, b.begun.Add(budgetDay).Sub(now).Round(time.Minute))))
	}
}

// hold looks for the next grave record among those that the budget holds back.
func (s *session) hold(ctx context.Context, acknowledged uint64) {
	b := &s.u.budget
	if b.stopped() {
		return // until the next day
	}
	b.looked = max(b.looked, acknowledged)
	records, err := s.u.config.Journal.Read(ctx, b.looked, readBatch)
	if err != nil {
		if ctx.Err() == nil {
			s.stumble("read journal", err)
		}
		return
	}
	for _, r := range records {
		if b.looked = r.Sequence; isGrave(r) {
			b.grave = r.Sequence
		}
	}
	if len(records) == 0 {
		s.await(ctx, b.looked)
		return
	}
	s.again = time.After(lookPause)
}

// isGrave: a record that lost its content cannot be.
func isGrave(r event.Record) bool {
	d, err := event.Parse(r.Bytes)
	return err == nil && d.Severity >= finding.High
}
