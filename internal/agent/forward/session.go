package forward

import (
	"context"
	"fmt"
	"time"

	"ward/internal/format/syslog"
	"ward/internal/trust/finding"
)

// serve sends what the journal has until the connection or ctx ends. Everything
// happens in one goroutine, except the wait for the journal's next record.
func (s *Sink) serve(ctx context.Context, conn Connection) error {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	var (
		wake  = make(chan error, 1) // the journal's wait has ended
		again = time.After(0)       // when to read the journal
		woken bool
	)
	for {
		select {
		case <-ctx.Done():
			s.farewell(ctx, conn)
			return nil
		case <-conn.Done():
			return conn.Err()
		case <-tick.C: // by now a server that refuses the device has said so
			s.config.Alive()
			s.lastSeen = time.Now()
			s.clear(ctx)
			s.confirm(time.Now())
			s.save(false)
		case err := <-wake:
			if err != nil && ctx.Err() == nil {
				s.config.Log.Warn("wait for journal", "error", err)
				again = time.After(stumble)
				continue
			}
			again, woken = time.After(0), true
		case <-again:
			sent, err := s.fill(watch, conn)
			switch {
			case err != nil:
				return err
			case sent < 0:
				again = time.After(stumble)
			case sent > 0:
				again = time.After(time.Duration(sent) * pace)
			case woken:
				again = time.After(notYet)
			default:
				again = nil
				after := s.cursor
				go func() { wake <- s.config.Journal.Wait(watch, after) }()
			}
			woken = false
		}
	}
}

// fill sends a batch of records and returns how many; -1 for a journal that cannot
// be read, which has its own findings. The error is the connection's.
func (s *Sink) fill(ctx context.Context, conn Connection) (int, error) {
	records, err := s.config.Journal.Read(ctx, s.cursor, batch)
	if err != nil && len(records) == 0 {
		if ctx.Err() == nil {
			s.config.Log.Warn("read journal", "error", err)
		}
		return -1, nil
	}
	if len(records) > 0 && s.broken != "" && !s.announced {
		if err := s.send(conn, s.gap(finding.Medium, s.broken)); err != nil {
			return 0, err
		}
		s.announced = true
	}
	for i := range records {
		r := &records[i]
		if r.Sequence <= s.cursor {
			continue
		}
		if first := s.cursor + 1; r.Sequence > first {
			if err := s.send(conn, s.skipped(first, r.Sequence-1)); err != nil {
				return 0, err
			}
			s.lost(ctx, first, r.Sequence-1)
		}
		if err := s.send(conn, s.message(r)); err != nil {
			return 0, err
		}
		s.wrote(r.Sequence, time.Now())
	}
	s.known = s.known || len(records) > 0
	s.confirm(time.Now())
	return len(records), nil
}

// lost counts records that are not in the journal any more, and records the gap once:
// after a connection's end it is sent again.
func (s *Sink) lost(ctx context.Context, first, last uint64) {
	if last <= s.toldGap {
		return
	}
	s.toldGap = last
	s.mu.Lock()
	s.status.Skipped += last - first + 1
	s.mu.Unlock()
	if s.known {
		s.tell(ctx, fmt.Sprintf("records %d to %d of epoch %d were not sent to %s", first, last, s.config.Epoch, s.config.Name))
	}
}

func (s *Sink) send(conn Connection, e *syslog.Event) error {
	return conn.Send(s.config.Format(s.config.Origin, e))
}

// farewell sends what is left, as far as the time allows.
func (s *Sink) farewell(ctx context.Context, conn Connection) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTime)
	defer cancel()
	defer time.AfterFunc(farewellTime, conn.Close).Stop()
	if _, err := s.fill(ctx, conn); err != nil {
		s.config.Log.Debug("farewell", "error", err)
	}
}
