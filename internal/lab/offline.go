package lab

import (
	"context"
	"fmt"
	"time"

	"ward/internal/lab/archive"
	"ward/internal/lab/control"
	"ward/internal/lab/stage"
	"ward/internal/lab/works"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// A week of a busy device that nobody listens to: more than its journal holds.
const (
	weekDays   = 7
	weekPerDay = 4200
	weekTime   = 10 * time.Minute
)

// weekOffline boots the device without a network, with a week of records that the
// fleet never had: more than the journal may take. The device must say so, give up
// content of what is least grave, and stay within its bound; with the network back
// every record must arrive once and in order.
func weekOffline(ctx context.Context, s *stage.Stage) (Outcome, error) {
	mark := s.Fleet.Mark()
	if err := s.GoodBoot(ctx); err != nil { // it has enrolled, and its record has begun
		return Outcome{}, err
	}
	if err := s.PowerOff(ctx); err != nil {
		return Outcome{}, err
	}
	c := s.VMConfig()
	c.NoNetwork = true
	var err error
	if s.VM, err = s.Start(ctx, c); err != nil {
		return Outcome{}, fmt.Errorf("boot without a network: %w", err)
	}
	if err := service(ctx, s, control.VerbStop); err != nil {
		return Outcome{}, err
	}
	dir := s.File("week")
	if err := archive.Pull(ctx, s.VM, dir); err != nil {
		return Outcome{}, err
	}
	newest, err := archive.Week(dir, event.Source{Tenant: works.Tenant, Device: stage.DeviceID}, weekDays, weekPerDay)
	if err != nil {
		return Outcome{}, err
	}
	if err := archive.Push(ctx, s.VM, dir); err != nil {
		return Outcome{}, err
	}
	s.Line.Say("device", "no network; its journal ends with record %d after a week of %d events a day", newest, weekPerDay)
	if err := service(ctx, s, control.VerbStart); err != nil {
		return Outcome{}, err
	}
	full, err := overflowed(ctx, s)
	if err != nil {
		return Outcome{}, err
	}
	s.Line.Say("device", "at the bedside: %s; %d of at most %d bytes", full.Detail, full.bytes, full.most)
	if err := s.PowerOff(ctx); err != nil {
		return Outcome{}, err
	}
	s.VM = nil
	begun := time.Now()
	if err := s.Boot(ctx); err != nil { // its verdict comes behind the week
		return Outcome{}, fmt.Errorf("boot with the network back: %w", err)
	}
	st, err := confirmed(ctx, s, weekTime)
	if err != nil {
		return Outcome{}, err
	}
	took := time.Since(begun)
	f, err := follow(s.Fleet.Received(mark), st.Journal.Epoch)
	if err != nil {
		return Outcome{}, s.Explain(err)
	}
	if f.first != 1 || f.last < newest || f.shed == 0 {
		return Outcome{}, fmt.Errorf("the fleet has records %d to %d, %d without content; the week ended with %d", f.first, f.last, f.shed, newest)
	}
	return Outcome{Attack: "a week offline", After: took, Seen: fmt.Sprintf("%d records once and in order, %d of them without content (%s)", f.last, f.shed, finding.JournalOverflow)}, nil
}

// overflow is what the device says of a full journal.
type overflow struct {
	finding.Finding
	bytes, most int64
}

// overflowed waits until the device says that events lost their content, and
// wants its journal within its bound.
func overflowed(ctx context.Context, s *stage.Stage) (overflow, error) {
	ctx, cancel := context.WithTimeout(ctx, stage.AlertTime)
	defer cancel()
	for {
		st, err := bedsideJournal(ctx, s)
		if err == nil {
			for _, f := range st.Incidents {
				// The open segment comes on top of the bound.
				if f.Code == finding.JournalOverflow && st.Journal.Bytes <= st.Journal.MaxBytes+(1<<20) {
					return overflow{f, st.Journal.Bytes, st.Journal.MaxBytes}, nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return overflow{}, s.Explain(fmt.Errorf("the device does not say that its journal is full: %+v, %+v", st.Journal, st.Incidents))
		case <-time.After(time.Second):
		}
	}
}
