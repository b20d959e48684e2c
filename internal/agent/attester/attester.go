// Package attester is the role that judges the boot: it loads the signed release
// and the file baseline, collects the evidence (logs, quotes, IMA list, in this
// order: quotes before the list), appraises it on the device itself and records
// the verdict and what was found. Others get the same evidence, as the answer to
// their question. It is the attester and, for the device's own verdict, the
// verifier of RFC 9334, section 3. Evidence that cannot be read is a finding, and
// is tried again.
package attester

import (
	"context"
	"crypto/ecdsa"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/posture"
	"ward/internal/trust/quote"
	"ward/internal/trust/release"
)

// Quoter is what the role asks the TPM for. Quote gives registers and what the
// attestation key signs of them; one that was extended in between does not fit.
type Quoter interface {
	AttestationKey(ctx context.Context) (*ecdsa.PublicKey, error)
	Quote(ctx context.Context, qualifying [32]byte, bank pcr.Algorithm, registers []int) (quote.Quote, pcr.Values, error)
	ReadPCRs(ctx context.Context, bank pcr.Algorithm, which []int) (pcr.Values, error)
}

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config is what the role needs. SecurityFS and SysFS are rooted at the mount
// points.
type Config struct {
	Release   string // file of the signed manifest
	Baseline  string // file of the baseline
	Trust     string // folder of the trust anchors
	Threshold int    // how many release keys must have signed; less than 1 means 1
	BringUp   bool   // report everything, judge nothing

	Tenant, Device string // as in the certificate
	Boot           string // the kernel's boot id

	SecurityFS fs.FS
	SysFS      fs.FS
	UserLogFS  fs.FS  // the folder of systemd's measurement log; nil: there is none
	TPM        Quoter // nil: there is none

	// Head is the head of the journal, which quotes sign; nil: there is no journal.
	Head func() evidence.Record
	// Posture is what was last read of the device's state beside its files, and
	// Running the set of components that have run since boot, at most
	// evidence.MaxRunning bytes; the quotes sign a digest of both. nil: nothing is told.
	Posture func() []posture.Claim
	Running func() []byte
	// State is the file that keeps what the first verdict of a boot established,
	// for the daemon's next start in the same boot; empty: nothing is kept.
	State string
	// MaxList bounds the IMA list in evidence for others, in bytes; 0 means
	// the package's MaxList.
	MaxList int64

	Started  time.Time // of the daemon; zero: of New
	Recorder Recorder
	// First says whether an incident about a subject was not told in this boot yet,
	// by anybody, and that it is told now; nil: it is asked of this run alone.
	First func(ctx context.Context, subject string, f finding.Finding) bool
	// Hide gives what stands for the path of a file that is in no release, wherever
	// it leaves the device; nil: the path itself.
	Hide  func(path string) string
	Alive func() // called at least every 5 seconds
	Log   *slog.Logger
}

// UserLogFolder is where systemd keeps its measurement log.
const UserLogFolder = "/run/log/systemd"

// Bank is the bank of registers that releases name.
const Bank = pcr.SHA256

const (
	aliveEvery = 5 * time.Second
	// firstRetry and lastRetry bound how often evidence is collected anew while
	// something about it could not be judged; the delay doubles.
	firstRetry = 30 * time.Second
	lastRetry  = 16 * time.Minute
)

// Snapshot is one appraisal with what it was made of.
type Snapshot struct {
	Result   appraisal.Result
	Release  *release.Verified // nil: none was accepted
	Baseline *baseline.Index   // nil: none can be trusted
	At       time.Time         // wall clock, for people
	Took     time.Duration     // from the daemon's start to the verdict, the TPM's time excluded
	TPM      time.Duration     // the TPM's share
	// Quoted is the pcrDigest of the quote over the boot registers (TPM2_Quote, Part 3,
	// section 18.4): SHA-256 over their values in the order of their numbers. Empty:
	// they were not quoted.
	Quoted pcr.Digest

	again bool // the TPM may give more at another time
}

// Covered is how many entries of the measurement list need no other judge: all
// that were read, and none where more was found than is told one by one.
func (s Snapshot) Covered() int {
	if len(s.Result.Findings) > maxEvents {
		return 0
	}
	return s.Result.IMAEntries
}

// Attester is the role.
type Attester struct {
	config Config
	first  chan struct{} // closed with the first snapshot

	mu     sync.Mutex
	latest Snapshot
	done   bool
	known  *appraisal.Since // what was established in this boot
	shared shared           // what the fleet holds of this boot

	answering chan struct{} // holds one element while evidence is made for others
	reported  reported      // Run's own
}

// New makes the role; Run does its work.
func New(c Config) *Attester {
	if c.Started.IsZero() {
		c.Started = time.Now()
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxList == 0 {
		c.MaxList = MaxList
	}
	if c.Head == nil {
		c.Head = func() evidence.Record { return evidence.Record{} }
	}
	a := &Attester{config: c, first: make(chan struct{}), answering: make(chan struct{}, 1), reported: newReported()}
	a.known = a.loadKnown()
	if a.config.First == nil {
		a.config.First = a.reported.first
	}
	return a
}

// since is what was established in this boot, nil when nothing was.
func (a *Attester) since() *appraisal.Since {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known
}

// Latest returns the last appraisal; false before there is one.
func (a *Attester) Latest() (Snapshot, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.latest, a.done
}

// Judged waits for the first appraisal.
func (a *Attester) Judged(ctx context.Context) (Snapshot, error) {
	select {
	case <-ctx.Done():
		return Snapshot{}, context.Cause(ctx)
	case <-a.first:
		s, _ := a.Latest()
		return s, nil
	}
}

// Run appraises the boot and records the outcome. While something could not be
// judged it tries again with a growing delay and records what changes; then it
// stays until ctx ends, or until somebody finds that the baseline is not what it
// was: then all is looked at anew.
func (a *Attester) Run(ctx context.Context) error {
	retry := firstRetry
	for ctx.Err() == nil {
		a.config.Alive()
		s := a.appraise(ctx)
		if ctx.Err() != nil {
			return nil // what an ended context could not read says nothing
		}
		a.publish(s)
		a.report(ctx, s)
		wait := time.Duration(-1)
		if !settled(s.Result) || s.again {
			wait, retry = retry, min(2*retry, lastRetry)
		}
		a.pause(ctx, wait)
	}
	return nil
}

// settled says whether another look could tell more: nothing that could be read
// changes within a boot.
func settled(r appraisal.Result) bool {
	for _, tier := range r.Claims {
		if tier == appraisal.None {
			return false
		}
	}
	return true
}

// publish makes a snapshot the latest one.
func (a *Attester) publish(s Snapshot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.latest = s
	if !a.done {
		a.done = true
		close(a.first)
	}
}

// pause waits, for ever when d is negative, and says that it is alive. It ends
// early when the baseline could not be read again.
func (a *Attester) pause(ctx context.Context, d time.Duration) {
	var end <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		end = timer.C
	}
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-tick.C:
			a.config.Alive()
			if s, _ := a.Latest(); s.Baseline != nil && s.Baseline.Err() != nil {
				return
			}
		}
	}
}

// appraise loads the release, collects the evidence and judges it once.
func (a *Attester) appraise(ctx context.Context) Snapshot {
	began := a.config.Started
	if _, again := a.Latest(); again {
		began = time.Now()
	}
	var s Snapshot
	var found, more []finding.Finding
	s.Release, found = LoadRelease(a.config.Release, a.config.Trust, a.config.Threshold)
	s.Baseline, more = LoadBaseline(a.config.Baseline, s.Release)
	found = append(found, more...)
	c := a.collect(ctx, newNonce(), s.Release)
	found = append(found, c.findings...)
	policy := appraisal.Policy{BringUp: a.config.BringUp, Baseline: s.Baseline, AK: c.ak, Direct: true, Nonce: c.evidence.Nonce, Since: a.since()}
	for round := 1; ; round++ {
		list := a.openList(&c)
		s.Result = appraisal.AppraiseList(c.evidence, list, list.truncated, s.Release, policy, time.Now())
		list.close()
		if round == maxRounds || !overtaken(s.Result) || !a.requote(ctx, &c) {
			break
		}
	}
	s.TPM, s.again, s.Quoted = c.tpm, c.again, quotedDigest(c.evidence, s.Release)
	if s.Baseline != nil && s.Baseline.Err() != nil {
		found = append(found, baselineFault(a.config.Baseline, s.Baseline.Err())) // it was whole a moment ago
		s.Baseline = nil
	}
	s.Result.Findings = append(found, s.Result.Findings...)
	s.At, s.Took = time.Now(), time.Since(began)-s.TPM
	a.keep(s.Result.Next)
	return s
}

// maxRounds bounds how often PCR 10 and its list are read anew in one appraisal
// because they did not fit.
const maxRounds = 3

// overtaken tells a list that does not explain PCR 10: the registers are read
// first, so that honest entries can only be too many, and yet a kernel may be
// slower to show an entry than to extend for it.
func overtaken(r appraisal.Result) bool {
	for _, f := range r.Findings {
		if f.Code == finding.IMAPCRDiffers && f.PCR != nil {
			return true
		}
	}
	return false
}
