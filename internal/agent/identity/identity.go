// Package identity is the device's name towards the fleet: the certificate of
// the reporting key (an IEEE 802.1AR LDevID), whose private part never leaves
// the TPM, and the fleet's own roots. Tenant and device id are the
// certificate's organisation and common name. What is wrong with it is said as
// a finding, and looked at again until it is mended.
package identity

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// CertificateFile is the reporting key's certificate in the state directory:
// PEM, leaf first.
const CertificateFile = "identity/reporting.crt"

const (
	// firstRetry and lastRetry bound the waits between two looks at a faulty
	// identity.
	firstRetry = time.Second
	lastRetry  = time.Minute
	// recheck is how often a good identity is looked at again, so that expiry
	// and a TPM that is gone are seen.
	recheck = time.Minute
	// subjectName is what the findings of this role are about.
	subjectName = "reporting-identity"
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Keys gives the reporting key of the TPM. Errors are device/tpm's.
type Keys interface {
	ReportingKey(ctx context.Context) (crypto.Signer, error)
}

// Config says where the identity lies.
type Config struct {
	State string // the state directory
	Trust string // the directory of the trust anchors; fleet/*.pem are its roots
	// Tenant and Device are what the journal was opened with; a certificate for
	// another name is used only after a restart.
	Tenant, Device string
	// Floor gives the earliest moment that a clock may show: the build time,
	// zero while it is not known. Nil: it never is.
	Floor    func() time.Time
	Keys     Keys
	Recorder Recorder
	Alive    func() // called at least once in two minutes; may be nil
	Log      *slog.Logger
}

// Identity is what is needed to connect.
type Identity struct {
	Tenant   string
	Device   string
	NotAfter time.Time
	TLS      *tls.Config // certificate, fleet roots, clock with its floor; no server name
}

// Status is the identity as others see it.
type Status struct {
	State    string     `json:"state"` // "ready", "faulty" or "starting"
	Tenant   string     `json:"tenant"`
	Device   string     `json:"device"`
	NotAfter *time.Time `json:"notAfter,omitempty"`
	Detail   string     `json:"detail,omitempty"` // why it is faulty
}

// Role keeps the identity current.
type Role struct {
	config Config

	mu      sync.Mutex
	current *Identity
	fault   *Fault
	changed chan struct{} // closed and made anew at every change
}

// New makes the role; Run does its work.
func New(c Config) *Role {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Floor == nil {
		c.Floor = func() time.Time { return time.Time{} }
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	return &Role{config: c, changed: make(chan struct{})}
}

// Run looks at the identity until ctx ends: often while it is faulty, once a
// minute while it is good. A fault is raised once, cleared when it is mended.
func (r *Role) Run(ctx context.Context) error {
	wait := firstRetry
	for ctx.Err() == nil {
		id, err := Load(ctx, r.config, time.Now())
		if ctx.Err() != nil {
			return nil
		}
		r.config.Alive()
		r.set(ctx, id, err)
		pause := recheck
		if err != nil {
			pause = wait/2 + rand.N(wait/2)
			wait = min(2*wait, lastRetry)
		} else {
			wait = firstRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

func (r *Role) set(ctx context.Context, id *Identity, err error) {
	var fault *Fault
	errors.As(err, &fault)
	r.mu.Lock()
	before := r.fault
	r.current, r.fault = id, fault
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()

	same := before != nil && fault != nil && before.Finding.Code == fault.Finding.Code
	if before != nil && !same {
		r.record(ctx, event.FindingCleared, before.Finding)
		r.config.Log.Info("identity fault ended", "code", before.Finding.Code)
	}
	if fault != nil && !same {
		r.record(ctx, event.FindingRaised, fault.Finding)
		r.config.Log.Warn("no usable identity", "code", fault.Finding.Code, "error", fault.Err)
	}
}

func (r *Role) record(ctx context.Context, kind string, f finding.Finding) {
	e := event.Event{Type: kind, Subject: subjectName, Severity: f.Severity, Finding: &f}
	if err := r.config.Recorder.Record(ctx, e); err != nil && ctx.Err() == nil {
		r.config.Log.Error("record identity finding", "code", f.Code, "error", err)
	}
}

// TLS waits until the identity is usable and returns what a connection to the
// fleet needs; the caller adds the server's name. The error is ctx's, joined
// with the fault that stands in the way.
func (r *Role) TLS(ctx context.Context) (*tls.Config, error) {
	for {
		r.mu.Lock()
		id, fault, changed := r.current, r.fault, r.changed
		r.mu.Unlock()
		if id != nil {
			return id.TLS.Clone(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if fault != nil {
				return nil, errors.Join(ctx.Err(), fault)
			}
			return nil, ctx.Err()
		}
	}
}

// Status says how the identity is.
func (r *Role) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{State: "starting", Tenant: r.config.Tenant, Device: r.config.Device}
	switch {
	case r.current != nil:
		s.State, s.NotAfter = "ready", &r.current.NotAfter
	case r.fault != nil:
		s.State, s.Detail = "faulty", r.fault.Error()
	}
	return s
}
