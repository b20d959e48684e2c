package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"time"

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
		r.board.raise(ctx, aboutCRL, finding.LinkCRLStale, "%s", oneLine(err))
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
			r.board.raise(ctx, aboutCRL, finding.LinkCRLStale, "%s", oneLine(err))
		} else {
			r.board.clear(ctx, aboutCRL)
		}
	}
	if floor := latest(t.floor, r.config.Floor()); time.Now().Add(clockSlack).Before(floor) {
		r.board.raise(ctx, aboutClock, finding.IdentityClock, "the clock shows %s, and %s has passed",
			time.Now().UTC().Format(time.RFC3339), floor.UTC().Format(time.RFC3339))
	} else {
		r.board.clear(ctx, aboutClock)
	}
	return damage
}

func (r *Role) storedRoots() ([]*x509.Certificate, error) {
	der, err := r.store.Roots()
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for _, d := range der {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	return all, nil
}

// issuers are those who may sign a revocation list: the roots, and the
// authorities between them and the device's own certificates.
func (r *Role) issuers(trusted []*x509.Certificate) []*x509.Certificate {
	pool, all := x509.NewCertPool(), append([]*x509.Certificate(nil), trusted...)
	for _, c := range trusted {
		pool.AddCert(c)
	}
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		generations, _ := r.store.Generations(use) // damage is told elsewhere
		for _, g := range generations {
			for _, c := range g.Chain[min(1, len(g.Chain)):] {
				// An authority that has expired since may still have signed a list.
				_, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: c.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
				if err == nil && c.IsCA {
					all = append(all, c)
				}
			}
		}
	}
	return all
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
