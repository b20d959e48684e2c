package identity

import (
	"time"

	"ward/internal/agent/identity/pace"
	"ward/internal/trust/enrolment"
)

// Status is the identity as others see it.
type Status struct {
	State    string // "ready", "faulty" or "starting"
	Tenant   string
	Device   string
	NotAfter *time.Time // of the reporting certificate
	Detail   string     // why it is faulty
	Uses     []UseStatus
	// Registrar is its address, empty for none; NextTry is when something is asked
	// of it again, after a failure.
	Registrar string
	NextTry   *time.Time
	Serial    string     // how the hardware's serial number compares
	CRL       *time.Time // when the revocation list was made
	CRLNext   *time.Time // when the next one is due
	Roots     int        // of the image and learned
	Learned   int        // of these, learned in the field
}

// UseStatus is the identity of one use.
type UseStatus struct {
	Use        enrolment.Use
	State      string // "connected", "issued" (not connected yet), "pending", "none"
	Generation int
	NotAfter   *time.Time
	DaysLeft   int
	RenewAt    *time.Time
	Pending    string // why there is none, or none newer
}

// Status says how the identity is.
func (r *Role) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Uses = append([]UseStatus(nil), s.Uses...)
	return s
}

// setPending says why a use has no certificate, or no newer one.
func (r *Role) setPending(use enrolment.Use, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[use] = why
}

// describe makes the status of what the last look and the last attempts gave.
func (r *Role) describe() {
	now := r.now()
	s := Status{State: "faulty", Tenant: r.config.Tenant, Device: r.config.Device, Registrar: r.config.Registrar}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Serial = r.status.Serial
	if r.fault != nil {
		s.Detail = r.fault.Error()
	} else if len(r.current) > 0 {
		s.State = "ready"
		end := r.current[len(r.current)-1].leaf().NotAfter
		s.NotAfter = &end
	}
	s.Roots, s.Learned = len(r.trust.roots), len(r.trust.learned)
	if l := r.trust.crl; l != nil {
		s.CRL = &l.ThisUpdate
		if !l.NextUpdate.IsZero() {
			s.CRLNext = &l.NextUpdate
		}
	}
	for _, t := range []task{taskReporting, taskService} {
		if r.tasks[t].Fails > 0 && time.Until(r.tasks[t].Next) > 0 && (s.NextTry == nil || r.tasks[t].Next.Before(*s.NextTry)) {
			next := r.tasks[t].Next.Round(time.Second)
			s.NextTry = &next
		}
	}
	s.Uses = []UseStatus{
		describeUse(enrolment.Reporting, r.reporting, r.waiting[enrolment.Reporting], now),
		describeUse(enrolment.Service, r.service, r.waiting[enrolment.Service], now),
	}
	r.status = s
}

func describeUse(use enrolment.Use, have []usable, waiting string, now time.Time) UseStatus {
	u := UseStatus{Use: use, State: "none", Pending: waiting}
	if len(have) == 0 {
		if waiting != "" {
			u.State = "pending"
		}
		return u
	}
	g := have[0]
	u.State, u.Generation = "issued", g.Number
	if g.Connected {
		u.State = "connected"
	}
	end, again := g.leaf().NotAfter, pace.RenewAt(g.leaf())
	u.NotAfter, u.RenewAt, u.DaysLeft = &end, &again, int(end.Sub(now)/(24*time.Hour))
	return u
}
