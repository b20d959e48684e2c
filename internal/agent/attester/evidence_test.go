package attester_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/attester"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/device/tpm"
	"ward/internal/format/chain"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/posture"
	"ward/internal/trust/quote"
)

// measure runs a program: PCR 10 first grows, then the list shows it.
func (s *scene) measure(programs ...appraisaltest.Measured) {
	s.t.Helper()
	s.extend(programs...)
	s.kernel.Measure(programs...)
}

// extend is the part of a measurement that the TPM sees.
func (s *scene) extend(programs ...appraisaltest.Measured) {
	s.t.Helper()
	bank, err := pcr.NewBank(pcr.SHA256)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := bank.Resume(ima.Register, s.chip.values[ima.Register]); err != nil {
		s.t.Fatal(err)
	}
	for _, p := range programs {
		d, err := ima.NewDecoder(bytes.NewReader(p.Bytes()))
		if err != nil {
			s.t.Fatal(err)
		}
		e, err := d.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		if err := bank.Extend(ima.Register, e.Extension(pcr.SHA256)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.chip.values[ima.Register] = bank.Value(ima.Register)
}

// ask asks for evidence and reads it.
func ask(t *testing.T, a *attester.Attester, q attester.Question) evidence.Evidence {
	t.Helper()
	b, err := a.Evidence(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	e, err := evidence.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fleet appraises evidence as somebody who knows the device's key and files.
func (s *scene) fleet(e evidence.Evidence, nonce []byte, since *appraisal.Since) appraisal.Result {
	p := s.device.Policy(s.t)
	p.Nonce, p.Since, p.Device = nonce, since, &appraisal.Name{Tenant: "lab", Device: "paper-1"}
	return appraisal.Appraise(e, s.device.Verified(s.t), p, time.Now())
}

func wantVerdict(t *testing.T, r appraisal.Result, want appraisal.Tier) {
	t.Helper()
	if r.Verdict != want {
		t.Errorf("verdict %s, want %s: %+v", r.Verdict, want, r.Findings)
	}
}

// The same evidence convinces somebody else who asked: it answers the nonce with
// the head of the record, names the release, and holds whole logs.
//
// Verifies: SR-001 SR-029
func TestEvidenceForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		head := evidence.Record{Epoch: 3, Sequence: 17, Head: chain.Hash{9}}
		s.config.Head = func() evidence.Record { return head }
		s.play(func(a *attester.Attester) {
			nonce := []byte("the fleet's nonce")
			e := ask(t, a, attester.Question{Nonce: nonce})
			digest := s.device.Verified(t).Digest()
			if e.Record != head || !bytes.Equal(e.Release, digest[:]) || e.Device != "paper-1" || e.Tenant != "lab" || e.Boot != "boot-1" {
				t.Errorf("record %+v, release %s, %s of %s, boot %s", e.Record, e.Release, e.Device, e.Tenant, e.Boot)
			}
			r := s.fleet(e, nonce, nil)
			wantVerdict(t, r, appraisal.Affirming)
			wantVerdict(t, s.fleet(e, []byte("another nonce"), nil), appraisal.Contraindicated)
			if again := ask(t, a, attester.Question{Nonce: nonce}); bytes.Equal(again.BootQuote.Signature, e.BootQuote.Signature) {
				t.Error("a quote was used twice")
			}
			wantVerdict(t, s.fleet(ask(t, a, attester.Question{}), nil, nil), appraisal.Affirming)
		})
	})
}

// What the device says of itself goes along, cut to its bound, under the quotes: the
// fleet judges it by the release, and sees when it was changed on the way. The device's
// own verdict on its boot does not wait for it.
//
// Verifies: SR-095 SR-096
func TestPostureGoesAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.device.Manifest.Posture = &posture.Policy{Rules: []posture.Rule{{Claim: posture.Lockdown, Mode: posture.Equal, Values: []string{"integrity"}}}}
		s.write(s.config.Release, s.device.Envelope(t))
		var told []posture.Claim
		s.config.Posture = func() []posture.Claim { return told }
		s.config.Running = func() []byte { return []byte{1, 2} }
		s.play(func(a *attester.Attester) {
			if own, _ := a.Latest(); own.Result.Verdict != appraisal.Affirming {
				t.Errorf("own verdict %s: %v", own.Result.Verdict, own.Result.Findings)
			}
			nonce := []byte("n")
			wantVerdict(t, s.fleet(ask(t, a, attester.Question{Nonce: nonce}), nonce, nil), appraisal.None) // nobody has looked yet
			many := posture.Claim{Name: posture.Modules}
			for i := range posture.MaxValues {
				many.Values = append(many.Values, fmt.Sprintf("module_of_a_long_name_%04d", i))
			}
			told = []posture.Claim{many, {Name: posture.Lockdown, Values: []string{"integrity"}}}
			e := ask(t, a, attester.Question{Nonce: nonce})
			wantVerdict(t, s.fleet(e, nonce, nil), appraisal.Affirming)
			if len(e.Posture) != 2 || e.Posture[1].More == 0 || !bytes.Equal(e.Running, []byte{1, 2}) {
				t.Errorf("%d claims, %d values left out, running %x", len(e.Posture), e.Posture[len(e.Posture)-1].More, e.Running)
			}
			told[1].Values = []string{"none"}
			open := ask(t, a, attester.Question{Nonce: nonce})
			r := s.fleet(open, nonce, nil)
			wantVerdict(t, r, appraisal.Contraindicated)
			if r.Claims[appraisal.ClaimPosture] != appraisal.Contraindicated || r.Claims[appraisal.ClaimQuote] != appraisal.Affirming {
				t.Errorf("claims %v", r.Claims)
			}
			open.Posture = e.Posture // somebody between the two makes it good
			r = s.fleet(open, nonce, nil)
			wantVerdict(t, r, appraisal.Contraindicated)
			if r.Claims[appraisal.ClaimQuote] != appraisal.Contraindicated {
				t.Errorf("claims %v", r.Claims)
			}
		})
	})
}

// What the fleet holds already is not sent again: the event log goes by digest,
// the list from the entry on at which the fleet stopped.
//
// Verifies: SR-029
func TestEvidenceGoesOnWhereTheFleetStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.play(func(a *attester.Attester) {
			first := ask(t, a, attester.Question{Nonce: []byte("1")})
			known := s.fleet(first, []byte("1"), nil).Next
			if known == nil || known.List.Entries != 3 {
				t.Fatalf("the first evidence establishes %+v", known)
			}
			log := sha256.Sum256(first.EventLog)
			s.measure(appraisaltest.Program("/usr/bin/pump"))
			q := attester.Question{Nonce: []byte("2"), Boot: "boot-1", EventLog: log[:], List: known.List}
			second := ask(t, a, q)
			if len(second.EventLog) != 0 || !bytes.Equal(second.EventLogDigest, log[:]) {
				t.Errorf("the event log is sent again: %d bytes, digest %s", len(second.EventLog), second.EventLogDigest)
			}
			if want := appraisaltest.Program("/usr/bin/pump").Bytes(); second.From.Entries != 3 || !bytes.Equal(second.IMA, want) {
				t.Errorf("from entry %d on %d bytes, want %d", second.From.Entries, len(second.IMA), len(want))
			}
			second.EventLog = first.EventLog
			r := s.fleet(second, []byte("2"), known)
			wantVerdict(t, r, appraisal.Affirming)
			if r.Next.List.Entries != 4 {
				t.Errorf("the second evidence establishes %+v", r.Next)
			}
			// The answer was lost: the fleet asks from the same place again, and
			// then from the newer one; later without a question.
			q.Nonce = []byte("3")
			if e := ask(t, a, q); e.From.Entries != 3 {
				t.Errorf("asked again from entry 3: from %d", e.From.Entries)
			}
			q.List = r.Next.List
			if e := ask(t, a, q); e.From.Entries != 4 || len(e.IMA) != 0 {
				t.Errorf("asked from entry 4: from %d, %d bytes", e.From.Entries, len(e.IMA))
			}
			if e := ask(t, a, attester.Question{}); len(e.EventLog) != 0 || e.From.Entries != 0 {
				t.Errorf("without a question: %d bytes of event log, from entry %d", len(e.EventLog), e.From.Entries)
			}
			// A fleet that forgot the log gets it, asked for everything or not.
			for _, q := range []attester.Question{{Nonce: []byte("4"), Boot: "boot-1", List: r.Next.List}, {Nonce: []byte("5")}} {
				if e := ask(t, a, q); len(e.EventLog) == 0 {
					t.Errorf("asked by one who holds no log (%q): digest %s", q.Boot, e.EventLogDigest)
				}
			}
			// Places that the device does not know, and another boot's.
			for name, other := range map[string]attester.Question{
				"unknown place":   {Boot: "boot-1", List: ima.Checkpoint{Entries: 2, PCR: known.List.PCR}},
				"unknown content": {Boot: "boot-1", List: ima.Checkpoint{Entries: 3, PCR: make(pcr.Digest, 32)}},
				"another boot":    {Boot: "boot-0", List: known.List},
			} {
				if e := ask(t, a, other); e.From.Entries != 0 {
					t.Errorf("%s: from entry %d", name, e.From.Entries)
				}
			}
		})
	})
}

// Registers that are extended while they are quoted are quoted again, each part
// for itself; ones that never stand still give no quote and say why.
//
// Verifies: SR-017 SR-029
func TestRegistersThatMove(t *testing.T) {
	for name, c := range map[string]struct {
		until  int // quotes during which the registers move
		quotes int
		quoted bool
	}{
		"once": {1, 3, true}, "for a while": {4, 6, true}, "for ever": {1 << 30, 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				a := attester.New(s.config)
				s.chip.moves = func(n int) {
					if n <= c.until {
						s.chip.values = clone(s.chip.values)
						s.chip.values[15] = bytes.Repeat([]byte{byte(n)}, 32)
					}
				}
				e := ask(t, a, attester.Question{Nonce: []byte("n")})
				if s.chip.quotes != c.quotes || e.BootQuote.Empty() == c.quoted || (e.QuoteError == "") != c.quoted {
					t.Errorf("%d quotes, want %d; %q", s.chip.quotes, c.quotes, e.QuoteError)
				}
				r := s.fleet(e, []byte("n"), nil)
				if c.quoted {
					wantVerdict(t, r, appraisal.Affirming)
				} else if r.Verdict != appraisal.None || !slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Code == finding.QuoteMissing }) {
					t.Errorf("%s with %+v", r.Verdict, r.Findings)
				}
			})
		})
	}
}

func clone(v pcr.Values) pcr.Values {
	out := make(pcr.Values)
	for n, d := range v {
		out[n] = d
	}
	return out
}

// Pitfall 7. Programs that start between the quote and the reading of the list
// are honest; a list that lags behind PCR 10 is waited for by quoting PCR 10
// alone again, as long as that moves on.
//
// Verifies: SR-004 SR-017 SR-029
func TestPitfall7ListRace(t *testing.T) {
	pump := appraisaltest.Program("/usr/bin/pump")
	for name, c := range map[string]struct {
		at      map[int]func(*scene) // what happens at quote n
		verdict appraisal.Tier
		quotes  int
	}{
		"the list is longer": {map[int]func(*scene){2: func(s *scene) { s.kernel.Measure(pump); s.extend(pump) }}, appraisal.Affirming, 3},
		"the list lags behind, and comes": {map[int]func(*scene){
			1: func(s *scene) { s.extend(pump) },
			3: func(s *scene) { s.extend(pump); s.kernel.Measure(pump, pump) },
		}, appraisal.Affirming, 4},
		"an entry never comes": {map[int]func(*scene){1: func(s *scene) { s.extend(pump) }}, appraisal.Contraindicated, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				a := attester.New(s.config)
				s.chip.moves = func(n int) {
					if act := c.at[n]; act != nil {
						act(s)
					}
				}
				e := ask(t, a, attester.Question{Nonce: []byte("n")})
				wantVerdict(t, s.fleet(e, []byte("n"), nil), c.verdict)
				if s.chip.quotes != c.quotes {
					t.Errorf("%d quotes, want %d", s.chip.quotes, c.quotes)
				}
			})
		})
	}
}

// A nonce of the device's own question is never used twice (pitfall 12).
//
// Verifies: SR-029
func TestPitfall12OwnNonces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.remove(s.config.Baseline) // so that it appraises again and again
		seen := make(map[[32]byte]bool)
		recorder := &asked{chip: s.chip, seen: seen, t: t}
		s.config.TPM = recorder
		s.play(func(*attester.Attester) { pass(time.Hour) })
		if len(seen) < 5 {
			t.Errorf("only %d questions", len(seen))
		}
	})
}

type asked struct {
	*chip
	t    *testing.T
	seen map[[32]byte]bool
	last [32]byte
}

func (a *asked) Quote(ctx context.Context, qualifying [32]byte, bank pcr.Algorithm, which []int) (q quote.Quote, v pcr.Values, err error) {
	if a.seen[qualifying] && qualifying != a.last {
		a.t.Error("a question was asked before")
	}
	a.seen[qualifying], a.last = true, qualifying
	return a.chip.Quote(ctx, qualifying, bank, which)
}

// The daemon remembers within a boot how the TPM stood, also over its own
// restart: after hibernation the logs are stale and nobody was altered.
//
// Verifies: SR-007
func TestHibernationIsNoTampering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.config.State = filepath.Join(t.TempDir(), "attester.json")
		s.play(func(*attester.Attester) {
			if got := said(t, s.journal.take()); !slices.Equal(got, []string{"verdict affirming"}) {
				t.Fatalf("recorded %q", got)
			}
		})
		s.device.Clock.ResetCount++
		s.device.Clock.Milliseconds += 1000
		s.chip.values = clone(s.chip.values)
		s.chip.values[0] = bytes.Repeat([]byte{1}, 32)
		s.play(func(*attester.Attester) {
			if got := said(t, s.journal.take()); !slices.Equal(got, []string{"verdict none", "raised boot.log-stale boot"}) {
				t.Errorf("recorded %q", got)
			}
		})
		s.config.Boot = "boot-2" // another boot owes nothing to the one before
		s.play(func(*attester.Attester) {
			if got := said(t, s.journal.take()); len(got) == 0 || got[0] != "verdict contraindicated" {
				t.Errorf("recorded %q", got)
			}
		})
		s.config.Boot = "boot-1"
		s.write(s.config.State, []byte("{")) // cut by hand: as if nothing were known
		s.play(func(*attester.Attester) {
			if got := said(t, s.journal.take()); len(got) == 0 || got[0] != "verdict contraindicated" {
				t.Errorf("recorded %q", got)
			}
		})
	})
}

// One answer at a time: whoever gives up waiting gets his own error.
func TestOneAnswerAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.chip.takes = time.Minute
		a := attester.New(s.config)
		first := make(chan error, 1)
		go func() {
			_, err := a.Evidence(t.Context(), attester.Question{})
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Evidence(ctx, attester.Question{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second answer: %v", err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// What cannot be collected is said in the evidence, and never a reason to give
// none.
//
// Verifies: SR-007 SR-017
func TestEvidenceOfWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scene)
		missed func(evidence.Evidence) string
	}{
		"no TPM":       {func(s *scene) { s.config.TPM = nil }, func(e evidence.Evidence) string { return e.QuoteError }},
		"no key":       {func(s *scene) { s.chip.noKey = true }, func(e evidence.Evidence) string { return e.QuoteError }},
		"TPM busy":     {func(s *scene) { s.chip.err = tpm.ErrBusy }, func(e evidence.Evidence) string { return e.QuoteError }},
		"no registers": {func(s *scene) { s.config.TPM = nil; s.kernel.Remove("sys") }, func(e evidence.Evidence) string { return e.PCRError }},
		"no log":       {func(s *scene) { s.kernel.Remove(securityfstest.EventLog) }, func(e evidence.Evidence) string { return e.EventLogError }},
		"no IMA":       {func(s *scene) { s.kernel.Remove("security/ima") }, func(e evidence.Evidence) string { return e.IMAError }},
		"IMA random":   {func(s *scene) { s.kernel.Write(securityfstest.List, bytes.Repeat([]byte{0xa5, 3}, 99)) }, func(e evidence.Evidence) string { return e.IMAError }},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			c.change(s)
			e := ask(t, attester.New(s.config), attester.Question{Nonce: []byte("n")})
			if c.missed(e) == "" {
				t.Errorf("%s: nothing is said to be missing", name)
			}
			if r := s.fleet(e, []byte("n"), nil); r.Verdict == appraisal.Affirming {
				t.Errorf("%s: affirming", name)
			}
		})
	}
}

// What the boot's first checkpoint names is what the TPM quoted.
//
// Verifies: SR-054
func TestQuotedDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		a := attester.New(s.config)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		judged, err := a.Judged(ctx)
		if err != nil {
			t.Fatal(err)
		}
		e := ask(t, a, attester.Question{Nonce: []byte("n")})
		// TPMS_QUOTE_INFO ends with the digest (Part 2, section 10.12.4).
		attest := e.BootQuote.Attest
		if len(judged.Quoted) != sha256.Size || !bytes.Equal(judged.Quoted, attest[len(attest)-sha256.Size:]) {
			t.Errorf("quoted %s, the statement ends with %x", judged.Quoted, attest[len(attest)-sha256.Size:])
		}
		cancel()
		<-done
	})
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.config.TPM = nil
		a := attester.New(s.config)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		if judged, err := a.Judged(ctx); err != nil || len(judged.Quoted) != 0 {
			t.Errorf("without a TPM: %s, %v", judged.Quoted, err)
		}
		cancel()
		<-done
	})
}

// A strange program's path stays on the device: the fleet gets what stands for it,
// the list gives PCR 10 all the same, now and when it goes on from there, and the
// program is a finding there too.
//
// Verifies: SR-110
func TestEvidenceHidesPathsOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.config.Hide = func(string) string { return "/tmp/~0123456789ab" }
		s.play(func(a *attester.Attester) {
			const planted = "/tmp/JOHN_Q_PATIENT"
			s.measure(appraisaltest.Program(planted))
			nonce := []byte("n")
			e := ask(t, a, attester.Question{Nonce: nonce})
			r := s.fleet(e, nonce, nil)
			wantVerdict(t, r, appraisal.Warning)
			if bytes.Contains(e.IMA, []byte("PATIENT")) || len(r.Findings) != 1 || r.Findings[0].Code != finding.IMAUnknownFile || r.Findings[0].Path != "/tmp/~0123456789ab" {
				t.Errorf("findings %+v; the list: %q", r.Findings, e.IMA)
			}
			s.measure(appraisaltest.Program("/usr/bin/pump"), appraisaltest.Program(planted+"2"))
			next := ask(t, a, attester.Question{Nonce: nonce, Boot: "boot-1", List: r.Next.List})
			if next.From.Entries == 0 {
				t.Error("the list did not go on where the fleet stopped")
			}
			r = s.fleet(next, nonce, r.Next)
			if len(r.Findings) == 0 || slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Code == finding.IMAPCRDiffers }) {
				t.Errorf("findings %+v", r.Findings)
			}
		})
	})
}
