// Package registrar enrols devices: Enrollment over Secure Transport with a
// challenge that only the device's TPM can open (RFC 7030; RFC 8951; TPM 2.0
// Library, Part 1, section 24). It verifies a request with package enrolment, asks
// the register of devices whether this TPM may be this device, and has the
// certificate made by an authority. What it refuses it counts, logs, and tells the
// device with what to do next. It listens with TLS 1.3 only, and everything that a
// stranger can fill is bounded.
package registrar

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/trust/policy"
	"ward/internal/trust/presence"
)

const (
	// DefaultChallengeLifetime is how long a challenge may be answered: a slow TPM
	// takes seconds, a bad link retries.
	DefaultChallengeLifetime = 5 * time.Minute
	// DefaultPerSource is how many requests a second one address may send on
	// average; ten times as many at once. A hospital is one address.
	DefaultPerSource = 10
	// DefaultTotal is the same for all together: one core verifies some hundreds of
	// requests a second.
	DefaultTotal = 200
)

// Config says whom the registrar enrols, and who issues.
type Config struct {
	Tenant    string
	Devices   *register.Register
	Serials   *Serials            // the manufactured devices
	Makers    []*x509.Certificate // roots and intermediate authorities of TPM makers
	PolicyKey *policy.Key         // nil: no service certificates
	Authority issue.Authority
	CA        *issue.CA    // makes the revocation list; nil: another publishes one
	Roots     *issue.Roots // the fleet's, handed to devices, and that clients' certificates chain to

	CRLLifetime       time.Duration // issue.DefaultCRLLifetime if zero
	ChallengeLifetime time.Duration // DefaultChallengeLifetime if zero
	PerSource         int           // DefaultPerSource if zero
	Total             int           // DefaultTotal if zero
	Report            func(Event)   // what happened, for people and programs; nil: nobody listens
	Log               *slog.Logger
}

// Registrar is the role. Its methods may be called by several goroutines.
type Registrar struct {
	config     Config
	challenges challenges
	limits     limits
	list       revocations

	mu      sync.Mutex
	counts  map[string]uint64
	flood   uint64 // refusals that were not logged
	flooded time.Time
}

// New makes the role; it keeps nothing of its own on disk.
func New(c Config) (*Registrar, error) {
	if err := presence.CheckNames(c.Tenant, "device"); err != nil {
		return nil, fmt.Errorf("enrol devices: %w", err)
	}
	if c.Devices == nil || c.Serials == nil || len(c.Makers) == 0 || c.Authority == nil || c.Roots == nil {
		return nil, errors.New("enrol devices: register, serial numbers, TPM makers, authority and roots are needed")
	}
	setDefault(&c.CRLLifetime, issue.DefaultCRLLifetime)
	setDefault(&c.ChallengeLifetime, DefaultChallengeLifetime)
	setDefault(&c.PerSource, DefaultPerSource)
	setDefault(&c.Total, DefaultTotal)
	if c.CRLLifetime < issue.MinCRLLifetime || c.ChallengeLifetime < 0 || c.PerSource < 0 || c.Total < 0 {
		return nil, fmt.Errorf("enrol devices: a revocation list for %s, at least %s; a challenge for %s; %d and %d requests a second", c.CRLLifetime, issue.MinCRLLifetime, c.ChallengeLifetime, c.PerSource, c.Total)
	}
	if c.Report == nil {
		c.Report = func(Event) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Registrar{
		config: c, challenges: newChallenges(), limits: newLimits(c.PerSource, c.Total), counts: make(map[string]uint64),
	}, nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Counts is how often what happened: "issued", and each kind of refusal.
func (r *Registrar) Counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

func (r *Registrar) count(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[kind]++
}

// TLS is the configuration of a server: TLS 1.3 only, and a client's certificate,
// where one is shown, chains to the fleet's roots and has not expired.
func (r *Registrar) TLS(pair tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"http/1.1"}, // what needs no more is bounded more easily
		ClientAuth:   tls.RequestClientCert,
		ClientCAs:    r.config.Roots.Pool(),
		VerifyConnection: func(s tls.ConnectionState) error { // also of resumed sessions
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			now := time.Now()
			_, err := r.config.Roots.Verify(now, s.PeerCertificates[0], s.PeerCertificates[1:]...)
			if err != nil {
				r.flooding(now, "handshake", err)
			}
			return err
		},
	}
}
