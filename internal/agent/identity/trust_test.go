package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/identity"
	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/serverauth"
	"ward/internal/trust/serverauth/serverauthtest"
)

// server is a server's certificate of an authority, as a handshake shows it.
func server(t *testing.T, a serverauthtest.Authority, name string) tls.ConnectionState {
	t.Helper()
	key := serverauthtest.NewKey(t)
	c := a.Certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	return tls.ConnectionState{ServerName: name, PeerCertificates: []*x509.Certificate{c}}
}

// A new root that the old one vouches for is taken from the registrar; servers of
// both are then accepted, also after a restart. One without a voucher is not.
//
// Verifies: SR-044
func TestRootRollover(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		next, stranger := serverauthtest.NewAuthority(t, "fleet 2", time.Now()), serverauthtest.NewAuthority(t, "stranger", time.Now())
		r, stop := w.run()
		c := connect(t, r, true)
		if c.VerifyConnection(server(t, next, "b")) == nil {
			t.Fatal("a root that nobody has vouched for is believed")
		}
		w.fleet.set(func(f *fleet) {
			f.certs = []*x509.Certificate{w.fleet.ca.Cert, next.Cert, w.fleet.ca.Vouch(t, next), stranger.Cert, next.Vouch(t, w.fleet.ca)}
		})
		if err := r.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			c := connect(t, r, true)
			for _, a := range []serverauthtest.Authority{w.fleet.ca, next} {
				if err := c.VerifyConnection(server(t, a, "b")); err != nil {
					t.Errorf("%s: %s: %v", when, a.Cert.Subject, err)
				}
			}
			if _, err := server(t, next, "b").PeerCertificates[0].Verify(x509.VerifyOptions{Roots: c.RootCAs, CurrentTime: time.Now()}); err != nil {
				t.Errorf("%s: the library does not know it: %v", when, err)
			}
			if c.VerifyConnection(server(t, stranger, "b")) == nil {
				t.Errorf("%s: a stranger's root is believed", when)
			}
			if s := r.Status(); s.Roots != 2 || s.Learned != 1 {
				t.Errorf("%s: status %+v", when, s)
			}
		}
		check("at once")
		stop()
		r, stop = w.run()
		check("after a restart")
		stop()
		// An image without the old root believes nothing of it.
		w.write(filepath.Join(w.config.Trust, "fleet/root.pem"), stranger.PEM())
		r, stop = w.run()
		defer stop()
		if s := r.Status(); s.Learned != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// The list is fetched daily, verified, and never older than what is known; an old
// one is a condition and stops nothing.
//
// Verifies: SR-044
func TestRevocationList(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ca := w.fleet.ca
		bad := server(t, ca, "b")
		w.fleet.list = ca.CRL(t, 5, time.Now(), bad.PeerCertificates[0])
		r, stop := w.run()
		defer stop()
		c := connect(t, r, true)
		if err := c.VerifyConnection(bad); !errors.Is(err, serverauth.ErrRevoked) {
			t.Errorf("a revoked server: %v", err)
		}
		if err := c.VerifyConnection(server(t, ca, "b")); err != nil {
			t.Errorf("another server: %v", err)
		}
		w.rec.take()
		// Somebody plays back an older list.
		w.fleet.set(func(f *fleet) { f.list = ca.CRL(t, 4, time.Now().Add(time.Hour)) })
		time.Sleep(40 * time.Hour)
		w.recorded("raised link.crl-stale")
		if err := connect(t, r, true).VerifyConnection(bad); !errors.Is(err, serverauth.ErrRevoked) {
			t.Errorf("after an older list: %v", err)
		}
		// The device connects all the same, with an old list.
		if err := connect(t, r, true).VerifyConnection(server(t, ca, "b")); err != nil {
			t.Errorf("with an old list: %v", err)
		}
		w.fleet.set(func(f *fleet) { f.list = ca.CRL(t, 6, time.Now()) })
		time.Sleep(2 * time.Hour)
		w.recorded("cleared link.crl-stale")
		// A list of somebody else.
		w.fleet.set(func(f *fleet) { f.list = serverauthtest.NewAuthority(t, "fleet", time.Now()).CRL(t, 9, time.Now()) })
		time.Sleep(30 * time.Hour)
		w.recorded("raised link.crl-stale")
	})
}

// The device's own certificate on the list: it is said, nothing is renewed, and
// the identity is still offered: the broker decides.
//
// Verifies: SR-045
func TestOwnRevocation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.fleet.life = 48 * time.Hour // due for renewal when the list comes
		r, stop := w.run()
		defer stop()
		c := connect(t, r, true)
		w.rec.take()
		time.Sleep(17 * time.Hour) // the registrar is asked for the list after 18 h at the earliest
		w.fleet.set(func(f *fleet) { f.list = f.ca.CRL(t, 1, time.Now(), c.Certificates[0].Leaf) })
		time.Sleep(14 * time.Hour)
		w.recorded("raised identity.revoked")
		connect(t, r, false)
		w.fleet.took()
		time.Sleep(8 * time.Hour)
		if n := w.fleet.count("reenroll"); n != 0 {
			t.Errorf("a revoked certificate was renewed %d times", n)
		}
		if err := r.Enroll(t.Context()); err != nil {
			t.Fatal(err)
		}
		connect(t, r, true)
		time.Sleep(2 * time.Minute)
		if got := fmt.Sprint(w.rec.take()); !strings.Contains(got, "cleared identity.revoked") {
			t.Errorf("recorded %s", got)
		}
	})
}

// A clock that begins before the release was built: certificates are judged by
// what is proved, and the device enrols.
//
// Verifies: SR-044
func TestClockInThePast(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		built := time.Now().AddDate(56, 0, 0) // as 1970 is to 2026
		w.fleet.ca = serverauthtest.NewAuthority(t, "fleet", built)
		w.fleet.change = func(c *x509.Certificate) { c.NotBefore, c.NotAfter = built.AddDate(0, 1, 0), built.AddDate(1, 0, 0) }
		w.fleet.list = w.fleet.ca.CRL(t, 1, built.AddDate(0, 2, 0))
		w.write(filepath.Join(w.config.Trust, "fleet/root.pem"), w.fleet.ca.PEM())
		w.config.Floor = func() time.Time { return built }
		r, stop := w.run()
		c := connect(t, r, true)
		w.recorded("raised identity.clock", "raised identity.missing", "cleared identity.missing")
		if now := c.Time(); now.Before(built.AddDate(0, 2, 0)) {
			t.Errorf("the handshake believes %s, and the list proves more", now)
		}
		stop()
		if floor, err := w.store.Floor(); err != nil || !floor.Equal(built.AddDate(0, 2, 0)) {
			t.Errorf("floor %s, %v", floor, err)
		}
		// What was proved holds after a restart, also without a release.
		w.config.Floor = nil
		r, stop = w.run()
		defer stop()
		if now := connect(t, r, true).Time(); now.Before(built.AddDate(0, 2, 0)) {
			t.Errorf("after a restart the handshake believes %s", now)
		}
	})
}

// A clock far ahead makes everything look expired: connections are refused with a
// cause, nothing is deleted or issued, and when the clock is right again the old
// identity works.
//
// Verifies: SR-044, SR-045
func TestClockInTheFuture(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		then := time.Now().AddDate(-74, 0, 0) // as 2026 is to 2100
		w.fleet.ca = serverauthtest.NewAuthority(t, "fleet", then)
		w.write(filepath.Join(w.config.Trust, "fleet/root.pem"), w.fleet.ca.PEM())
		key, err := w.chip.Create(t.Context(), enrolment.Reporting)
		if err != nil {
			t.Fatal(err)
		}
		g, err := w.store.Add(enrolment.Reporting, key)
		if err != nil {
			t.Fatal(err)
		}
		w.fleet.change = func(c *x509.Certificate) { c.NotBefore, c.NotAfter = then, then.AddDate(1, 0, 0) }
		leaf := w.fleet.certify("acme", "pump-1", enrolment.Reporting, w.chip.keys[string(key.Public)].Public())
		if err := errors.Join(w.store.SetChain(g, [][]byte{leaf.Raw}), w.store.SetConnected(g)); err != nil {
			t.Fatal(err)
		}
		w.fleet.err = x509.CertificateInvalidError{Reason: x509.Expired, Detail: "current time X is after Y"} // what a handshake gives
		_, stop := w.run()
		time.Sleep(12 * time.Hour)
		stop()
		w.recorded("raised identity.expired", "raised link.server-expired")
		if got := w.generations(enrolment.Reporting); got != "2 1c+" {
			t.Errorf("generations %q: at most one key waits, and nothing goes", got)
		}
		if _, err := w.store.Floor(); !errors.Is(err, idstore.ErrNone) {
			t.Errorf("a wrong clock became a floor: %v", err)
		}
	})
}

// Verifies: SR-011, SR-013, SR-017
func TestFaults(t *testing.T) {
	for _, x := range []struct {
		name   string
		change func(*testing.T, *world)
		want   string
	}{
		{"not manufactured", func(_ *testing.T, w *world) { os.Remove(filepath.Join(w.config.State, "identity/device.json")) }, "identity.missing"},
		{"another name than wardd runs with", func(_ *testing.T, w *world) { w.config.Device = "pump-2" }, "identity.key-mismatch"},
		{"no TPM", func(_ *testing.T, w *world) { w.chip.err = fmt.Errorf("open: %w", tpm.ErrAbsent) }, "tpm.absent"},
		{"TPM fails", func(_ *testing.T, w *world) { w.chip.err = tpm.ErrTimeout }, "tpm.failing"},
		{"another TPM", func(_ *testing.T, w *world) { w.chip.err = tpm.ErrOtherTPM }, "identity.other-tpm"},
		{"TPM cleared", func(_ *testing.T, w *world) { w.chip.err = tpm.ErrNoKey }, "identity.other-tpm"},
		{"no roots", func(_ *testing.T, w *world) { os.RemoveAll(filepath.Join(w.config.Trust, "fleet")) }, "identity.no-trust"},
		{"roots that are none", func(_ *testing.T, w *world) {
			w.write(filepath.Join(w.config.Trust, "fleet/root.pem"), []byte("hello"))
		}, "identity.no-trust"},
		{"a foreign root", func(t *testing.T, w *world) {
			w.write(filepath.Join(w.config.Trust, "fleet/root.pem"), serverauthtest.NewAuthority(t, "other", time.Now()).PEM())
		}, "identity.key-mismatch"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				_, stop := w.run()
				stop()
				w.rec.take()
				w.fleet.took()
				x.change(t, w)
				w.fleet.refuse = errors.New("nobody is there")
				r, stop := w.run()
				defer stop()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				_, err := r.TLS(ctx)
				var f *identity.Fault
				if !errors.As(err, &f) || string(f.Finding.Code) != x.want || strings.Contains(f.Error(), "\n") {
					t.Errorf("%v, want %s in one line", err, x.want)
				}
				got := w.rec.take()
				if len(got) == 0 || got[0] != "raised "+x.want {
					t.Errorf("recorded %v", got)
				}
				if w.chip.created != 2 && x.want != "identity.key-mismatch" {
					t.Errorf("%d keys: one was made for no reason", w.chip.created)
				}
			})
		})
	}
}

// A fault is raised once, looked at again, and cleared when it is mended.
//
// Verifies: SR-017
func TestRunHeals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		alive := 0
		w.config.Alive = func() { alive++ }
		r, stop := w.run()
		defer stop()
		connect(t, r, true)
		w.rec.take()
		set := func(err error) { w.chip.mu.Lock(); w.chip.err = err; w.chip.mu.Unlock() }
		set(tpm.ErrAbsent)
		time.Sleep(10 * time.Minute)
		w.recorded("raised tpm.absent")
		if s := r.Status(); s.State != "faulty" || s.Detail == "" || alive < 10 {
			t.Errorf("status %+v, alive %d times", s, alive)
		}
		set(nil)
		time.Sleep(2 * time.Minute)
		w.recorded("cleared tpm.absent")
		connect(t, r, true)
		if tenant, device, err := identity.Subject(w.config.State); err != nil || tenant != "acme" || device != "pump-1" {
			t.Errorf("subject %q %q %v", tenant, device, err)
		}
	})
}
