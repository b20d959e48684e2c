package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"time"

	"ward/internal/agent/identity/board"
	"ward/internal/agent/identity/roots"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth"
)

// sessions is how many servers' session tickets are kept.
const sessions = 4

// trust is what is believed of the other side.
type trust struct {
	image       []*x509.Certificate
	learned     []roots.Learned
	roots       []*x509.Certificate // of the image and learned
	fingerprint string              // of the roots
	crl         *x509.RevocationList
	floor       time.Time // the latest moment that was proved
}

func (r *Role) trustNow() trust {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trust
}

// lookAtTrust reads what was learned of roots, revocations and time. What cannot
// be read is told, and the rest is used.
func (r *Role) lookAtTrust(ctx context.Context, image []*x509.Certificate) error {
	t := trust{image: image}
	var damage error
	stored, err := r.storedRoots()
	damage = errors.Join(damage, damaged(err))
	t.learned = roots.Accept(image, stored)
	t.roots = append(t.roots, image...)
	sum := sha256.New()
	for _, l := range t.learned {
		t.roots = append(t.roots, l.Root)
	}
	for _, c := range t.roots {
		sum.Write(c.Raw)
	}
	t.fingerprint = hex.EncodeToString(sum.Sum(nil))

	t.floor, err = r.store.Floor()
	damage = errors.Join(damage, damaged(err))
	if der, err := r.store.CRL(); err != nil {
		damage = errors.Join(damage, damaged(err))
	} else if t.crl, err = serverauth.ParseCRL(der, r.issuers(t.roots)); err != nil {
		r.board.Raise(ctx, board.AboutCRL, finding.LinkCRLStale, "%s", oneLine(err))
	}
	r.mu.Lock()
	r.trust = t
	r.mu.Unlock()

	if t.crl != nil {
		err := serverauth.Stale(t.crl, r.now())
		if err == nil {
			err = r.badCRL
		}
		if err != nil {
			r.board.Raise(ctx, board.AboutCRL, finding.LinkCRLStale, "%s", oneLine(err))
		} else {
			r.board.Clear(ctx, board.AboutCRL)
		}
	}
	if floor := latest(t.floor, r.config.Floor()); time.Now().Add(clockSlack).Before(floor) {
		r.board.Raise(ctx, board.AboutClock, finding.IdentityClock, "the clock shows %s, and %s has passed",
			time.Now().UTC().Format(time.RFC3339), floor.UTC().Format(time.RFC3339))
	} else {
		r.board.Clear(ctx, board.AboutClock)
	}
	return damage
}

func (r *Role) storedRoots() ([]*x509.Certificate, error) {
	der, err := r.store.Roots()
	if err != nil {
		return nil, err
	}
	return roots.Parse(der)
}

// issuers are those who may sign a revocation list.
func (r *Role) issuers(trusted []*x509.Certificate) []*x509.Certificate {
	reporting, _ := r.store.Generations(enrolment.Reporting) // damage is told elsewhere
	service, _ := r.store.Generations(enrolment.Service)
	var chains [][]*x509.Certificate
	for _, g := range append(reporting, service...) {
		chains = append(chains, g.Chain)
	}
	return roots.Issuers(trusted, chains)
}

// policy is what a server is judged by at this moment.
func (r *Role) policy(name string) serverauth.Policy {
	t := r.trustNow()
	p := serverauth.Policy{Roots: t.roots, Name: name, Now: r.now()}
	if t.crl != nil {
		p.CRLs = []*x509.RevocationList{t.crl}
	}
	return p
}

// anonymous are the TLS settings of a device that shows no certificate.
func (r *Role) anonymous() *tls.Config {
	pool := x509.NewCertPool()
	for _, c := range r.trustNow().roots {
		pool.AddCert(c)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, Time: r.now,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return serverauth.Check(cs.PeerCertificates, r.policy(cs.ServerName))
		},
	}
}

// settings are the TLS settings of a reporting identity. Tickets of its sessions
// are its own: another generation begins with a whole handshake.
func (r *Role) settings(u *usable) *tls.Config {
	c := r.anonymous()
	cert := tls.Certificate{PrivateKey: u.signer, Leaf: u.leaf()}
	for _, x := range u.Chain {
		cert.Certificate = append(cert.Certificate, x.Raw)
	}
	c.Certificates = []tls.Certificate{cert}
	c.ClientSessionCache = tls.NewLRUClientSessionCache(sessions)
	begin := u.leaf().NotBefore
	c.Time = func() time.Time { return latest(r.now(), begin) }
	return c
}
