package identity_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/est"
	"ward/internal/trust/enrolment"
)

// A certificate is renewed between two thirds and three quarters of its lifetime,
// over the identity that works, with a new key; the old key goes when the new one
// has connected.
//
// Verifies: SR-045
func TestRenewal(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r, stop := w.run()
		defer stop()
		old := connect(t, r, true)
		at := use(r.Status(), enrolment.Reporting).RenewAt
		if due := time.Until(*at); due < life*2/3-time.Hour || due > life*3/4+time.Hour {
			t.Fatalf("renewal in %s of %s", due, life)
		}
		w.fleet.took()
		time.Sleep(time.Until(*at) - 2*time.Minute)
		if got := fmt.Sprint(w.fleet.took()); strings.Contains(got, "challenge reporting") {
			t.Errorf("before its time: %s", got)
		}
		time.Sleep(3 * time.Minute)
		if got := fmt.Sprint(w.fleet.took()); !strings.Contains(got, "challenge reporting reenroll") {
			t.Errorf("asked %s", got)
		}
		if want := old.Certificates[0].Leaf.SerialNumber.String(); len(w.fleet.shown) != 1 || w.fleet.shown[0] != want {
			t.Errorf("shown %v, want %s", w.fleet.shown, want)
		}
		if got := w.generations(enrolment.Reporting); got != "2c 1c+" {
			t.Errorf("before the connection: %q", got)
		}
		if got := w.generations(enrolment.Service); !strings.HasPrefix(got, "2c+") && !strings.HasPrefix(got, "1c+") {
			t.Errorf("service: %q", got)
		}
		if s := use(r.Status(), enrolment.Reporting); s.State != "issued" || s.Generation != 2 {
			t.Errorf("status %+v", s)
		}
		if c := connect(t, r, true); c.Certificates[0].Leaf.Equal(old.Certificates[0].Leaf) || c.ClientSessionCache == old.ClientSessionCache {
			t.Error("the next connection has the old certificate, or its tickets")
		}
		if got := w.generations(enrolment.Reporting); got != "2c+" {
			t.Errorf("after the connection: %q", got)
		}
		time.Sleep(time.Minute)
		w.recorded("raised identity.missing", "cleared identity.missing")
	})
}

// A new certificate that the fleet refuses is tried in turn with the old one,
// which goes on working; that is said.
//
// Verifies: SR-045
func TestNewCertificateRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r, stop := w.run()
		defer stop()
		old := connect(t, r, true)
		if err := r.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.rec.take()
		if !r.Outdated(old) || r.Outdated(nil) || r.Outdated(&tls.Config{}) {
			t.Error("the connection with the old certificate is not outdated, or one with none is")
		}
		for i := range 3 {
			if c := connect(t, r, false); c.Certificates[0].Leaf.Equal(old.Certificates[0].Leaf) {
				t.Fatalf("attempt %d is not with the new certificate", i)
			}
			if c := connect(t, r, true); !c.Certificates[0].Leaf.Equal(old.Certificates[0].Leaf) {
				t.Fatalf("after refusal %d the old certificate is not used", i)
			}
			if r.Outdated(old) {
				t.Fatal("the old certificate is left for one that the fleet refuses")
			}
		}
		time.Sleep(time.Minute)
		w.recorded("raised identity.renewal-failing")
		if got := w.generations(enrolment.Reporting); got != "2c 1c+" {
			t.Errorf("generations %q", got)
		}
		connect(t, r, true)
		time.Sleep(time.Minute)
		w.recorded("cleared identity.renewal-failing")
		if got := w.generations(enrolment.Reporting); got != "2c+" {
			t.Errorf("generations %q", got)
		}
		r.Outcome(nil, true)
		r.Outcome(&tls.Config{}, false)
	})
}

// A renewal that is refused leaves the identity at work, and is told.
//
// Verifies: SR-045
func TestRenewalFails(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r, stop := w.run()
		defer stop()
		connect(t, r, true)
		w.rec.take()
		w.fleet.set(func(f *fleet) { f.refuse = &est.Error{Status: 403, Text: "revoked"} })
		time.Sleep(life * 3 / 4)
		if got := fmt.Sprint(w.rec.take()); !strings.Contains(got, "raised identity.renewal-failing") {
			t.Errorf("recorded %s", got)
		}
		connect(t, r, true)
		if s := r.Status(); s.State != "ready" {
			t.Errorf("%+v", s)
		}
	})
}

// Power cuts: the state partition is copied after each step of enrolment and of
// renewal, as idstore takes them; from every copy a device starts that either has
// its working identity or gets one by itself.
//
// Verifies: SR-045
func TestPowerCuts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		copies := map[string]string{}
		var order []string
		snapshot := func(what string) {
			name := fmt.Sprint(len(order), " ", what)
			dir := filepath.Join(t.TempDir(), fmt.Sprint(len(order)))
			if err := os.CopyFS(dir, os.DirFS(w.config.State)); err != nil {
				t.Fatal(err)
			}
			order, copies[name] = append(order, name), dir
		}
		// The registrar sees the device between any two of its steps.
		w.chip.hook, w.fleet.hook = snapshot, snapshot
		snapshot("manufactured")
		r, stop := w.run()
		snapshot("enrolled")
		connect(t, r, true)
		snapshot("connected")
		time.Sleep(time.Second)
		if err := r.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		snapshot("renewed")
		connect(t, r, true)
		snapshot("connected anew")
		stop()
		w.chip.hook, w.fleet.hook = nil, nil
		if len(order) < 15 {
			t.Fatalf("only %d moments: %v", len(order), order)
		}
		connected := false
		for _, name := range order {
			connected = connected || strings.Contains(name, "connected")
			c := *w
			c.config.State, c.store = copies[name], idstore.Open(copies[name])
			c.fleet.took()
			if connected { // a device that has connected needs nobody
				c.config.Registrar = ""
			}
			r, stop := c.run()
			connect(t, r, true)
			if s := r.Status(); s.State != "ready" {
				t.Errorf("%s: %+v", name, s)
			}
			if got := c.generations(enrolment.Reporting); !strings.HasSuffix(got, "c+") {
				t.Errorf("%s: generations %q", name, got)
			}
			stop()
		}
	})
}

// Every single write of the store is cut short too: whatever of a generation's
// files is there, the older one works.
//
// Verifies: SR-045
func TestHalfAGeneration(t *testing.T) {
	for _, files := range []string{"", "key.pem", "key.pem chain.pem", "key.pem.tmp", "key.pem chain.pem.tmp", "chain.pem", "key.pem~", "key.pem chain.pem~"} {
		bubble(t, func(t *testing.T, w *world) {
			r, stop := w.run()
			old := connect(t, r, true)
			if err := r.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			stop()
			dir := filepath.Join(w.config.State, "identity/reporting/0002")
			text := map[string][]byte{}
			for _, f := range []string{"key.pem", "chain.pem"} {
				b, err := os.ReadFile(filepath.Join(dir, f))
				if err != nil {
					t.Fatal(err)
				}
				text[f] = b
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			for _, f := range strings.Fields(files) {
				whole := text[strings.TrimSuffix(strings.TrimSuffix(f, ".tmp"), "~")]
				if strings.HasSuffix(f, "~") { // torn
					f, whole = strings.TrimSuffix(f, "~"), whole[:len(whole)/2]
				}
				w.write(filepath.Join(dir, f), whole)
			}
			w.config.Registrar = ""
			r, stop = w.run()
			defer stop()
			c := connect(t, r, false)
			if files == "key.pem chain.pem" { // the new one is whole
				c = connect(t, r, false)
			}
			if !c.Certificates[0].Leaf.Equal(old.Certificates[0].Leaf) {
				t.Errorf("with %q the old identity is gone", files)
			}
		})
	}
}

// A damaged file is told, and what is whole is used; without anything whole the
// device enrols anew.
//
// Verifies: SR-045
func TestDamagedStore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.run()
		stop()
		w.rec.take()
		for _, name := range []string{"reporting/0001/key.pem", "crl.der", "roots.pem", "floor"} {
			w.write(filepath.Join(w.config.State, "identity", name), []byte("damaged"))
		}
		r, stop := w.run()
		defer stop()
		time.Sleep(time.Minute)
		got := fmt.Sprint(w.rec.take())
		if !strings.Contains(got, "raised identity.store-damaged") || r.Status().State != "ready" {
			t.Errorf("recorded %s, status %+v", got, r.Status())
		}
		connect(t, r, true)
	})
}

// Enrolling by hand makes new keys and keeps those that work.
func TestEnrollNow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r, stop := w.run()
		defer stop()
		connect(t, r, true)
		if err := r.Enroll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a, b := w.generations(enrolment.Reporting), w.generations(enrolment.Service); a != "2c 1c+" || b != "2c+ 1c+" {
			t.Errorf("generations %q and %q", a, b)
		}
		if err := r.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b := w.generations(enrolment.Service); b != "3c+ 2c+" {
			t.Errorf("service generations %q: the last but one is kept for programs that use it", b)
		}
	})
}
