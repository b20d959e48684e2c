// Package bedside is the roles about who works on a device and what is plugged in, as
// the daemon wires them: logins, service mode, emergency access, the therapy lease and
// USB, with their actions and their part of the status on the local socket.
package bedside

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"ward/internal/agent/access"
	"ward/internal/agent/access/breakglass"
	"ward/internal/agent/access/servicemode"
	"ward/internal/agent/hotplug"
	"ward/internal/agent/lease"
	"ward/internal/agent/localapi"
	"ward/internal/device/audit"
	"ward/internal/device/bootclock"
	"ward/internal/device/uevent"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config is what the roles share.
type Config struct {
	State  string // folder of the daemon's own state
	Boot   string
	SysFS  fs.FS
	Policy func() watch.Policy
	First  func(ctx context.Context, subject string, f finding.Finding) bool // of incidents in this boot
	Hint   func(reason string)                                               // something changed that others look at
	Hide   func(text string) string                                          // a form that may leave the device
	Kept   func() error                                                      // why the record is not durable now

	Audit   *audit.Conn // nil: it cannot be heard
	Unheard error       // why not

	Recorder Recorder
	Alive    func(role string) func()
	Log      *slog.Logger
}

// Bedside is the roles.
type Bedside struct {
	Lease *lease.Leases

	logins  *access.Watch
	service *servicemode.Mode
	glass   *breakglass.Desk
	devices *hotplug.Watch
}

// New makes the roles.
func New(c Config) *Bedside {
	state := func(name string) string { return filepath.Join(c.State, name) }
	log := func(role string) *slog.Logger { return c.Log.With("role", role) }
	b := &Bedside{
		Lease: lease.New(lease.Config{
			Boot: c.Boot, Now: bootclock.Now, Max: func() time.Duration { return time.Duration(c.Policy().Lease.MaxSeconds) * time.Second },
			State: state("leases.json"), Recorder: c.Recorder, Alive: c.Alive("lease"), Log: log("lease"),
		}),
		service: servicemode.New(servicemode.Config{
			Boot: c.Boot, Now: bootclock.Now, State: state("service-mode.json"), Recorder: c.Recorder, Alive: c.Alive("service-mode"), Log: log("service-mode"),
		}),
		glass: breakglass.New(breakglass.Config{
			Notes: state("break-glass.json"), Kept: c.Kept, Recorder: c.Recorder, Alive: c.Alive("break-glass"), Log: log("break-glass"),
		}),
	}
	logins := access.Config{
		Missing: c.Unheard, Root: os.DirFS("/"), Boot: c.Boot, State: state("logins.json"), Hide: c.Hide, Recorder: c.Recorder, Alive: c.Alive("access"), Log: log("access"),
	}
	if c.Audit != nil {
		logins.Audit = c.Audit
	}
	b.logins = access.New(logins)
	b.devices = hotplug.New(hotplug.Config{
		Open: func() (hotplug.Source, error) { return uevent.Open() }, SysFS: c.SysFS, Policy: c.Policy, Service: b.service,
		Now: bootclock.Now, Hide: c.Hide, First: c.First, Hint: c.Hint, Recorder: c.Recorder, Alive: c.Alive("hotplug"), Log: log("hotplug"),
	})
	return b
}

// Role is one part to run.
type Role struct {
	Name string
	Run  func(ctx context.Context) error
}

// Roles are the parts to run. wait returns when the release is known that says what may
// be plugged in, or when it is not waited for any longer.
func (b *Bedside) Roles(wait func(ctx context.Context)) []Role {
	return []Role{
		{"lease", b.Lease.Run}, {"service-mode", b.service.Run}, {"break-glass", b.glass.Run}, {"access", b.logins.Run},
		{"hotplug", func(ctx context.Context) error {
			wait(ctx)
			return b.devices.Run(ctx)
		}},
	}
}

// Actions are what the local socket is asked for.
func (b *Bedside) Actions() []localapi.Action {
	return append(localapi.KeepLeases(b.Lease, refuseLease),
		localapi.SwitchServiceMode(func(ctx context.Context, by string, want localapi.ServiceModeRequest) (localapi.ServiceMode, error) {
			if !want.On {
				return describeService(b.service.End(ctx, by)), nil
			}
			s, err := b.service.Switch(ctx, by, want.Reason, time.Duration(max(0, min(want.Minutes, 1<<20)))*time.Minute)
			if err != nil {
				err = localapi.Refuse(http.StatusBadRequest, "%v", err)
			}
			return describeService(s), err
		}),
		localapi.ReportBreakGlass(func(ctx context.Context, by string, body []byte) localapi.BreakGlassAnswer {
			return localapi.BreakGlassAnswer(b.glass.Report(ctx, by, body))
		}),
		localapi.ListBreakGlass(func() ([]localapi.BreakGlassNote, error) {
			notes, err := b.glass.Notes()
			out := []localapi.BreakGlassNote{}
			for _, n := range notes {
				out = append(out, localapi.BreakGlassNote{ID: n.ID, Time: n.Time, By: n.By, BreakGlass: localapi.BreakGlass{Role: n.Role, Why: n.Why, Person: n.Person}})
			}
			return out, err
		}))
}

// refuseLease gives an error of a lease its status: 409 where somebody else stands in
// the way.
func refuseLease(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, lease.ErrOther), errors.Is(err, lease.ErrNone), errors.Is(err, lease.ErrFull):
		return localapi.Refuse(http.StatusConflict, "%v", err)
	}
	return localapi.Refuse(http.StatusBadRequest, "%v", err)
}

func describeService(s servicemode.Status) localapi.ServiceMode {
	out := localapi.ServiceMode{On: s.On, By: s.By, Reason: s.Reason, LeftSeconds: int64(s.Left.Seconds())}
	if s.On {
		out.Since = &s.Since
	}
	return out
}

// Describe is what the local socket tells of them.
func (b *Bedside) Describe(s *localapi.Status) {
	logins := b.logins.Status()
	s.Access = localapi.Access{Logins: logins.Source, Detail: logins.Detail, Service: describeService(b.service.Status()), Leases: []localapi.Lease{}}
	held, now := b.Lease.List()
	for _, l := range held {
		s.Access.Leases = append(s.Access.Leases, localapi.Lease{
			Holder: l.Holder, User: l.UID, HeldSeconds: int64((now - l.Since).Seconds()), LeftSeconds: int64((l.Until - now).Seconds()),
		})
	}
	s.Devices = []localapi.Device{}
	for _, u := range b.devices.Present() {
		s.Devices = append(s.Devices, localapi.Device{
			Port: u.Port, Class: u.Class, Vendor: u.Vendor, Product: u.Product, Name: event.Visible(u.UntrustedMaker + " " + u.UntrustedName), Expected: u.Expected,
		})
	}
}
