package updategate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/updategate"
	"ward/internal/contracttest"
	"ward/internal/device/tpm"
	"ward/internal/trust/event"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
	"ward/internal/trust/release/releasetest"
)

var errBusy = fmt.Errorf("raise: %w", tpm.ErrBusy)

// counter is a TPM's counter that fails when it is told to.
type counter struct {
	mu      sync.Mutex
	value   uint64
	fail    []error // of the next calls; nil lets one through
	halfway bool    // a raise moves one step and fails
	reads   int
	raises  []uint64 // how far was asked for
	times   []time.Time
}

func (c *counter) next() error {
	c.times = append(c.times, time.Now())
	if len(c.fail) == 0 {
		return nil
	}
	err := c.fail[0]
	c.fail = c.fail[1:]
	return err
}

func (c *counter) Read(context.Context) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	return c.value, c.next()
}

func (c *counter) Raise(_ context.Context, r policy.Raise) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.next(); err != nil {
		return err
	}
	c.raises = append(c.raises, r.To)
	if c.halfway {
		c.value++
		return fmt.Errorf("at %d: %w", c.value, tpm.ErrReset)
	}
	if c.value > r.To {
		return tpm.ErrCounterAhead
	}
	c.value = r.To
	return nil
}

// boot is the verdict on a boot.
type boot struct {
	mu        sync.Mutex
	running   *release.Verified
	affirming bool
	judged    chan struct{}
}

func (b *boot) Running(ctx context.Context) (*release.Verified, bool, error) {
	if b.judged != nil {
		select {
		case <-b.judged:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running, b.affirming, nil
}

func (b *boot) set(affirming bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.affirming = affirming
}

// recorder keeps what was recorded as "confirmed 2.0", "raised update.locked-out".
type recorder struct {
	mu     sync.Mutex
	events []string
	full   bool // the journal takes nothing
}

func (r *recorder) Record(ctx context.Context, e event.Event) error {
	contracttest.Recorded(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full || ctx.Err() != nil {
		return errors.New("no space left on device")
	}
	what := e.Type[strings.LastIndexByte(e.Type, '.')+1:]
	if e.Finding != nil {
		r.events = append(r.events, what+" "+string(e.Finding.Code))
		return nil
	}
	var rep struct {
		Version, By string
		Counter     uint64
	}
	if err := json.Unmarshal(e.Report, &rep); err != nil {
		return err
	}
	if _, err := event.Encode(e, event.Stamp{Source: event.Source{Tenant: "lab", Device: "p"}, Epoch: 1, Sequence: 1, Boot: "b"}); err != nil {
		return err
	}
	text := what + " " + rep.Version
	if rep.Counter > 0 {
		text += fmt.Sprintf(" at %d", rep.Counter)
	}
	if rep.By != "" {
		text += " by " + rep.By
	}
	r.events = append(r.events, text)
	return nil
}

func (r *recorder) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.events, "; ")
	r.events = nil
	return s
}

// device is what outlives a boot.
type device struct {
	counter counter
	log     recorder
	config  updategate.Config
}

func approved(t testing.TB, version string, index uint64) *release.Verified {
	t.Helper()
	return releasetest.Verified(t, releasetest.Approved(t, releasetest.Manifest(version, index, releasetest.Values(7, 11, 12))))
}

func newDevice(t testing.TB, counter uint64) *device {
	t.Helper()
	key := releasetest.PolicyKey(t)
	d := new(device)
	d.counter.value = counter
	d.config = updategate.Config{Counter: &d.counter, Trusted: &key, State: filepath.Join(t.TempDir(), "update.json"), Recorder: &d.log}
	return d
}

// boots starts the device with a release; the end is the function's.
func (d *device) boots(t *testing.T, b *boot) (*updategate.Gate, func()) {
	t.Helper()
	d.config.Verdict = b
	g := updategate.New(d.config)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	synctest.Wait()
	return g, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (d *device) want(t *testing.T, counter uint64, said string) {
	t.Helper()
	synctest.Wait()
	d.counter.mu.Lock()
	value := d.counter.value
	d.counter.mu.Unlock()
	if got := d.log.said(); value != counter || got != said {
		t.Errorf("the counter is at %d, want %d; recorded %q, want %q", value, counter, got, said)
	}
}

// The counter moves when all is well and somebody says so, once, and no further
// than the running release.
//
// Verifies: SR-038
func TestConfirmedReleaseMovesTheCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, 21)
		g, end := d.boots(t, &boot{running: approved(t, "2.0", 3), affirming: true})
		time.Sleep(5 * time.Minute)
		d.want(t, 21, "")
		if s := g.Status(); s.Gate != release.GateUnconfirmed || *s.Counter != 21 || s.Base != 20 || s.Index != 3 || s.Confirmed || !s.Raisable {
			t.Errorf("before: %+v", s)
		}
		for range 2 {
			s, err := g.Confirm(t.Context(), "uid 0")
			if err != nil || s.Gate != release.GateCurrent || *s.Counter != 23 || !s.Confirmed {
				t.Errorf("confirmed: %+v, %v", s, err)
			}
		}
		d.want(t, 23, "confirmed 2.0 by uid 0; committed 2.0 at 23")
		time.Sleep(time.Hour)
		end()
		_, end = d.boots(t, &boot{running: approved(t, "2.0", 3), affirming: true})
		time.Sleep(time.Hour)
		end()
		d.want(t, 23, "")
		if !slices.Equal(d.counter.raises, []uint64{23}) {
			t.Errorf("raised to %v", d.counter.raises)
		}
		if d.counter.reads > 4 {
			t.Errorf("the TPM was asked %d times for a counter that does not move by itself", d.counter.reads)
		}
	})
}

// Verifies: SR-038
func TestAutomaticConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, 21)
		d.config.Automatic = true
		b := &boot{running: approved(t, "2.0", 3)}
		_, end := d.boots(t, b)
		time.Sleep(time.Hour)
		d.want(t, 21, "")
		b.set(true)
		time.Sleep(2 * time.Minute)
		d.want(t, 23, "confirmed 2.0 by automatic; committed 2.0 at 23")
		end()
	})
}

// Verifies: SR-038
func TestWhatIsNotConfirmed(t *testing.T) {
	unbound := releasetest.Verified(t, releasetest.Manifest("2.0", 3, releasetest.Values(7, 11, 12)))
	silent := releasetest.Manifest("2.0", 3, releasetest.Values(7, 11, 12))
	silent, err := silent.Approve(release.Approval{Base: releasetest.Base, NoRaise: true}, releasetest.Key(t, releasetest.Policy))
	if err != nil {
		t.Fatal(err)
	}
	stranger := releasetest.Manifest("2.0", 3, releasetest.Values(7, 11, 12))
	if stranger, err = stranger.Approve(release.Approval{Base: releasetest.Base}, releasetest.Key(t, 9)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		counter uint64
		boot    *boot
		refused bool
		gate    release.Gate
		said    string
	}{
		{"no verified release", 21, &boot{affirming: true}, true, release.GateUnverified, ""},
		{"a boot that is not affirming", 21, &boot{running: approved(t, "2.0", 3)}, true, release.GateNotAffirming, ""},
		{"a release without an identity policy", 21, &boot{running: unbound, affirming: true}, false, release.GateUnbound, "confirmed 2.0 by me"},
		{"without permission", 21, &boot{running: releasetest.Verified(t, silent), affirming: true}, false, release.GateNotPermitted, "confirmed 2.0 by me"},
		{"by another policy key", 21, &boot{running: releasetest.Verified(t, stranger), affirming: true}, false, release.GateForeign, "raised update.counter-failing; confirmed 2.0 by me"},
		{"locked out", 24, &boot{running: approved(t, "2.0", 3), affirming: true}, false, release.GateLockedOut, "raised update.locked-out; confirmed 2.0 by me"},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDevice(t, tt.counter)
			g, end := d.boots(t, tt.boot)
			s, err := g.Confirm(t.Context(), "me")
			if errors.Is(err, updategate.ErrRefused) != tt.refused || s.Gate != tt.gate {
				t.Errorf("%s: %+v, %v, want gate %s", tt.name, s, err, tt.gate)
			}
			time.Sleep(time.Hour)
			t.Log(tt.name)
			d.want(t, tt.counter, tt.said)
			end()
			if len(d.counter.raises) > 0 {
				t.Errorf("%s: raised", tt.name)
			}
		})
	}
}

// A release that was locked out says so for as long as it runs, and not under the
// newer one.
//
// Verifies: SR-038
func TestLockedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, 23)
		_, end := d.boots(t, &boot{running: approved(t, "1.0", 1)}) // also when the boot is not affirming
		time.Sleep(time.Hour)
		d.want(t, 23, "raised update.locked-out")
		end()
		_, end = d.boots(t, &boot{running: approved(t, "2.0", 3), affirming: true})
		time.Sleep(time.Hour)
		d.want(t, 23, "")
		end()

		// The counter is ahead although it was not at the last look: ErrCounterAhead.
		d = newDevice(t, 21)
		g, end := d.boots(t, &boot{running: approved(t, "2.0", 3), affirming: true})
		d.counter.value = 24
		if s, err := g.Confirm(t.Context(), "me"); err != nil || s.Gate != release.GateLockedOut {
			t.Errorf("%+v, %v", s, err)
		}
		d.want(t, 24, "confirmed 2.0 by me; raised update.locked-out")
		end()
	})
}

// A TPM that fails is asked again, less and less often; the failure is visible
// until it ends, and no confirmation is lost.
//
// Verifies: SR-038, SR-017
func TestTPMFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, 21)
		d.counter.fail = slices.Repeat([]error{errBusy}, 2)
		g, end := d.boots(t, &boot{running: approved(t, "2.0", 3), affirming: true})
		time.Sleep(time.Minute)
		d.want(t, 21, "") // twice is nothing
		d.counter.mu.Lock()
		d.counter.fail, d.counter.times = slices.Repeat([]error{errBusy}, 12), nil
		d.counter.mu.Unlock()
		begun := time.Now()
		if s, err := g.Confirm(t.Context(), "me"); err != nil || s.Gate != release.GateOpen || !s.Confirmed {
			t.Errorf("confirmed while the TPM fails: %+v, %v", s, err)
		}
		d.want(t, 21, "confirmed 2.0 by me")
		time.Sleep(10 * time.Minute)
		d.want(t, 21, "raised update.counter-failing")
		time.Sleep(3 * time.Hour)
		d.want(t, 23, "committed 2.0 at 23; cleared update.counter-failing")
		end()
		for i := 2; i < len(d.counter.times)-3; i++ {
			wait, shortest := d.counter.times[i].Sub(d.counter.times[i-1]), time.Second<<(i-2)
			if wait > 16*time.Minute || wait < min(shortest, 7*time.Minute) {
				t.Errorf("call %d came %s after the one before, %s after the first", i, wait, d.counter.times[i].Sub(begun))
			}
		}
	})
}

// A power cut at any point leaves a counter that the next boot moves on, and
// each event at least once.
//
// Verifies: SR-038
func TestPowerCuts(t *testing.T) {
	v2, v1 := approved(t, "2.0", 3), approved(t, "1.0", 1)
	for _, tt := range []struct {
		name   string
		cut    func(d *device, g *updategate.Gate, ctx context.Context)
		value  uint64 // after the cut
		then   *release.Verified
		ends   uint64
		events string // of the boot after it
	}{
		{"before anything", func(*device, *updategate.Gate, context.Context) {}, 21, v2, 21, ""},
		{"confirmed, counter not moved", func(d *device, g *updategate.Gate, ctx context.Context) {
			d.counter.fail = []error{errBusy}
			_, _ = g.Confirm(ctx, "me")
		}, 21, v2, 23, "confirmed 2.0 by me; committed 2.0 at 23"},
		{"confirmed, the counter halfway", func(d *device, g *updategate.Gate, ctx context.Context) {
			d.counter.halfway = true
			_, _ = g.Confirm(ctx, "me")
			d.counter.halfway = false
		}, 22, v2, 23, "confirmed 2.0 by me; committed 2.0 at 23"},
		{"counter moved, not on record", func(d *device, g *updategate.Gate, ctx context.Context) {
			d.counter.fail = []error{errBusy}
			_, _ = g.Confirm(ctx, "me")
			d.counter.value = 23
		}, 23, v2, 23, "confirmed 2.0 by me; committed 2.0 at 23"},
		{"confirmed, then the old release boots", func(d *device, g *updategate.Gate, ctx context.Context) {
			d.counter.fail = []error{errBusy}
			_, _ = g.Confirm(ctx, "me")
		}, 21, v1, 21, ""},
		{"all done, then the old release boots", func(_ *device, g *updategate.Gate, ctx context.Context) {
			_, _ = g.Confirm(ctx, "me")
		}, 23, v1, 23, "raised update.locked-out"},
		{"confirmation lost with the state", func(d *device, g *updategate.Gate, ctx context.Context) {
			d.counter.fail = []error{errBusy}
			_, _ = g.Confirm(ctx, "me")
			_ = os.WriteFile(d.config.State, []byte(`{"schema":1,"confirmed":"`), 0o600)
		}, 21, v2, 21, ""},
		{"state of another version", func(d *device, g *updategate.Gate, ctx context.Context) {
			_ = os.WriteFile(d.config.State, []byte(`{"schema":2}`), 0o600)
		}, 21, v2, 21, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDevice(t, 21)
			d.config.Verdict = &boot{running: v2, affirming: true}
			tt.cut(d, updategate.New(d.config), t.Context())
			d.log.said()
			if d.counter.value != tt.value {
				t.Errorf("%s: the counter is at %d after the cut, want %d", tt.name, d.counter.value, tt.value)
			}
			_, end := d.boots(t, &boot{running: tt.then, affirming: true})
			time.Sleep(time.Hour)
			t.Log(tt.name)
			d.want(t, tt.ends, tt.events)
			end()
		})
	}
}

// A full disk does not keep the counter from moving, and a confirmation that can
// neither be kept nor acted on is an error.
//
// Verifies: SR-038, SR-017
func TestStateCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, 21)
		d.config.State = filepath.Join(t.TempDir(), "none", "update.json")
		d.config.Verdict = &boot{running: approved(t, "2.0", 3), affirming: true}
		if s, err := updategate.New(d.config).Confirm(t.Context(), "me"); err != nil || *s.Counter != 23 {
			t.Errorf("%+v, %v", s, err)
		}
		d.counter.value, d.counter.fail = 21, []error{errBusy}
		if _, err := updategate.New(d.config).Confirm(t.Context(), "me"); err == nil || errors.Is(err, updategate.ErrRefused) {
			t.Errorf("neither kept nor moved: %v", err)
		}
	})
}

// A release that nobody confirms is reported after a day of running time,
// however often the device is switched off in between.
//
// Verifies: SR-038
func TestUnconfirmedForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, 21)
		v2 := approved(t, "2.0", 3)
		for range 3 {
			_, end := d.boots(t, &boot{running: v2, affirming: true})
			time.Sleep(7*time.Hour + 45*time.Minute)
			end()
			d.want(t, 21, "")
			time.Sleep(16 * time.Hour) // off
		}
		g, end := d.boots(t, &boot{running: v2, affirming: true})
		time.Sleep(4 * time.Hour)
		d.want(t, 21, "raised update.unconfirmed")
		if _, err := g.Confirm(t.Context(), "me"); err != nil {
			t.Error(err)
		}
		d.want(t, 23, "confirmed 2.0 by me; committed 2.0 at 23; cleared update.unconfirmed")
		end()
	})
}

// Each release has its own day.
//
// Verifies: SR-038
func TestUnconfirmedTimeIsOfOneRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, 21)
		for i, version := range []string{"2.0", "3.0"} {
			_, end := d.boots(t, &boot{running: approved(t, version, uint64(3+i)), affirming: true})
			time.Sleep(20 * time.Hour)
			end()
			d.want(t, 21, "")
		}
	})
}

// slow is a TPM that answers after who asked has gone.
type slow struct{ counter }

func (s *slow) Raise(ctx context.Context, r policy.Raise) error {
	<-ctx.Done()
	return ctx.Err()
}

// An event that the journal does not take is recorded later, and one is recorded
// although who asked has gone.
//
// Verifies: SR-038, SR-017
func TestEventsAreNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, 21)
		d.log.full = true
		g, end := d.boots(t, &boot{running: approved(t, "2.0", 3), affirming: true})
		if _, err := g.Confirm(t.Context(), "me"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		d.want(t, 23, "")
		d.log.mu.Lock()
		d.log.full = false
		d.log.mu.Unlock()
		time.Sleep(2 * time.Minute)
		d.want(t, 23, "confirmed 2.0 by me; committed 2.0 at 23")
		end()

		d = newDevice(t, 0)
		d.config.Counter, d.config.Verdict = &slow{counter{value: 21}}, &boot{running: approved(t, "2.0", 3), affirming: true}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if s, err := updategate.New(d.config).Confirm(ctx, "me"); err != nil || !s.Confirmed || !strings.Contains(s.Reason, "deadline") {
			t.Errorf("%+v, %v", s, err)
		}
		d.want(t, 0, "confirmed 2.0 by me")
	})
}

// Before there is a verdict nothing is decided, and who asks waits for it.
//
// Verifies: SR-038
func TestWaitsForTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, 21)
		var alive int
		d.config.Alive = func() { alive++ }
		b := &boot{running: approved(t, "2.0", 3), affirming: true, judged: make(chan struct{})}
		g, end := d.boots(t, b)
		time.Sleep(10 * time.Minute)
		d.want(t, 21, "")
		if alive < 5 {
			t.Errorf("alive %d times in ten minutes", alive)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if s, err := g.Confirm(ctx, "me"); !errors.Is(err, context.DeadlineExceeded) || s.Counter != nil {
			t.Errorf("%+v, %v", s, err)
		}
		go func() { time.Sleep(time.Minute); close(b.judged) }()
		if s, err := g.Confirm(t.Context(), "me"); err != nil || s.Gate != release.GateCurrent {
			t.Errorf("%+v, %v", s, err)
		}
		end()
	})
}
