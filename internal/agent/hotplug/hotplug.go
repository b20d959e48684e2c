// Package hotplug judges what is plugged in while the device runs, and what was there
// before: USB interfaces against the release's policy (package watch), network
// interfaces, serial adapters, disks. It tells errors of dm-verity, and hints to others
// that modules or disks have changed. It reports; it keeps nothing from being used
// (IEC 62443-4-2 EDR 2.13). Of what a device says of itself only its numbers leave:
// names may be a person's, serial numbers are salted digests.
package hotplug

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ward/internal/device/uevent"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

const (
	// rejudge is how often what is there is held against the policy in force: a release
	// may be verified later.
	rejudge = 10 * time.Second
	// retryEvery is the wait before a socket that failed is opened again.
	retryEvery = 5 * time.Second
	// settled is how long after the kernel's start the board's own interfaces may still
	// appear without being told as added.
	settled = 2 * time.Minute
	// maxPresent bounds the USB interfaces that are remembered; what is beyond is told
	// when it comes and not held against a later policy.
	maxPresent = 256
	// subject is that of the role's own findings.
	subject = "hotplug"
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Source says what the kernel says. Errors are device/uevent's.
type Source interface {
	Receive(ctx context.Context) (uevent.Message, error)
	Close() error
}

// Config of the role.
type Config struct {
	Open    func() (Source, error)
	SysFS   fs.FS
	Policy  func() watch.Policy
	Service interface { // service mode
		On() bool
		Changed() <-chan struct{}
	}
	Now func() time.Duration // since the kernel started
	// Hide gives a text that must not leave the device a form that may.
	Hide func(text string) string
	// First says whether an incident about a subject was not told in this boot yet; nil:
	// none was.
	First func(ctx context.Context, subject string, f finding.Finding) bool
	// Hint tells others that something changed of which they should take note: "module",
	// "block"; nil: nobody wants to know.
	Hint     func(reason string)
	Recorder Recorder
	Alive    func() // called at least every ten seconds
	Log      *slog.Logger
}

// Device is a USB interface that is there.
type Device struct {
	uevent.USB
	Expected bool // the policy allows it now
}

// Watch is the role.
type Watch struct {
	c Config

	mu      sync.Mutex
	present []Device

	blind string // why the condition of not hearing is raised; empty: it is not
}

// New makes the role; Run does its work.
func New(c Config) *Watch {
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.First == nil {
		c.First = func(context.Context, string, finding.Finding) bool { return true }
	}
	if c.Hint == nil {
		c.Hint = func(string) {}
	}
	return &Watch{c: c}
}

// Present lists the USB interfaces that are there, by port.
func (w *Watch) Present() []Device {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.present)
}

// said is what the source gave.
type said struct {
	message uevent.Message
	err     error
}

// Run judges until ctx ends. A source that fails is a condition, and is opened again.
func (w *Watch) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.see(ctx, err)
		w.enumerate(ctx)
		w.c.Alive()
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
	return nil
}

// follow takes messages until the source fails. What is there is listed when the
// source is open, so that nothing comes in between.
func (w *Watch) follow(ctx context.Context) error {
	source, err := w.c.Open()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	messages := make(chan said)
	var wg sync.WaitGroup
	defer func() { stop(); _ = source.Close(); wg.Wait() }()
	wg.Go(func() { listen(ctx, source, messages) })
	w.see(ctx, w.enumerate(ctx))
	t := time.NewTicker(rejudge)
	defer t.Stop()
	for {
		w.c.Alive()
		changed := w.c.Service.Changed()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-messages:
			switch {
			case m.err == nil:
				w.judge(ctx, m.message)
			case errors.Is(m.err, uevent.ErrLost):
				w.incident(ctx, subject, finding.HotplugEventsLost, "the kernel had more to say than was taken", "")
				w.see(ctx, w.enumerate(ctx))
				w.c.Hint("block")
				w.c.Hint("module")
			case errors.Is(m.err, uevent.ErrForm):
				w.c.Log.Debug("read uevent", "error", m.err)
			default:
				return m.err
			}
		case <-changed:
			w.rejudge(ctx)
		case <-t.C:
			w.rejudge(ctx)
		}
	}
}

func listen(ctx context.Context, from Source, to chan<- said) {
	for ctx.Err() == nil {
		m, err := from.Receive(ctx)
		select {
		case to <- said{m, err}:
		case <-ctx.Done():
			return
		}
		if err != nil && !errors.Is(err, uevent.ErrLost) && !errors.Is(err, uevent.ErrForm) {
			return
		}
	}
}

// see raises and clears the condition of not seeing what is plugged in.
func (w *Watch) see(ctx context.Context, err error) {
	switch {
	case err != nil && w.blind == "":
		w.blind = err.Error()
		w.condition(ctx, event.FindingRaised, subject, finding.HotplugNotWatched, w.blind, "")
	case err == nil && w.blind != "":
		w.blind = ""
		w.condition(ctx, event.FindingCleared, subject, finding.HotplugNotWatched, "the kernel is heard again", "")
	}
}

// judge tells what a message means. One that somebody asked the kernel for by sysfs, as
// udev does for every device when it starts, is about nothing that came or went.
func (w *Watch) judge(ctx context.Context, m uevent.Message) {
	if m.Synthetic() {
		return
	}
	switch m.Subsystem {
	case "usb":
		w.usb(ctx, m)
	case "net":
		w.network(ctx, m)
	case "tty":
		w.serial(ctx, m)
	case "block":
		w.block(ctx, m)
	case "module":
		w.c.Hint("module")
	}
}

// incident records what happened; found tells it from others about the subject.
func (w *Watch) incident(ctx context.Context, subject string, code finding.Code, detail, found string) {
	w.condition(ctx, event.FindingIncident, subject, code, detail, found)
}

func (w *Watch) condition(ctx context.Context, kind, subject string, code finding.Code, detail, found string) {
	f := finding.New(code, detail)
	f.Found = found
	w.record(ctx, event.Event{Type: kind, Subject: subject, Severity: f.Severity, Finding: &f})
}

// first says whether an incident was not told in this boot yet.
func (w *Watch) first(ctx context.Context, subject string, code finding.Code, found string) bool {
	f := finding.Finding{Code: code, Found: found}
	return w.c.First(ctx, subject, f)
}

func (w *Watch) record(ctx context.Context, e event.Event) {
	e.Time = time.Now()
	if err := w.c.Recorder.Record(ctx, e); err != nil {
		w.c.Log.Error("record event", "type", e.Type, "error", err)
	}
}
