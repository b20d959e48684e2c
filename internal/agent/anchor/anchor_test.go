package anchor_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/anchor"
	"ward/internal/format/pcr"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Verifies: SR-054
func TestTheFirstCheckpointsOfABoot(t *testing.T) {
	in(t, func(t *testing.T, d *device) {
		d.start(nil)
		time.Sleep(30 * time.Second)
		got := d.checkpoints()
		if len(got) != 2 || got[0].Counter != checkpoint.Durable || got[1].Counter != checkpoint.Orderly {
			t.Fatalf("%+v", got)
		}
		for _, r := range got {
			if r.Value != 1 || r.Evidence.String() != boot.String() {
				t.Errorf("%s: value %d with evidence %s", r.Counter, r.Value, r.Evidence)
			}
			if value, _ := d.soft.At(r.Counter); value != 2 {
				t.Errorf("%s was not stepped behind its checkpoint: %d", r.Counter, value)
			}
		}
		s := d.role.Status()
		if s.Last == nil || s.Last.Counter != checkpoint.Orderly || s.Last.Value != 1 || s.Anchored != got[1].Sequence || s.Missing != "" {
			t.Errorf("status %+v, %+v", s, s.Last)
		}
		// nothing is new
		time.Sleep(3 * time.Hour)
		if n := len(d.checkpoints()); n != 2 {
			t.Errorf("%d checkpoints with nothing new", n)
		}
		time.Sleep(22 * time.Hour)
		if got := d.checkpoints(); len(got) != 3 || got[2].Counter != checkpoint.Durable || got[2].Value != 2 || len(got[2].Evidence) != 0 {
			t.Errorf("after a day: %+v", got[2:])
		}
		if found := d.verify(); len(found) != 0 {
			t.Errorf("found %v", found)
		}
	})
}

// Verifies: SR-054
func TestNews(t *testing.T) {
	in(t, func(t *testing.T, d *device) {
		d.start(nil)
		time.Sleep(30 * time.Second)
		d.record(finding.LinkSilence) // medium or less waits
		d.record(finding.JournalTorn)
		time.Sleep(4 * time.Minute)
		if n := len(d.checkpoints()); n != 2 && finding.New(finding.LinkSilence, "").Severity < finding.High {
			t.Errorf("%d checkpoints before the time", n)
		}
		time.Sleep(2 * time.Minute)
		if n := len(d.checkpoints()); n != 3 {
			t.Errorf("%d checkpoints for news after 6 minutes, want 3", n)
		}
		d.record(finding.BootPCRDiffers)
		time.Sleep(15 * time.Second)
		got := d.checkpoints()
		if len(got) != 4 {
			t.Fatalf("%d checkpoints 15 seconds behind a grave finding, want 4", len(got))
		}
		grave := d.events(string(finding.BootPCRDiffers))[0]
		if got[3].Sequence < grave.Sequence {
			t.Errorf("the checkpoint names record %d, the finding is %d", got[3].Sequence, grave.Sequence)
		}
		// a storm of them
		for range 60 {
			d.record(finding.BootPCRDiffers)
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Second)
		if n := len(d.checkpoints()) - 4; n < 4 || n > 8 {
			t.Errorf("%d checkpoints in 70 seconds of grave findings, want one each 10 seconds", n)
		}
	})
}

// Verifies: SR-054
func TestOnDemand(t *testing.T) {
	in(t, func(t *testing.T, d *device) {
		d.start(nil)
		time.Sleep(30 * time.Second)
		raw, err := d.role.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e, err := event.Parse(raw)
		if err != nil || e.Type != event.Checkpoint {
			t.Fatalf("%s, %v", raw, err)
		}
		got := d.checkpoints()
		if r, err := checkpoint.Parse(e.Report); err != nil || len(got) != 3 || r.Value != got[2].Value {
			t.Errorf("answered %+v, recorded %+v, %v", r, got, err)
		}
		if _, err := d.role.Take(t.Context()); !errors.Is(err, anchor.ErrTooSoon) {
			t.Errorf("at once again: %v", err)
		}
		time.Sleep(11 * time.Second)
		if _, err := d.role.Take(t.Context()); err != nil {
			t.Errorf("11 seconds later: %v", err)
		}
	})
}

// Verifies: SR-054
func TestAtAnOrderlyStop(t *testing.T) {
	in(t, func(t *testing.T, d *device) {
		d.start(nil)
		time.Sleep(30 * time.Second)
		d.record(finding.JournalTorn)
		if err := d.journal.Record(t.Context(), event.Event{Type: event.DaemonStopped, Severity: finding.Info}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		d.stop()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("stopping took %s", took)
		}
		stopped, got := d.events(event.DaemonStopped)[0], d.checkpoints()
		if last := got[len(got)-1]; len(got) != 3 || last.Sequence < stopped.Sequence {
			t.Errorf("%d checkpoints, the last names record %d; that it stops is %d", len(got), last.Sequence, stopped.Sequence)
		}
	})
}

// A TPM that fails, or has no counters, is a condition; it is tried again ever more
// slowly, and nothing waits for it.
//
// Verifies: SR-054
func TestNoCounter(t *testing.T) {
	in(t, func(t *testing.T, d *device) {
		tries := 0
		fault := errors.New("TPM_RC_RETRY")
		d.soft.Fail(func(op string, _ checkpoint.Counter) error {
			if op == "key" {
				tries++
			}
			return fault
		})
		d.start(nil)
		time.Sleep(4 * time.Second)
		if n := len(d.events(string(finding.JournalAnchorMissing))); n != 0 {
			t.Errorf("raised at the first failure: %d", n)
		}
		if _, err := d.role.Take(t.Context()); !errors.Is(err, anchor.ErrNotYet) || !strings.Contains(err.Error(), "RETRY") {
			t.Errorf("asked for one: %v", err)
		}
		time.Sleep(24 * time.Hour)
		got := d.events(string(finding.JournalAnchorMissing))
		if len(got) != 1 || got[0].Type != event.FindingRaised || !strings.Contains(got[0].Finding.Detail, "RETRY") {
			t.Fatalf("a day without: %+v", got)
		}
		if tries < 100 || tries > 200 {
			t.Errorf("tried %d times in a day, want one each 10 minutes", tries)
		}
		d.soft.Fail(nil)
		time.Sleep(11 * time.Minute)
		got = d.events(string(finding.JournalAnchorMissing))
		if len(got) != 2 || got[1].Type != event.FindingCleared || len(d.checkpoints()) < 2 {
			t.Errorf("when it is back: %+v, %d checkpoints", got, len(d.checkpoints()))
		}
	})
	// One that an earlier run of this boot left raised is cleared.
	in(t, func(t *testing.T, d *device) {
		d.soft.Fail(func(string, checkpoint.Counter) error { return errors.New("busy") })
		d.start(nil)
		time.Sleep(time.Minute)
		d.kill()
		d.soft.Fail(nil)
		d.start(nil)
		time.Sleep(time.Minute)
		if got := d.events(string(finding.JournalAnchorMissing)); len(got) != 2 || got[1].Type != event.FindingCleared {
			t.Errorf("%+v", got)
		}
	})
	// Counters that were never stepped begin.
	in(t, func(t *testing.T, d *device) {
		d.soft.Set(checkpoint.Durable, 0)
		d.start(nil)
		time.Sleep(time.Minute)
		if got := d.checkpoints(); len(got) != 2 || got[0].Value != 1 {
			t.Errorf("%+v", got)
		}
	})
	// A verdict that does not come does not hold it up.
	in(t, func(t *testing.T, d *device) {
		d.config = func(c *anchor.Config) {
			c.Judged = func(ctx context.Context) (pcr.Digest, error) { <-ctx.Done(); return nil, ctx.Err() }
		}
		d.start(nil)
		time.Sleep(2 * time.Minute)
		if got := d.checkpoints(); len(got) != 2 || len(got[0].Evidence) != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// While the disk fails no counter moves: what would be certified could be lost.
//
// Verifies: SR-054
func TestADiskThatFails(t *testing.T) {
	in(t, func(t *testing.T, d *device) {
		d.start(nil)
		time.Sleep(30 * time.Second)
		d.disk.Break(nil, func(op string) bool { return op == "sync" || op == "write" })
		for range 30 {
			d.record(finding.BootPCRDiffers)
			time.Sleep(time.Minute)
		}
		_, orderly := d.soft.At(checkpoint.Orderly)
		if orderly != 1 {
			t.Errorf("%d steps", orderly)
		}
		d.cut()
		d.disk.Mend()
		d.start(nil)
		time.Sleep(time.Minute)
		if len(d.replaced()) != 0 || len(d.events(string(finding.JournalRolledBack))) != 0 {
			t.Errorf("taken for an older copy: %v", d.replaced())
		}
		for code := range d.verify() {
			if code != finding.JournalCounterJump {
				t.Errorf("found %s", code)
			}
		}
	})
}

// A power cut moves the everyday counter ahead; the device tells by how much, once.
//
// Verifies: SR-053, SR-054
func TestAJumpIsToldWithItsSize(t *testing.T) {
	in(t, func(t *testing.T, d *device) {
		d.start(nil)
		time.Sleep(30 * time.Second)
		d.cut()
		d.start(nil)
		time.Sleep(time.Hour)
		got := d.events(string(finding.JournalCounterJump))
		if len(got) != 1 || !strings.Contains(got[0].Finding.Detail, "checkpoint orderly 255") || !strings.Contains(got[0].Finding.Detail, "253 values") {
			t.Errorf("%d told: %+v", len(got), got)
		}
		d.restart()
		d.start(nil)
		time.Sleep(time.Hour)
		if n := len(d.events(string(finding.JournalCounterJump))); n != 1 {
			t.Errorf("%d told after an orderly restart", n)
		}
	})
}

// The device finds at its start that the record is not its newest.
//
// Verifies: SR-054
func TestReplaced(t *testing.T) {
	// run has the device work for a while; it returns a copy of its disk.
	work := func(d *device, n int) {
		d.start(nil)
		for range n {
			time.Sleep(30 * time.Second)
			d.record(finding.BootPCRDiffers)
		}
		time.Sleep(30 * time.Second)
	}
	for name, c := range map[string]struct {
		attack func(d *device)
		code   finding.Code // empty: nothing is found
	}{
		"none": {func(d *device) { d.restart() }, ""},
		"an older copy, within a boot": {func(d *device) {
			d.kill()
			old := d.disk.PowerCut()
			work(d, 4)
			d.kill()
			d.disk = old
		}, finding.JournalRolledBack},
		"an older copy, of the boot before": {func(d *device) {
			d.restart()
			old := d.disk.PowerCut()
			work(d, 1)
			d.restart()
			d.disk = old
		}, finding.JournalRolledBack},
		"an older copy, and a power cut to hide it": {func(d *device) {
			d.restart()
			old := d.disk.PowerCut()
			work(d, 1)
			d.cut()
			d.disk = old
		}, finding.JournalRolledBack},
		"the newest checkpoint cut off, with its boot's": {func(d *device) {
			d.kill()
			d.disk = d.disk.PowerCut()
			d.soft.Step(d.t.Context(), checkpoint.Durable) // as one more boot does
		}, finding.JournalRolledBack},
		"the record of another device of this name": {func(d *device) {
			d.kill()
			other := newDevice(d.t)
			work(other, 2)
			other.kill()
			d.disk = other.disk
		}, finding.JournalForeign},
		"begun anew on an erased partition": {func(d *device) {
			d.kill()
			d.disk = newDevice(d.t).disk
		}, ""}, // the journal itself says so (journal.begun-anew)
		"a power cut": {func(d *device) { d.cut() }, ""},
		"kill -9":     {func(d *device) { d.kill() }, ""},
		"many a kill -9": {func(d *device) {
			for range 5 {
				d.kill()
				d.start(nil)
				time.Sleep(700 * time.Millisecond)
			}
			d.kill()
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, d *device) {
				work(d, 3)
				durable, _ := d.soft.At(checkpoint.Durable)
				c.attack(d)
				d.start(nil)
				time.Sleep(time.Minute)
				got := append(d.events(string(finding.JournalRolledBack)), d.events(string(finding.JournalForeign))...)
				if c.code == "" {
					if len(d.replaced())+len(got) != 0 {
						t.Errorf("found %+v", got[0].Finding)
					}
					return
				}
				if len(got) != 1 || got[0].Finding.Code != c.code || len(d.replaced()) != 1 || d.replaced()[0] <= durable {
					t.Errorf("found %v, epochs of at least %v, the counter stood at %d", got, d.replaced(), durable)
				}
			})
		})
	}
	// Where nobody begins another one, it is told once, and checkpoints are taken.
	in(t, func(t *testing.T, d *device) {
		d.config = func(c *anchor.Config) { c.Replaced = nil }
		work(d, 1)
		d.kill()
		d.soft.Set(checkpoint.Durable, 77)
		d.soft.Reset()
		d.boots++
		d.start(nil)
		time.Sleep(time.Hour)
		if n := len(d.events(string(finding.JournalRolledBack))); n != 1 {
			t.Errorf("told %d times", n)
		}
		got := d.checkpoints()
		if s := d.role.Status(); s.Missing != "" || got[len(got)-2].Value != 77 {
			t.Errorf("%+v, %+v", s, got)
		}
		if found := d.verify(); found[finding.JournalAnchorGap] != 1 {
			t.Errorf("a reader finds %v", found)
		}
	})
	// A TPM that was set back is told, and is no older copy.
	in(t, func(t *testing.T, d *device) {
		work(d, 3)
		d.restart()
		work(d, 1)
		d.restart()
		d.soft.Set(checkpoint.Durable, 1)
		d.start(nil)
		time.Sleep(time.Minute)
		if len(d.replaced()) != 0 || len(d.events(string(finding.JournalAnchorInvalid))) == 0 {
			t.Errorf("replaced %v, told %v", d.replaced(), d.events(string(finding.JournalAnchorInvalid)))
		}
	})
}

// However a device is cut off, killed and started again: what it recorded reads as
// one history without a hole, and it never takes its record for an older copy.
//
// Verifies: SR-054
func TestNoHonestCourseLooksLikeAnAttack(t *testing.T) {
	seed := uint64(7)
	if s := os.Getenv("WARD_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(seed, seed))
	ends := make(map[string]int)
	in(t, func(t *testing.T, d *device) {
		for range 120 {
			left := r.IntN(14) // operations of the TPM before the process dies
			d.start(func(string) bool { left--; return left == 0 })
			for range r.IntN(6) {
				d.record([]finding.Code{finding.BootPCRDiffers, finding.JournalTorn}[r.IntN(2)])
				time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond)
			}
			end := []string{"kill", "kill", "cut", "cut", "restart"}[r.IntN(5)]
			ends[end]++
			switch end {
			case "kill":
				d.kill()
			case "cut":
				d.cut()
			default:
				d.restart()
			}
		}
		d.start(nil)
		time.Sleep(time.Minute)
		if len(d.replaced()) != 0 {
			t.Errorf("seed %d: taken for an older copy: %v", seed, d.replaced())
		}
		for code, n := range d.verify() {
			if code != finding.JournalCounterJump {
				t.Errorf("seed %d: %d times %s", seed, n, code)
			}
		}
		ends["checkpoints"] = len(d.checkpoints())
	})
	t.Logf("seed %d: %v", seed, ends)
	if ends["checkpoints"] < 50 {
		t.Errorf("the campaign took %d checkpoints only", ends["checkpoints"])
	}
}
