// Package identity is the device's name towards the fleet and towards clinical
// services: keys in the TPM (IEEE 802.1AR LDevIDs), the certificates that the
// registrar issued for them over EST (RFC 7030) with a TPM challenge, and what is
// believed of the other side. It enrols, renews from two thirds of a lifetime on,
// and keeps the old key until the new one has connected. What is wrong is said as
// a finding, tried again with growing pauses, and stops nothing: expiry leaves a
// device that works and that enrols by itself when it can.
package identity

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"ward/internal/agent/identity/board"
	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/identity/pace"
	"ward/internal/device/est"
	"ward/internal/format/tss2"
	"ward/internal/trust/credential"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/event"
)

const (
	// firstLook and lastLook bound the waits between two looks at a faulty
	// identity.
	firstLook = time.Second
	lastLook  = time.Minute
	// recheck is how often a good identity is looked at again, so that expiry
	// and a TPM that is gone are seen.
	recheck = time.Minute
	// maxAsked bounds the requests of people that wait for the role.
	maxAsked = 4
)

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// TPM holds the device's keys. Errors are device/tpm's; a use that the device has
// no policy for gives ErrNoPolicy.
type TPM interface {
	// Create makes a key.
	Create(ctx context.Context, use enrolment.Use) (tss2.File, error)
	// Describe is what the TPM says of itself and of a key: endorsement,
	// attestation key, certification.
	Describe(ctx context.Context, use enrolment.Use, key tss2.File) (enrolment.Request, error)
	// Activate opens a credential.
	Activate(ctx context.Context, blob credential.Blob) ([]byte, error)
	// Signer sees that the TPM is there and is the device's, and gives the key's
	// signer, which outlives ctx.
	Signer(ctx context.Context, use enrolment.Use, key tss2.File) (crypto.Signer, error)
}

// CA is a registrar; *est.Client is one.
type CA interface {
	CACerts(ctx context.Context) ([]*x509.Certificate, error)
	CRL(ctx context.Context) ([]byte, error)
	Challenge(ctx context.Context, r enrolment.Request) (enrolment.Challenge, error)
	Enroll(ctx context.Context, csr []byte, id string, secret []byte) ([]*x509.Certificate, error)
	Reenroll(ctx context.Context, csr []byte, id string, secret []byte) ([]*x509.Certificate, error)
	Close()
}

// Config says where the identity lies, and who issues it.
type Config struct {
	State string // the state directory; the identity store lies in it
	Trust string // the directory of the trust anchors; fleet/*.pem are its roots
	// Tenant and Device are what the journal was opened with; an identity of
	// another name is used only after a restart.
	Tenant, Device string
	// Floor gives the earliest moment that a clock may show: the build time, the
	// fleet's last receipt; zero while it is not known. Nil: it never is.
	Floor func() time.Time
	TPM   TPM
	// Registrar is its address, https://host:port; empty: none is asked, and
	// certificates come by files. ServerName is the name in its certificate;
	// empty for the address's own.
	Registrar, ServerName string
	// SerialFile holds the hardware's serial number; empty: it is not compared.
	SerialFile string
	Recorder   Recorder
	Alive      func() // called at least once in two minutes; may be nil
	Log        *slog.Logger
	// Dial makes the client of a registrar; nil for the real one.
	Dial func(registrar string, config *tls.Config) (CA, error)
}

// Role keeps the identity current.
type Role struct {
	config Config
	store  *idstore.Store
	board  *board.Board
	tasks  map[task]*pace.Retry
	asks   chan ask

	// What Run alone touches.
	reporting, service []usable        // the newest first
	ready              bool            // the device is manufactured and the fleet's roots are known
	spoiled            map[string]bool // keys, by path, that the TPM cannot use
	tried              int             // generation of the service key that is known to sign
	badCRL             error           // why the last list that came was not taken

	mu       sync.Mutex
	current  []usable // reporting identities to connect with: the newest, then the last that is known to work
	turn     int      // which of them is next
	signing  map[enrolment.Use]usable
	waiting  map[enrolment.Use]string // why there is no certificate, or no newer one
	fault    *Fault
	trust    trust
	status   Status
	refused  int           // how often the newest was refused while an older one works
	admitted [][]byte      // leaf certificates with which a connection stood, not yet stored
	changed  chan struct{} // closed and made anew at every change
	wake     chan struct{}
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
	if c.Dial == nil {
		c.Dial = func(registrar string, config *tls.Config) (CA, error) { return est.New(registrar, config) }
	}
	r := &Role{
		config: c, store: idstore.Open(c.State), asks: make(chan ask, maxAsked), changed: make(chan struct{}), wake: make(chan struct{}, 1),
		tasks: make(map[task]*pace.Retry), signing: make(map[enrolment.Use]usable),
		spoiled: make(map[string]bool), waiting: make(map[enrolment.Use]string),
	}
	r.board = board.New(c.Recorder, c.Log)
	for _, t := range []task{taskReporting, taskService, taskCRL, taskRoots} {
		r.tasks[t] = &pace.Retry{}
	}
	r.status = Status{State: "starting", Tenant: c.Tenant, Device: c.Device}
	return r
}

// Run looks at the identity until ctx ends: often while it is faulty, once a
// minute while it is good, and does what is due at the registrar.
func (r *Role) Run(ctx context.Context) error {
	wait := firstLook
	for ctx.Err() == nil {
		err := r.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.config.Alive()
		r.lookAtRefusals(ctx)
		again := r.work(ctx)
		r.describe()
		if again && ctx.Err() == nil {
			continue // something new was issued
		}
		pause := recheck
		if err != nil {
			pause = wait/2 + rand.N(wait/2)
			wait = min(2*wait, lastLook)
		} else {
			wait = firstLook
		}
		r.pause(ctx, min(pause, r.untilDue()))
	}
	return nil
}

// pause waits, or does what somebody asks for.
func (r *Role) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-r.wake:
	case a := <-r.asks:
		a.done <- r.serve(ctx, a)
		r.describe()
	}
}

// rouse has Run look again soon.
func (r *Role) rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// now is the clock with its floor: no moment before one that is proved.
func (r *Role) now() time.Time {
	r.mu.Lock()
	floor := r.trust.floor
	r.mu.Unlock()
	return latest(time.Now(), latest(floor, r.config.Floor()))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
