// Package updategate is the role that moves the TPM's anti-rollback counter
// (docs/update.md): up to the running release, once its boot was appraised as
// affirming, its slot was marked good, and the policy key permits it. From then
// on older releases open nothing that is bound to the boot state. It decides with
// release.DecideRaise and commits here; both can be repeated, and a power cut at
// any point leaves a counter that the next boot moves on.
package updategate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
)

const (
	// recheck is how often the decision is made anew; the TPM is not asked for it.
	recheck = time.Minute
	// firstRetry and lastRetry bound the waits after the TPM has failed; they
	// double, and are shortened by up to a half at random.
	firstRetry = 2 * time.Second
	lastRetry  = 15 * time.Minute
	// failures in a row are a finding; one alone is a TPM that was busy.
	failures = 3
	// worryAfter is how long a release may run unconfirmed, in running time.
	worryAfter = 24 * time.Hour
	// keepEvery is how often the running time is written down.
	keepEvery = 30 * time.Minute
)

// Counter is the anti-rollback counter. Errors are device/tpm's.
type Counter interface {
	Read(ctx context.Context) (uint64, error)
	Raise(ctx context.Context, permission policy.Raise) error
}

// Verdict is where the verdict on this boot comes from.
type Verdict interface {
	// Running waits for the first verdict and gives the release that the boot was
	// judged against, nil without one, and whether the newest verdict is affirming.
	Running(ctx context.Context) (r *release.Verified, affirming bool, err error)
}

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config is what the role needs.
type Config struct {
	Counter   Counter
	Verdict   Verdict
	Trusted   *policy.Key // the policy key of the trust anchors; nil: there is none
	Automatic bool        // an affirming verdict confirms the release
	State     string      // file that keeps what was confirmed
	Recorder  Recorder
	Alive     func() // called at least every two minutes
	Log       *slog.Logger
}

// Status is where the device stands.
type Status struct {
	Gate      release.Gate
	Counter   *uint64 // nil: not read yet
	Base      uint64
	Index     uint64
	Confirmed bool
	Raisable  bool // the release carries a permission to move the counter
	Reason    string
}

// Gate is the role.
type Gate struct {
	config Config
	turn   chan struct{} // holds one element while the state is used

	state   state
	said    said
	since   time.Time // running time unconfirmed that is not in the state yet
	counter *uint64   // what the TPM said last
	failed  int       // times in a row
	raised  map[finding.Code]bool

	mu     sync.Mutex
	status Status
}

// New makes the role; Run does its work.
func New(c Config) *Gate {
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gate{config: c, turn: make(chan struct{}, 1), raised: make(map[finding.Code]bool)}
	g.status.Reason = "the boot is being appraised"
	g.state = g.load()
	return g
}

// Status says where the device stands.
func (g *Gate) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.status
}

// Run decides and commits until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	retry := firstRetry
	for ctx.Err() == nil {
		g.config.Alive()
		wait := recheck
		err := g.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errNoVerdict):
		case err != nil:
			wait = g.sit(ctx, retry-rand.N(retry/2))
			retry = min(2*retry, lastRetry)
		default:
			retry = firstRetry
		}
		pause(ctx, wait)
	}
	return nil
}

// sit waits for a longer time and says that it is alive; the rest is returned.
func (g *Gate) sit(ctx context.Context, d time.Duration) time.Duration {
	for ; d > recheck && ctx.Err() == nil; d -= recheck {
		pause(ctx, recheck)
		g.config.Alive()
	}
	return d
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// errNoVerdict: the boot was not appraised yet; nothing is wrong with the TPM.
var errNoVerdict = errors.New("no verdict yet")

// look makes one decision and commits it.
func (g *Gate) look(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, recheck)
	defer cancel()
	running, affirming, err := g.config.Verdict.Running(bounded)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoVerdict, err)
	}
	if err := g.take(ctx); err != nil {
		return err
	}
	defer g.give()
	if g.config.Automatic && affirming && running != nil {
		_ = g.confirm(running, "automatic") // logged; it is confirmed anew after a restart
	}
	d, err := g.commit(ctx, running, affirming)
	g.tell(ctx, running, d)
	g.report(ctx, running, d, err)
	return err
}

// ErrRefused: the release is not confirmed, for the reason in the error.
var ErrRefused = errors.New("the release is not confirmed")

// Confirm marks the slot of the running release good, durably, and moves the
// counter. by says who asked. A boot that was not appraised as affirming gives
// ErrRefused. A TPM that fails is no error: the counter is moved later, and the
// status says so. It can be repeated.
func (g *Gate) Confirm(ctx context.Context, by string) (Status, error) {
	running, affirming, err := g.config.Verdict.Running(ctx)
	switch {
	case err != nil:
		return g.Status(), fmt.Errorf("confirm release: wait for the verdict: %w", err)
	case running == nil:
		return g.Status(), fmt.Errorf("%w: no release was verified: look at the findings", ErrRefused)
	case !affirming:
		return g.Status(), fmt.Errorf("%w: the verdict on this boot is not affirming: look at the findings", ErrRefused)
	}
	if err := g.take(ctx); err != nil {
		return g.Status(), fmt.Errorf("confirm release: %w", err)
	}
	defer g.give()
	kept := g.confirm(running, by)
	d, err := g.commit(ctx, running, affirming)
	g.tell(ctx, running, d)
	g.report(ctx, running, d, err)
	if kept != nil && d.Gate != release.GateCurrent {
		return g.Status(), fmt.Errorf("confirm release: %w", kept)
	}
	return g.Status(), nil
}

// commit reads the counter if it is not known, decides, and moves it. Others see
// the decision that it comes to, and none before the counter was asked for.
func (g *Gate) commit(ctx context.Context, running *release.Verified, affirming bool) (release.Decision, error) {
	s := release.Standing{Running: running, Trusted: g.config.Trusted, Affirming: affirming, Confirmed: running != nil && g.state.Confirmed == name(running)}
	d, err := g.step(ctx, s)
	g.publish(s, d)
	return d, err
}

func (g *Gate) step(ctx context.Context, s release.Standing) (release.Decision, error) {
	d := release.DecideRaise(s)
	if d.Gate == release.GateUnverified || d.Gate == release.GateUnbound || d.Gate == release.GateForeign {
		g.counter = nil
		return d, nil // nothing of this release depends on the counter
	}
	for range 2 {
		if g.counter == nil {
			n, err := g.config.Counter.Read(ctx)
			if err != nil {
				return d, fmt.Errorf("read rollback counter: %w", err)
			}
			g.counter = &n
		}
		s.Counter = *g.counter
		if d = release.DecideRaise(s); d.Gate != release.GateOpen {
			break
		}
		err := g.config.Counter.Raise(ctx, d.Raise)
		g.counter = nil // it may have moved, also after an error
		if err != nil && !errors.Is(err, tpm.ErrCounterAhead) {
			return d, fmt.Errorf("raise rollback counter to %d: %w", d.Bound, err)
		}
	}
	return d, nil
}

func (g *Gate) publish(s release.Standing, d release.Decision) {
	status := Status{Gate: d.Gate, Counter: g.counter, Confirmed: s.Confirmed, Reason: d.Reason}
	if s.Running != nil {
		m := s.Running.Manifest()
		status.Index = m.RollbackIndex
		if p := m.IdentityPolicy; p != nil {
			status.Base, status.Raisable = p.Base, p.Raise != nil
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status = status
}

// take waits for the turn to use state and counter.
func (g *Gate) take(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Gate) give() { <-g.turn }
