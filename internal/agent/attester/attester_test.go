package attester_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/attester"
	"ward/internal/contracttest"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/device/tpm"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/quote"
	"ward/internal/trust/quote/quotetest"
)

// journal keeps what is recorded.
type journal struct {
	mu     sync.Mutex
	events []event.Event
}

func (j *journal) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
	return nil
}

// take returns what was recorded since the last call.
func (j *journal) take() []event.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := j.events
	j.events = nil
	return events
}

// said names events: "verdict affirming", "raised boot.log-empty boot".
func said(t *testing.T, events []event.Event) []string {
	t.Helper()
	var out []string
	for _, e := range events {
		if e.Type == event.BootVerdict {
			out = append(out, "verdict "+report(t, e).Verdict.String())
			continue
		}
		out = append(out, fmt.Sprintf("%s %s %s", strings.TrimPrefix(e.Type, "ward.finding."), e.Finding.Code, e.Subject))
	}
	return out
}

func report(t *testing.T, e event.Event) attester.Verdict {
	t.Helper()
	var v attester.Verdict
	if err := json.Unmarshal(e.Report, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// chip is a TPM that holds registers, quotes them and takes its time.
type chip struct {
	t      *testing.T
	device *appraisaltest.Device // its attestation key and clock
	mu     sync.Mutex
	values pcr.Values
	err    error
	noKey  bool
	takes  time.Duration
	quotes int         // how many were made
	moves  func(n int) // called between quote n, from 1, and the reading of its registers
}

func (c *chip) ReadPCRs(ctx context.Context, bank pcr.Algorithm, which []int) (pcr.Values, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	time.Sleep(c.takes)
	if c.err != nil {
		return nil, c.err
	}
	return c.read(bank, which)
}

func (c *chip) read(bank pcr.Algorithm, which []int) (pcr.Values, error) {
	values := make(pcr.Values)
	for _, n := range which {
		if bank != pcr.SHA256 || c.values[n] == nil {
			return nil, fmt.Errorf("asked for PCR %d of bank %s", n, bank)
		}
		values[n] = c.values[n]
	}
	return values, nil
}

func (c *chip) AttestationKey(context.Context) (*ecdsa.PublicKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return nil, c.err
	case c.noKey:
		return nil, fmt.Errorf("read key: %w", tpm.ErrNoKey)
	}
	return &c.device.AK.PublicKey, nil
}

func (c *chip) Quote(_ context.Context, qualifying [32]byte, bank pcr.Algorithm, which []int) (quote.Quote, pcr.Values, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	time.Sleep(c.takes)
	if c.err != nil {
		return quote.Quote{}, nil, c.err
	}
	values, err := c.read(bank, which)
	if err != nil {
		return quote.Quote{}, nil, err
	}
	c.device.Clock.Milliseconds += 100
	q := quotetest.Sign(c.t, c.device.AK, qualifying, c.device.Clock, bank, values)
	c.quotes++
	if c.moves != nil {
		c.moves(c.quotes)
	}
	values, err = c.read(bank, which)
	return q, values, err
}

func (c *chip) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// scene is a device with its files.
type scene struct {
	t       *testing.T
	device  *appraisaltest.Device
	kernel  *securityfstest.Kernel
	chip    *chip
	journal *journal
	config  attester.Config
}

func newScene(t *testing.T) *scene {
	t.Helper()
	d := appraisaltest.New(t)
	s := &scene{t: t, device: d, kernel: securityfstest.Boot(t, d), chip: &chip{t: t, device: d, values: d.PCRs}, journal: new(journal)}
	dir := t.TempDir()
	s.config = attester.Config{
		Release: filepath.Join(dir, "release.dsse"), Baseline: filepath.Join(dir, "baseline"), Trust: filepath.Join(dir, "trust"),
		Threshold: 1, Tenant: "lab", Device: "paper-1", Boot: "boot-1", SecurityFS: s.kernel.SecurityFS(), SysFS: s.kernel.SysFS(),
		TPM: s.chip, Recorder: s.journal,
	}
	if err := os.MkdirAll(filepath.Join(s.config.Trust, "release"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write(s.key(), appraisaltest.KeyPEM(t, d.Key))
	s.write(s.config.Release, d.Envelope(t))
	s.write(s.config.Baseline, d.Baseline)
	return s
}

func (s *scene) key() string { return filepath.Join(s.config.Trust, "release", "release.pem") }

func (s *scene) write(path string, b []byte) {
	s.t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) remove(path string) {
	s.t.Helper()
	if err := os.Remove(path); err != nil {
		s.t.Fatal(err)
	}
}

// play runs the role in a bubble while act acts; the first appraisal is done.
func (s *scene) play(act func(*attester.Attester)) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	a := attester.New(s.config)
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	if _, err := a.Judged(ctx); err != nil {
		s.t.Error(err)
	}
	synctest.Wait()
	act(a)
	cancel()
	if err := <-done; err != nil {
		s.t.Errorf("run: %v", err)
	}
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Verifies: SR-001
func TestHonestBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.chip.takes = 700 * time.Millisecond
		var alive atomic.Int64
		s.config.Alive = func() { alive.Add(1) }
		s.play(func(a *attester.Attester) {
			events := s.journal.take()
			if got := said(t, events); !slices.Equal(got, []string{"verdict affirming"}) {
				t.Fatalf("recorded %q", got)
			}
			v := report(t, events[0])
			digest := s.device.Verified(t).Digest()
			if events[0].Severity != finding.Info || v.Events != 19 || v.IMAEntries != 3 || v.Release.Version != "1.0.0" || v.Release.Digest != fmt.Sprintf("%x", digest) {
				t.Errorf("%+v", v)
			}
			if v.TPMMS != 1400 || v.TookMS != 0 {
				t.Errorf("took %v ms, TPM %v ms: the TPM's time does not count as the daemon's", v.TookMS, v.TPMMS)
			}
			if len(v.PCRs) != 11 || v.PCRs[4].State != appraisal.Matches || !bytes.Equal(v.PCRs[4].Value, s.device.PCRs[4]) {
				t.Errorf("PCRs %+v: want those that were extended", v.PCRs)
			}
			if snapshot, ok := a.Latest(); !ok || snapshot.Baseline == nil || snapshot.Release == nil || snapshot.Result.Verdict != appraisal.Affirming {
				t.Errorf("%v, %+v", ok, snapshot)
			}
			before := alive.Load()
			pass(time.Hour)
			if n := alive.Load() - before; n < 700 {
				t.Errorf("said %d times in an hour that it is alive", n)
			}
			if got := said(t, s.journal.take()); got != nil {
				t.Errorf("recorded later: %q", got)
			}
		})
	})
}

// A contraindicated verdict is critical, so that the journal syncs it before the
// finding is believed to be kept.
//
// Verifies: SR-001 SR-009
func TestContraindicatedVerdictIsCritical(t *testing.T) {
	events := once(t, func(s *scene) {
		changed := appraisaltest.Events()
		changed[len(changed)-1] = appraisaltest.Text(9, changed[len(changed)-1].Type, "load options and more")
		log := appraisaltest.Log(changed...)
		s.chip.values = appraisaltest.Replay(t, log)
		s.device.PCRs = s.chip.values
		s.device.SetList(t)
		s.kernel.Write(securityfstest.EventLog, log)
		s.kernel.Write(securityfstest.List, s.device.List)
	})
	want := []string{"verdict contraindicated", "raised boot.pcr-differs pcr/9", "raised boot.event-unexpected pcr/9/event/18"}
	if got := said(t, events); !slices.Equal(got, want) || events[0].Severity != finding.Critical {
		t.Errorf("recorded %q, severity %s", got, events[0].Severity)
	}
}

// Verifies: SR-008
func TestBringUp(t *testing.T) {
	events := once(t, func(s *scene) {
		s.config.BringUp = true
		s.kernel.Write(securityfstest.EventLog, nil)
	})
	want := []string{"verdict none", "raised boot.log-empty boot", "raised daemon.bring-up daemon"}
	if got := said(t, events); !slices.Equal(got, want) || !report(t, events[0]).BringUp {
		t.Errorf("recorded %q", got)
	}
}

// Programs that ran before the daemon are incidents; many are bounded and
// counted.
//
// Verifies: SR-005 SR-020
func TestManyFindingsAreBounded(t *testing.T) {
	events := once(t, func(s *scene) {
		var strangers []appraisaltest.Measured
		for i := range 200 {
			strangers = append(strangers, appraisaltest.Program(fmt.Sprintf("/tmp/%d", i)))
		}
		s.device.SetList(t, strangers...)
		s.kernel.Write(securityfstest.List, s.device.List)
	})
	got := said(t, events)
	if len(got) != 65 || got[0] != "verdict warning" || got[1] != "incident ima.unknown-file /tmp/0" {
		t.Errorf("%d events, %q", len(got), got[:2])
	}
	if v := report(t, events[0]); v.Findings != 200 || v.Unlisted != 136 {
		t.Errorf("%d findings, %d unlisted", v.Findings, v.Unlisted)
	}
}

// What could not be read is tried again; only what changes is recorded.
//
// Verifies: SR-017
func TestTPMThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.kernel.Remove("sys")
		s.chip.err = errors.New("no answer")
		s.play(func(a *attester.Attester) {
			if got, want := said(t, s.journal.take()), []string{"verdict none", "raised tpm.failing tpm", "raised boot.quote-missing boot", "raised boot.pcr-unreadable boot"}; !slices.Equal(got, want) {
				t.Errorf("recorded %q, want %q", got, want)
			}
			pass(5 * time.Minute)
			if got := said(t, s.journal.take()); got != nil {
				t.Errorf("recorded while nothing changed: %q", got)
			}
			s.chip.set(nil)
			s.kernel.Measure(appraisaltest.Program("/tmp/stranger")) // whoever follows the list tells it
			pass(20 * time.Minute)
			want := []string{"verdict warning", "cleared boot.pcr-unreadable boot", "cleared boot.quote-missing boot", "cleared tpm.failing tpm"}
			if got := said(t, s.journal.take()); !slices.Equal(got, want) {
				t.Errorf("recorded %q, want %q", got, want)
			}
			if snapshot, _ := a.Latest(); snapshot.Result.Verdict != appraisal.Warning {
				t.Errorf("latest verdict is %s", snapshot.Result.Verdict)
			}
		})
	})
}

// A baseline that is exchanged after it was loaded is told as soon as somebody
// reads it again, and the right one is taken when it is back.
//
// Verifies: SR-076
func TestBaselineExchangedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.play(func(a *attester.Attester) {
			s.journal.take()
			s.write(s.config.Baseline, bytes.ToUpper(s.device.Baseline))
			pass(time.Hour)
			if got := said(t, s.journal.take()); got != nil {
				t.Fatalf("nobody read it, recorded %q", got)
			}
			before, _ := a.Latest()
			r, err := before.Baseline.Entries()
			if err == nil {
				_, err = r.Next()
			}
			if !errors.Is(err, baseline.ErrDigest) || !errors.Is(before.Baseline.Err(), baseline.ErrDigest) {
				t.Fatalf("read again: %v", err)
			}
			pass(10 * time.Second)
			if got, want := said(t, s.journal.take()), []string{"raised boot.baseline-differs", "raised ima.not-judged ima", "verdict none"}; !slices.Equal(sorted(got), want) {
				t.Errorf("recorded %q, want %q", got, want)
			}
			if latest, _ := a.Latest(); latest.Baseline != nil {
				t.Error("there is still a baseline")
			}
			s.write(s.config.Baseline, s.device.Baseline)
			pass(time.Hour)
			if latest, _ := a.Latest(); latest.Baseline == nil || latest.Baseline.Err() != nil || latest.Result.Verdict != appraisal.Affirming {
				t.Errorf("the baseline is back: %+v", latest.Result)
			}
		})
	})
}

func sorted(lines []string) []string {
	for i, line := range lines { // the finding's subject is a path of this test's
		if strings.HasPrefix(line, "raised boot.baseline-differs") {
			lines[i] = "raised boot.baseline-differs"
		}
	}
	slices.Sort(lines)
	return lines
}

// Without a baseline the rounds go on; a violation is told once.
func TestIncidentsAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		violation := appraisaltest.Program("/usr/bin/pump")
		violation.Violation = true
		s.kernel.Measure(violation)
		s.remove(s.config.Baseline)
		s.play(func(*attester.Attester) {
			if got := said(t, s.journal.take()); !slices.Contains(got, "incident ima.violation /usr/bin/pump") {
				t.Errorf("recorded %q", got)
			}
			pass(10 * time.Minute)
			if got := said(t, s.journal.take()); got != nil {
				t.Errorf("recorded again: %q", got)
			}
			s.write(s.config.Baseline, s.device.Baseline)
			pass(20 * time.Minute)
			if got, want := said(t, s.journal.take()), []string{"verdict warning"}; len(got) != 3 || got[0] != want[0] {
				t.Errorf("recorded %q", got)
			}
		})
	})
}

// A daemon that starts again in the middle of a boot meets the same list: what was
// told is not told again, takes no other one's room, and what has no room here is
// left to whoever watches the list.
//
// Verifies: SR-073
func TestIncidentsOfAnEarlierRunAreNotToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		told := make(map[string]bool)
		s.config.First = func(_ context.Context, subject string, _ finding.Finding) bool {
			again := told[subject]
			told[subject] = true
			return !again
		}
		const first = 60
		for i := range first {
			s.kernel.Measure(appraisaltest.Program(fmt.Sprintf("/tmp/%02d", i)))
		}
		s.play(func(a *attester.Attester) {
			if got := len(s.journal.take()); got < first {
				t.Errorf("%d events for %d programs", got, first)
			}
			if l, _ := a.Latest(); l.Covered() != l.Result.IMAEntries {
				t.Errorf("of %d entries %d are covered", l.Result.IMAEntries, l.Covered())
			}
		})
		for _, path := range []string{"/tmp/60", "/tmp/61", "/tmp/62", "/tmp/63", "/tmp/64"} {
			s.kernel.Measure(appraisaltest.Program(path))
		}
		s.play(func(a *attester.Attester) {
			events := s.journal.take()
			if got := said(t, events[len(events)-5:]); got[0] != "incident ima.unknown-file /tmp/60" || got[4] != "incident ima.unknown-file /tmp/64" {
				t.Errorf("recorded %q", got)
			}
			if v := report(t, events[0]); v.Findings < 65 || v.Unlisted != 0 {
				t.Errorf("%d findings, %d unlisted", v.Findings, v.Unlisted)
			}
			if l, _ := a.Latest(); l.Covered() != 0 {
				t.Errorf("%d findings are more than are told one by one, and %d entries are covered", len(l.Result.Findings), l.Covered())
			}
		})
	})
}

// A stop in the middle of reading is no finding.
func TestStopWhileTheTPMIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.config.TPM = hanging{}
		a := attester.New(s.config)
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		synctest.Wait()
		if _, ok := a.Latest(); ok {
			t.Error("there is a verdict without registers")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := said(t, s.journal.take()); got != nil {
			t.Errorf("recorded %q", got)
		}
		if _, err := a.Judged(ctx); err == nil {
			t.Error("waiting ended without an error")
		}
	})
}

type hanging struct{}

func (hanging) AttestationKey(context.Context) (*ecdsa.PublicKey, error) { return nil, tpm.ErrNoKey }

func (hanging) Quote(context.Context, [32]byte, pcr.Algorithm, []int) (quote.Quote, pcr.Values, error) {
	return quote.Quote{}, nil, tpm.ErrNoKey
}

func (hanging) ReadPCRs(ctx context.Context, _ pcr.Algorithm, _ []int) (pcr.Values, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Every event of every kind of boot fits into the contract's encoding.
//
// Verifies: SR-020
func TestEventsAreEncodable(t *testing.T) {
	events := once(t, func(s *scene) {
		var strangers []appraisaltest.Measured
		for i := range 100 {
			strangers = append(strangers, appraisaltest.Program("/tmp/"+strings.Repeat("\x01\xff", 2000)+fmt.Sprint(i)))
		}
		s.device.SetList(t, strangers...)
		s.kernel.Write(securityfstest.List, s.device.List)
	})
	stamp := event.Stamp{Source: event.Source{Tenant: "clinic", Device: "paper-1"}, Epoch: 1, Sequence: 1, Boot: "boot-1"}
	for _, e := range events {
		b, err := event.Encode(e, stamp)
		if err != nil {
			t.Fatalf("%s: %v", e.Type, err)
		}
		if len(b) > 8<<10 {
			t.Errorf("%s takes %d bytes", e.Type, len(b))
		}
	}
}
