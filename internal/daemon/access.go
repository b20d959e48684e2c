package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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
	"ward/internal/device/bootclock"
	"ward/internal/device/statefile"
	"ward/internal/device/uevent"
	"ward/internal/trust/event"
	policy "ward/internal/trust/watch"
)

// people are the roles about who works on the device and what is plugged in.
type people struct {
	logins  *access.Watch
	service *servicemode.Mode
	glass   *breakglass.Desk
	leases  *lease.Leases
	devices *hotplug.Watch
}

// assembleAccess makes the roles about who works on the device and what is plugged in.
func (d *daemon) assembleAccess(boot *bootState) *people {
	state := func(name string) string { return filepath.Join(d.config.Paths.State, name) }
	hide := d.hider(state("salt"))
	p := &people{
		service: servicemode.New(servicemode.Config{
			Boot: d.boot, Now: bootclock.Now, State: state("service-mode.json"), Recorder: d.recorder, Alive: d.alive("service-mode"), Log: d.log.With("role", "service-mode"),
		}),
		glass: breakglass.New(breakglass.Config{
			Notes: state("break-glass.json"), Kept: d.kept, Recorder: d.recorder, Alive: d.alive("break-glass"), Log: d.log.With("role", "break-glass"),
		}),
		leases: lease.New(lease.Config{
			Boot: d.boot, Now: bootclock.Now, Max: func() time.Duration { return time.Duration(boot.watched().Lease.MaxSeconds) * time.Second },
			State: state("leases.json"), Recorder: d.recorder, Alive: d.alive("lease"), Log: d.log.With("role", "lease"),
		}),
	}
	c := access.Config{
		Missing: d.early.Unheard, Root: os.DirFS("/"), Boot: d.boot, State: state("logins.json"), Hide: hide, Recorder: d.recorder, Alive: d.alive("access"), Log: d.log.With("role", "access"),
	}
	if d.early.Audit != nil {
		c.Audit = d.early.Audit
	}
	p.logins = access.New(c)
	p.devices = hotplug.New(hotplug.Config{
		Open: func() (hotplug.Source, error) { return uevent.Open() }, SysFS: os.DirFS(d.config.Paths.SysFS), Policy: boot.watched, Service: p.service,
		Now: bootclock.Now, Hide: hide, First: boot.told.First, Hint: boot.posture.Look, Recorder: d.recorder, Alive: d.alive("hotplug"), Log: d.log.With("role", "hotplug"),
	})
	d.add("service-mode", fastBound, p.service.Run)
	d.add("break-glass", fastBound, p.glass.Run)
	d.add("lease", fastBound, p.leases.Run)
	d.add("access", fastBound, p.logins.Run)
	d.add("hotplug", slowBound, func(ctx context.Context) error {
		boot.wait(ctx, birthWait) // the release says what may be plugged in
		return p.devices.Run(ctx)
	})
	return p
}

// watched is how the release wants the device to be watched; the default while none is
// verified.
func (b *bootState) watched() policy.Policy {
	if s, _ := b.attester.Latest(); s.Release != nil {
		return s.Release.Manifest().Watch.Complete()
	}
	return policy.Default()
}

// kept says why the record is not durable now; nil: it is.
func (d *daemon) kept() error {
	if d.unkept != nil {
		return d.unkept
	}
	if e := d.journal.Status().Error; e != "" {
		return errors.New(e)
	}
	return nil
}

// hider gives a text a form that may leave the device: the same text has the same form
// on this device, and another on others. The salt is made at the first start; where it
// cannot be kept, it lasts as long as the daemon.
func (d *daemon) hider(file string) func(text string) string {
	salt, err := statefile.Read(file)
	if err != nil || len(salt) < sha256.Size {
		salt = make([]byte, sha256.Size)
		_, _ = rand.Read(salt) // it never fails
		if err := statefile.Write(file, salt); err != nil {
			d.log.Warn("keep the salt of hidden names", "error", err)
		}
	}
	return func(text string) string {
		h := sha256.New()
		h.Write(salt)
		h.Write([]byte(text))
		return "~" + hex.EncodeToString(h.Sum(nil)[:6])
	}
}

// actions are what the local socket is asked for.
func (p *people) actions() []localapi.Action {
	return append(localapi.KeepLeases(p.leases, refuseLease),
		localapi.SwitchServiceMode(func(ctx context.Context, by string, want localapi.ServiceModeRequest) (localapi.ServiceMode, error) {
			if !want.On {
				return describeService(p.service.End(ctx, by)), nil
			}
			s, err := p.service.Switch(ctx, by, want.Reason, time.Duration(max(0, min(want.Minutes, 1<<20)))*time.Minute)
			if err != nil {
				err = localapi.Refuse(http.StatusBadRequest, "%v", err)
			}
			return describeService(s), err
		}),
		localapi.ReportBreakGlass(func(ctx context.Context, by string, body []byte) localapi.BreakGlassAnswer {
			return localapi.BreakGlassAnswer(p.glass.Report(ctx, by, body))
		}),
		localapi.ListBreakGlass(func() ([]localapi.BreakGlassNote, error) {
			notes, err := p.glass.Notes()
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

// describe is what the local socket tells of them.
func (p *people) describe(s *localapi.Status) {
	logins := p.logins.Status()
	s.Access = localapi.Access{Logins: logins.Source, Detail: logins.Detail, Service: describeService(p.service.Status()), Leases: []localapi.Lease{}}
	held, now := p.leases.List()
	for _, l := range held {
		s.Access.Leases = append(s.Access.Leases, localapi.Lease{
			Holder: l.Holder, User: l.UID, HeldSeconds: int64((now - l.Since).Seconds()), LeftSeconds: int64((l.Until - now).Seconds()),
		})
	}
	s.Devices = []localapi.Device{}
	for _, u := range p.devices.Present() {
		s.Devices = append(s.Devices, localapi.Device{
			Port: u.Port, Class: u.Class, Vendor: u.Vendor, Product: u.Product, Name: event.Visible(u.UntrustedMaker + " " + u.UntrustedName), Expected: u.Expected,
		})
	}
}
