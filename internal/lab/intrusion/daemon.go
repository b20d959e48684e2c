package intrusion

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"ward/internal/lab/stage"
	"ward/internal/trust/finding"
)

// events is how many file events the flood makes: more than the kernel keeps in
// the queue of one group (fanotify(7): 16384).
const events = 20_000 // the kernel merges what happens to one file

// signal sends a signal to wardd, as root on the device can.
func signal(ctx context.Context, s *stage.Stage, number syscall.Signal) error {
	pid, err := daemon(ctx, s)
	if err != nil {
		return err
	}
	_, err = intrude(ctx, s, "signal", strconv.Itoa(pid), strconv.Itoa(int(number)))
	return err
}

// overflow floods the queue of file events while wardd cannot read it.
func overflow(ctx context.Context, s *stage.Stage) error {
	if err := signal(ctx, s, syscall.SIGSTOP); err != nil {
		return err
	}
	said, err := intrude(ctx, s, "flood", "/data/app", strconv.Itoa(events))
	if err == nil {
		s.Line.Say("device", "while wardd is stopped: %s", said)
	}
	if cont := signal(ctx, s, syscall.SIGCONT); err == nil {
		err = cont
	}
	return err
}

// stopped stops wardd as SIGSTOP does, and lets it stand still.
func stopped(ctx context.Context, s *stage.Stage) error { return signal(ctx, s, syscall.SIGSTOP) }

// restarted waits until the device's init has started wardd anew, and the fleet
// hears it again.
func restarted(ctx context.Context, s *stage.Stage) error {
	mark := s.Fleet.Mark()
	if _, err := s.AwaitBirth(ctx, mark); err != nil {
		return err
	}
	r, err := s.AwaitFinding(ctx, mark, string(finding.SelfKilled), "")
	if err != nil {
		return err
	}
	s.Line.Say("fleet", "%s is back: %s: %s", r.Device, r.Event.Finding.Code, r.Event.Finding.Detail)
	return nil
}

// traced attaches to wardd as a debugger does.
func traced(ctx context.Context, s *stage.Stage) error {
	pid, err := daemon(ctx, s)
	if err != nil {
		return err
	}
	lasting(ctx, s, 45*time.Second, "trace", fmt.Sprint(pid))
	return nil
}

// daemonActs are attacks on the daemon itself.
func daemonActs() []act {
	return []act{
		{
			name: "queue-overflow", title: "more happens than the kernel can tell: the queue of file events overflows",
			attack: "event queue overflows", before: ready, do: overflow,
			code: finding.WatchOverflow,
		},
		{
			name: "daemon-traced", title: "a debugger is attached to wardd",
			attack: "wardd traced", before: ready, do: traced,
			code: finding.SelfTraced,
		},
		{
			name: "daemon-stopped", title: "wardd is stopped: the fleet hears its silence, and the device's init starts it anew",
			attack: "wardd stopped", before: ready, do: stopped, after: restarted,
			code: finding.LinkSilence,
		},
	}
}
