package anchor

import (
	"context"
	"fmt"
	"time"

	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// batch is how many records are read at once.
const batch = 64

// follow reads the journal behind what is certified and notes what is new.
func (a *Anchor) follow(ctx context.Context, cursor uint64) {
	for ctx.Err() == nil {
		next, err := a.look(ctx, cursor)
		if err != nil {
			a.c.Log.Debug("follow the journal", "error", err)
			next = cursor
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		if cursor = next; a.c.Journal.Wait(ctx, cursor) != nil {
			return
		}
	}
}

// look reads what stands behind a cursor, and wakes Run where there is something.
func (a *Anchor) look(ctx context.Context, cursor uint64) (uint64, error) {
	for {
		records, err := a.c.Journal.Read(ctx, cursor, batch)
		if err != nil || len(records) == 0 {
			return cursor, err
		}
		for _, r := range records {
			cursor = r.Sequence
			if isCheckpoint(r) {
				continue
			}
			// A record that lost its content, or that cannot be read, is news of
			// an unknown kind.
			var severity finding.Severity
			if e, err := event.Parse(r.Bytes); err == nil {
				severity = e.Severity
			}
			a.mu.Lock()
			a.seen = r.Sequence
			if severity >= finding.High {
				if a.grave <= a.anchored {
					a.since = time.Now() // the first that is not certified
				}
				a.grave = r.Sequence
			}
			a.mu.Unlock()
		}
		select {
		case a.news <- struct{}{}:
		default:
		}
	}
}

// uncertified says what is not certified yet: anything, and something grave, with the
// time when it was seen.
func (a *Anchor) uncertified() (news, grave bool, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen > a.anchored, a.grave > a.anchored, a.since
}

// orderlyAt is when the next checkpoint of the everyday counter is due; false while
// there is nothing to certify.
func (a *Anchor) orderlyAt() (time.Time, bool) {
	news, grave, since := a.uncertified()
	at := a.lastOrderly.Add(orderlyEvery)
	if grave {
		if urgent := later(since.Add(urgentAfter), a.lastOrderly.Add(urgentEvery)); urgent.Before(at) {
			at = urgent
		}
	}
	return at, news
}

func (a *Anchor) orderlyDue(now time.Time) bool {
	at, due := a.orderlyAt()
	return due && !now.Before(at)
}

func later(x, y time.Time) time.Time {
	if x.After(y) {
		return x
	}
	return y
}

// wait returns when something is due, was asked for, or may have become due, at the
// latest after aliveEvery.
func (a *Anchor) wait(ctx context.Context, begun bool) {
	limit := aliveEvery
	if begun {
		due := a.durableAt
		if at, news := a.orderlyAt(); news && at.Before(due) {
			due = at
		}
		limit = min(limit, max(0, time.Until(later(due, a.retryAt))))
	} else {
		limit = min(limit, max(0, time.Until(a.retryAt)))
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-a.news:
	case r := <-a.asked:
		r <- a.answer(ctx, begun)
	}
}

// answer takes the checkpoint that somebody asked for.
func (a *Anchor) answer(ctx context.Context, begun bool) answer {
	if !a.lastAsked.IsZero() && time.Since(a.lastAsked) < askEvery {
		return answer{err: ErrTooSoon}
	}
	a.lastAsked = time.Now()
	var out answer
	if !begun {
		// Run begins at its own pace; why it could not so far is what is to be told.
		out.err = ErrNotYet
		if why := a.Status().Missing; why != "" {
			out.err = fmt.Errorf("%w: %s", ErrNotYet, why)
		}
		return out
	}
	a.try(ctx, func(ctx context.Context) error {
		out.record, out.err = a.take(ctx, checkpoint.Orderly, nil)
		return out.err
	})
	return out
}

// farewell certifies the last events at an orderly stop.
func (a *Anchor) farewell(ctx context.Context) {
	if a.lastOrderly.IsZero() || a.failures > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
	defer cancel()
	a.mu.Lock()
	cursor := max(a.seen, a.anchored)
	a.mu.Unlock()
	// The daemon records that it stops at this moment.
	events, cancelWait := context.WithTimeout(ctx, stopEvents)
	defer cancelWait()
	for !a.stopSeen(events, cursor) {
		if a.c.Journal.Wait(events, cursor) != nil {
			break
		}
		next, err := a.look(ctx, cursor)
		if err != nil || next == cursor {
			break
		}
		cursor = next
	}
	if news, _, _ := a.uncertified(); !news {
		return
	}
	if _, err := a.take(ctx, checkpoint.Orderly, nil); err != nil {
		a.c.Log.Warn("take checkpoint at the stop", "error", err)
	}
}

// stopSeen says whether the newest record says that the daemon stops.
func (a *Anchor) stopSeen(ctx context.Context, cursor uint64) bool {
	if cursor == 0 {
		return false
	}
	records, err := a.c.Journal.Read(ctx, cursor-1, 1)
	if err != nil || len(records) == 0 {
		return false
	}
	e, err := event.Parse(records[0].Bytes)
	return err == nil && e.Type == event.DaemonStopped
}
