// Package intrusion holds the drills on the running device: what an attacker, a
// technician or a fault does to it between power-on and power-off, what the fleet
// is told of it and how soon, and what the field engineer reads at the bedside.
// They leave the device as it was, so that all of them share one boot.
package intrusion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ward/internal/agent/localapi"
	"ward/internal/fleet/ingest"
	"ward/internal/lab/control"
	"ward/internal/lab/stage"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// act is one thing that is done to the device.
type act struct {
	name, title string
	attack      string                                          // as the table of results names it
	before      func(ctx context.Context, s *stage.Stage) error // what is no attack yet; nil: nothing
	do          func(ctx context.Context, s *stage.Stage) error
	code        finding.Code
	or          finding.Code                                    // what another source tells of the same, whichever is first
	fits        func(f finding.Finding) bool                    // nil: every finding of the code
	after       func(ctx context.Context, s *stage.Stage) error // undoes it; nil: nothing to undo
	clears      bool                                            // the finding must be cleared when it is undone
}

// Drills are the drills of this package.
func Drills() []stage.Drill {
	var all []stage.Drill
	for _, a := range slices.Concat(fileActs(), kernelActs(), daemonActs()) {
		all = append(all, stage.Drill{Name: a.name, Title: a.title, Run: a.run})
	}
	return all
}

// run does what the act does, and waits until the fleet and the bedside are told.
func (a act) run(ctx context.Context, s *stage.Stage) (o stage.Outcome, err error) {
	if err := s.GoodBoot(ctx); err != nil {
		return o, err
	}
	if a.before != nil {
		if err := a.before(ctx, s); err != nil {
			return o, fmt.Errorf("prepare: %w", err)
		}
	}
	mark, begun := s.Fleet.Mark(), time.Now()
	s.Line.Say("attack", "%s", a.attack)
	err = a.do(ctx, s)
	if err == nil {
		o, err = a.seen(ctx, s, mark, begun)
	}
	undone := s.Fleet.Mark()
	if a.after != nil {
		if undo := a.after(ctx, s); undo != nil {
			return o, errors.Join(err, fmt.Errorf("put it right: %w", undo))
		}
	}
	if err != nil || !a.clears {
		return o, err
	}
	r, err := s.Await(ctx, undone, "the end of "+string(a.code), func(r ingest.Received) bool {
		return r.Kind == ingest.KindEvent && r.Event.Type == event.FindingCleared && r.Event.Finding.Code == a.code
	})
	if err == nil {
		s.Line.Say("fleet", "%s: %s cleared when it was put right", r.Device, a.code)
	}
	return o, err
}

// seen waits for the finding at the fleet and at the bedside.
func (a act) seen(ctx context.Context, s *stage.Stage, mark int, begun time.Time) (stage.Outcome, error) {
	r, err := s.Await(ctx, mark, string(a.code), func(r ingest.Received) bool {
		f := r.Finding
		if r.Kind == ingest.KindEvent && r.Event.Type != event.FindingCleared {
			f = r.Event.Finding
		}
		return f != nil && (f.Code == a.code || f.Code == a.or) && (a.fits == nil || a.fits(*f))
	})
	if err != nil {
		return stage.Outcome{}, err
	}
	f := r.Finding
	if r.Kind == ingest.KindEvent {
		f = r.Event.Finding
	}
	o := stage.Outcome{Attack: a.attack, Seen: strings.TrimSpace(string(f.Code) + " " + f.Path), After: r.At.Sub(begun)}
	s.Line.Say("fleet", "%s: %s, %s, after %d ms: %s", r.Device, o.Seen, f.Severity, o.After.Milliseconds(), f.Detail)
	if r.Kind != ingest.KindEvent {
		return o, nil // the fleet's own word: the device cannot tell it
	}
	told, err := bedside(ctx, s, *f)
	if err != nil {
		return o, err
	}
	s.Line.Say("bedside", "wardctl status: %s: %s", told.Code, told.Remedy)
	return o, nil
}

// bedside waits until wardctl on the device tells the finding.
func bedside(ctx context.Context, s *stage.Stage, want finding.Finding) (finding.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, stage.AlertTime)
	defer cancel()
	for {
		r, err := s.VM.Run(ctx, "/usr/bin/wardctl", "status", "--json")
		if err != nil {
			return finding.Finding{}, err
		}
		var st localapi.Status
		if err := json.Unmarshal(r.Stdout, &st); err == nil {
			for _, c := range st.Findings {
				if c.Code == want.Code && c.Remedy != "" {
					return c.Finding, nil
				}
			}
			for _, f := range st.Incidents {
				if f.Code == want.Code && f.Path == want.Path && f.Remedy != "" {
					return f, nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return finding.Finding{}, fmt.Errorf("wardctl status does not tell %s: %s%s", want.Code, r.Stdout, r.Stderr)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// intruder is where the drills' own program lies on the device, at a place from
// which the watch has seen it run before the first drill counts.
const intruder = "/run/intruder"

// usage is the intruder's exit status without a verb.
const usage = 2

// ready puts the intruder on the device and has it run once, so that what is told
// of it is told before the drill.
func ready(ctx context.Context, s *stage.Stage) error {
	if r, err := s.VM.Run(ctx, intruder); err == nil && r.Exit == usage {
		return nil // it is there
	}
	program, err := s.GuestProgram(ctx, "intruder")
	if err != nil {
		return err
	}
	mark := s.Fleet.Mark()
	if err := s.VM.Put(ctx, intruder, 0o755, program); err != nil {
		return err
	}
	if _, err := s.VM.Run(ctx, intruder); err != nil {
		return err
	}
	_, err = s.Await(ctx, mark, "the intruder's first run", func(r ingest.Received) bool {
		f := r.Event.Finding
		return r.Kind == ingest.KindEvent && f != nil && (f.Code == finding.IMAUnknownFile || f.Code == finding.ExecUnknownFile)
	})
	return err
}

// intrude runs a verb of the intruder to its end.
func intrude(ctx context.Context, s *stage.Stage, args ...string) (string, error) {
	r, err := s.VM.Run(ctx, append([]string{intruder}, args...)...)
	if err != nil {
		return "", err
	}
	if r.Exit != 0 {
		return "", fmt.Errorf("intruder %s: exit status %d: %s", args[0], r.Exit, r.Stderr)
	}
	return strings.TrimSpace(string(r.Stdout)), nil
}

// lasting begins a verb that goes on for a while behind the drill.
func lasting(ctx context.Context, s *stage.Stage, limit time.Duration, args ...string) {
	vm := s.VM
	go func() {
		_, _ = vm.Do(ctx, control.Request{Argv: append([]string{intruder}, args...), TimeoutMS: limit.Milliseconds()})
	}()
}

// command runs a command of the device's user land as root; one that fails is an
// error.
func command(ctx context.Context, s *stage.Stage, argv ...string) error {
	r, err := s.VM.Run(ctx, argv...)
	if err != nil {
		return err
	}
	if r.Exit != 0 {
		return fmt.Errorf("%s: exit status %d: %s", argv[0], r.Exit, r.Stderr)
	}
	return nil
}

// daemon is the process id of wardd.
func daemon(ctx context.Context, s *stage.Stage) (int, error) {
	r, err := s.VM.Do(ctx, control.Request{Argv: []string{control.VerbServices}})
	if err != nil {
		return 0, err
	}
	var services []control.Service
	if err := json.Unmarshal(r.Stdout, &services); err != nil {
		return 0, fmt.Errorf("read services: %w", err)
	}
	for _, v := range services {
		if v.Name == "wardd" && v.PID != 0 {
			return v.PID, nil
		}
	}
	return 0, errors.New("wardd does not run")
}
