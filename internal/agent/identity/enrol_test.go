package identity_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/x509"

	"ward/internal/agent/identity"
	"ward/internal/device/est"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/serverauth/serverauthtest"
)

// A device that was manufactured and has no certificate enrols by itself, both
// keys, and connects.
//
// Verifies: SR-043
func TestEnrolment(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r, stop := w.run()
		defer stop()
		if got := w.fleet.took(); fmt.Sprint(got) != "[challenge reporting enroll challenge service enroll cacerts crl]" {
			t.Errorf("asked %v", got)
		}
		w.recorded("raised identity.missing", "cleared identity.missing")
		if a, b := w.generations(enrolment.Reporting), w.generations(enrolment.Service); a != "1c" || b != "1c+" {
			t.Errorf("generations %q and %q", a, b)
		}
		c := connect(t, r, true)
		if c.MinVersion != 0x304 || len(c.Certificates) != 1 || c.ClientSessionCache == nil || c.VerifyConnection == nil {
			t.Errorf("settings %+v", c)
		}
		if got := w.generations(enrolment.Reporting); got != "1c+" {
			t.Errorf("after the connection: %q", got)
		}
		s := r.Status()
		if s.State != "ready" || use(s, enrolment.Reporting).State != "connected" || use(s, enrolment.Service).State != "connected" || use(s, enrolment.Reporting).DaysLeft != 2 {
			t.Errorf("status %+v", s)
		}
		time.Sleep(3 * time.Hour)
		if got := w.fleet.took(); len(got) != 0 {
			t.Errorf("three quiet hours asked %v", got)
		}
		if w.chip.created != 2 {
			t.Errorf("%d keys were made", w.chip.created)
		}
	})
}

// Nothing is asked where no registrar is configured.
func TestWithoutARegistrar(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.config.Registrar = ""
		r, stop := w.run()
		defer stop()
		time.Sleep(time.Hour)
		if got := w.fleet.took(); len(got) != 0 || w.chip.created != 0 {
			t.Errorf("asked %v, made %d keys", got, w.chip.created)
		}
		w.recorded("raised identity.missing")
		if err := r.Enroll(t.Context()); !errors.Is(err, identity.ErrNoRegistrar) {
			t.Errorf("%v", err)
		}
	})
}

// A registrar that refuses is asked again in hours, and its reason is told.
//
// Verifies: SR-043
func TestRefusedEnrolment(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.fleet.refuse = fmt.Errorf("enrol: %w", &est.Error{Status: 403, Text: "no TPM maker that is trusted"})
		r, stop := w.run()
		defer stop()
		w.recorded("raised identity.missing", "raised identity.enrolment-refused")
		w.fleet.took()
		time.Sleep(24 * time.Hour)
		if n := w.fleet.count("enroll"); n < 3 || n > 9 {
			t.Errorf("a day of refusals: asked %d times", n)
		}
		if p := use(r.Status(), enrolment.Reporting); !strings.Contains(p.Pending, "no TPM maker that is trusted") || p.State != "pending" {
			t.Errorf("status %+v", p)
		}
		if got := w.generations(enrolment.Reporting); got != "1" {
			t.Errorf("a key was made for each attempt: %q", got)
		}
		w.recorded()
		w.fleet.set(func(f *fleet) { f.refuse = nil })
		if err := r.Enroll(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.recorded("cleared identity.enrolment-refused", "cleared identity.missing")
	})
}

// A registrar that is out of reach is asked less and less often; one that asks
// for time is given it.
//
// Verifies: SR-043
func TestRegistrarOutOfReach(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.fleet.err = &net.OpError{Op: "dial", Err: errors.New("no route to host")}
		_, stop := w.run()
		defer stop()
		w.recorded("raised identity.missing")
		time.Sleep(2 * time.Minute)
		w.recorded("raised link.registrar-unreachable")
		w.fleet.took()
		time.Sleep(24 * time.Hour)
		if n := w.fleet.count("challenge reporting"); n < 20 || n > 60 {
			t.Errorf("a day out of reach: asked %d times", n)
		}
		w.fleet.set(func(f *fleet) { f.err = &est.Error{Status: 503, RetryAfter: 10 * time.Hour} })
		time.Sleep(2 * time.Hour)
		w.recorded("cleared link.registrar-unreachable")
		w.fleet.took()
		time.Sleep(7 * time.Hour)
		if got := w.fleet.took(); len(got) != 0 {
			t.Errorf("asked %v in spite of Retry-After", got)
		}
		w.fleet.set(func(f *fleet) { f.err = nil })
		time.Sleep(3 * time.Hour)
		w.recorded("cleared identity.missing")
	})
}

// A registrar that is not the fleet's is said at once, by its cause.
//
// Verifies: SR-044
func TestRegistrarThatIsNot(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.fleet.err = fmt.Errorf("ask: %w", x509.CertificateInvalidError{Reason: x509.Expired, Detail: "current time X is after Y"})
		_, stop := w.run()
		defer stop()
		w.recorded("raised identity.missing", "raised link.server-expired")
	})
}

// What comes back is looked at before it is stored.
//
// Verifies: SR-043
func TestWrongCertificates(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *world){
		"for another key":        func(t *testing.T, w *world) { w.fleet.other = serverauthtest.NewKey(t).Public() },
		"of another device":      template(func(c *x509.Certificate) { c.Subject.CommonName = "pump-2" }),
		"of another tenant":      template(func(c *x509.Certificate) { c.Subject.Organization = []string{"other"} }),
		"of two tenants":         template(func(c *x509.Certificate) { c.Subject.Organization = []string{"acme", "other"} }),
		"without its URI":        template(func(c *x509.Certificate) { c.URIs = nil }),
		"for a server too":       template(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }),
		"for every use":          template(func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		"an authority":           template(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }),
		"that lasts a second":    template(func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Second) }),
		"that lasts a century":   template(func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(100 * year) }),
		"that has expired":       template(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = c.NotBefore.Add(-2*year), c.NotBefore.Add(-year) }),
		"of another authority":   func(t *testing.T, w *world) { w.fleet.ca = serverauthtest.NewAuthority(t, "fleet", time.Now()) },
		"none, for another TPM":  func(_ *testing.T, w *world) { w.chip.activate = tpm.ErrCredential },
		"none, without EK":       func(_ *testing.T, w *world) { w.chip.activate = tpm.ErrNoCertificate },
		"none, with another EK":  func(_ *testing.T, w *world) { w.chip.activate = tpm.ErrCertificateKey },
		"none, with a bad reply": func(_ *testing.T, w *world) { w.fleet.refuse = est.ErrAnswer },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				change(t, w)
				_, stop := w.run()
				defer stop()
				w.recorded("raised identity.missing", "raised identity.enrolment-refused")
				if got := w.generations(enrolment.Reporting); got != "1" {
					t.Errorf("stored: %q", got)
				}
			})
		})
	}
}

func template(change func(*x509.Certificate)) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) { w.fleet.change = change }
}

// A service key in a boot state that nobody approved waits; that is a condition,
// and the reporting identity works.
//
// Verifies: SR-046
func TestServiceKeyWaitsForAnApprovedBoot(t *testing.T) {
	for code, cause := range map[string]error{"identity.boot-state": tpm.ErrBootState, "identity.rolled-back": tpm.ErrRollback} {
		bubble(t, func(t *testing.T, w *world) {
			w.chip.boot = cause
			r, stop := w.run()
			defer stop()
			w.recorded("raised identity.missing", "cleared identity.missing", "raised "+code)
			connect(t, r, true)
			s := r.Status()
			if s.State != "ready" || use(s, enrolment.Service).State != "pending" {
				t.Errorf("status %+v", s)
			}
			if _, err := r.Sign(enrolment.Service, [32]byte{}); !errors.Is(err, identity.ErrNone) || !strings.Contains(err.Error(), cause.Error()) {
				t.Errorf("signing without a certificate: %v", err)
			}
			w.fleet.took()
			time.Sleep(12 * time.Hour)
			if n := w.fleet.count("challenge service"); n != 0 {
				t.Errorf("%d challenges were asked for in vain", n)
			}
			w.chip.mu.Lock()
			w.chip.boot = nil
			w.chip.mu.Unlock()
			time.Sleep(2 * time.Hour)
			w.recorded("cleared " + code)
			if got := w.generations(enrolment.Service); got != "1c+" {
				t.Errorf("generations %q", got)
			}
			if _, err := r.Sign(enrolment.Service, [32]byte{1}); err != nil {
				t.Error(err)
			}
		})
	}
}

// An altered boot of a device that has its service certificate is seen without
// anybody using the key, and with its cause when somebody does.
//
// Verifies: SR-046
func TestServiceKeyIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.run()
		stop()
		w.rec.take()
		w.chip.boot = tpm.ErrBootState
		r, stop := w.run()
		defer stop()
		w.recorded("raised identity.boot-state")
		if _, err := r.Sign(enrolment.Service, [32]byte{}); !errors.Is(err, tpm.ErrBootState) {
			t.Errorf("%v", err)
		}
		if _, err := r.Sign(enrolment.Reporting, [32]byte{}); err != nil {
			t.Errorf("the reporting key: %v", err)
		}
		if text, err := r.Chain(enrolment.Reporting); err != nil || strings.Count(string(text), "BEGIN CERTIFICATE") != 2 {
			t.Errorf("chain %s, %v", text, err)
		}
		if _, err := r.Chain("nonsense"); !errors.Is(err, identity.ErrNone) {
			t.Errorf("%v", err)
		}
	})
}

// A device without a policy key has no service key, and nothing is wrong.
func TestNoPolicyKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.run()
		stop()
		os.RemoveAll(filepath.Join(w.config.State, "identity/service"))
		w.rec.take()
		w.chip.create = identity.ErrNoPolicy
		r, stop := w.run()
		defer stop()
		w.recorded()
		if p := use(r.Status(), enrolment.Service); p.State != "pending" || !strings.Contains(p.Pending, "policy key") {
			t.Errorf("%+v", p)
		}
	})
}

// A certificate that has expired stops nothing: it is said, and the device enrols
// anew with a challenge and without showing it.
//
// Verifies: SR-045
func TestExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r, stop := w.run()
		connect(t, r, true)
		w.rec.take()
		w.fleet.set(func(f *fleet) { f.err = errors.New("no route to host") })
		time.Sleep(life + time.Hour)
		stop()
		got := fmt.Sprint(w.rec.take())
		for _, want := range []string{"raised identity.renewal-failing", "raised link.registrar-unreachable", "raised identity.expired"} {
			if !strings.Contains(got, want) {
				t.Errorf("recorded %s, without %q", got, want)
			}
		}
		if s := r.Status(); s.State != "faulty" || !strings.Contains(s.Detail, "expired") {
			t.Errorf("status %+v", s)
		}
		w.fleet.took()
		w.fleet.set(func(f *fleet) { f.err = nil })
		r, stop = w.run()
		defer stop()
		if asked := fmt.Sprint(w.fleet.took()); !strings.Contains(asked, "challenge reporting enroll") || strings.Contains(asked, "reenroll") {
			t.Errorf("asked %s", asked)
		}
		connect(t, r, true)
		if s := r.Status(); s.State != "ready" {
			t.Errorf("status %+v", s)
		}
	})
}

// The serial number of the hardware.
//
// Verifies: SR-043
func TestSerialNumber(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"the device's", "pump-1\n", ""},
		{"another", "pump-2\n", "raised identity.key-mismatch"},
		{"empty", "\n", ""},
		{"not there", "-", ""},
		{"endless", strings.Repeat("x", 5000), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.config.SerialFile = filepath.Join(t.TempDir(), "serial")
				if row.text != "-" {
					w.write(w.config.SerialFile, []byte(row.text))
				}
				r, stop := w.run()
				defer stop()
				enrolled := w.generations(enrolment.Reporting) == "1c"
				if got := fmt.Sprint(w.rec.take()); enrolled != (row.want == "") || !strings.Contains(got, row.want) {
					t.Errorf("enrolled: %v; recorded %s", enrolled, got)
				}
				if s := r.Status().Serial; s == "" || row.want != "" && s != "differs" {
					t.Errorf("status %q", s)
				}
			})
		})
	}
}
