package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ward/internal/agent/anchor"
	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/journal/audit"
	"ward/internal/agent/localapi"
	"ward/internal/config"
	"ward/internal/daemon/chip"
	"ward/internal/daemon/early"
	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/device/wal"
	"ward/internal/format/pcr"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
)

// anchoredDevice is a manufactured device in one boot of this machine.
type anchoredDevice struct {
	t        *testing.T
	settings config.Config
	power    *swtpmtest.TPM
	ak       tpm.Key
	boot     pcr.Digest // of the boot registers
}

func newAnchoredDevice(t *testing.T) *anchoredDevice {
	t.Helper()
	dir := short(t)
	d := &anchoredDevice{t: t, settings: config.Default(), power: swtpmtest.Start(t, false)}
	none := filepath.Join(dir, "none")
	d.settings.Paths = config.Paths{
		State: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "s"),
		Release: none, Baseline: none, Trust: none, SysFS: none,
	}
	d.settings.TPM.Device = d.power.Socket
	check(t, os.Mkdir(d.settings.Paths.State, 0o700))
	d.with(func(chip *tpm.TPM) {
		keys, err := chip.ProvisionKeys(t.Context())
		check(t, err)
		d.ak = keys.AK
		auth := tpm.NewAuth()
		check(t, idstore.Open(d.settings.Paths.State).SetAuth("journal", auth))
		for _, durable := range []bool{false, true} {
			check(t, chip.DefineNV(t.Context(), tpm.JournalCounter(durable), auth))
			_, err := chip.Increment(t.Context(), tpm.JournalCounter(durable), auth)
			check(t, err)
		}
		values, err := chip.ReadPCRs(t.Context(), pcr.SHA256, evidence.BootRegisters)
		check(t, err)
		h := sha256.New()
		for _, n := range evidence.BootRegisters {
			h.Write(values[n])
		}
		d.boot = h.Sum(nil)
	})
	return d
}

// with uses the TPM while no daemon does: swtpm serves one connection at a time.
func (d *anchoredDevice) with(use func(*tpm.TPM)) {
	d.t.Helper()
	chip, err := tpm.Open(d.power.Socket)
	check(d.t, err)
	defer chip.Close()
	use(chip)
}

// start runs the daemon until stop is called.
func (d *anchoredDevice) start() (client *localapi.Client, stop func()) {
	d.t.Helper()
	w := &daemon{early: new(early.Opened), config: d.settings, log: slog.New(slog.DiscardHandler), started: time.Now()}
	ctx, cancel := context.WithCancel(d.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.live(ctx, nil, nil, "") }()
	stop = sync.OnceFunc(func() {
		cancel()
		check(d.t, <-ended)
	})
	d.t.Cleanup(stop)
	return localapi.NewClient(d.settings.Paths.Socket), stop
}

// until waits for a state; the deadline is a guard and decides nothing.
func (d *anchoredDevice) until(client *localapi.Client, what string, reached func(localapi.Anchor) bool) localapi.Anchor {
	d.t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s, err := client.Status(d.t.Context())
		if err == nil && s.Journal.Anchor != nil && reached(*s.Journal.Anchor) {
			return *s.Journal.Anchor
		}
		if time.Now().After(end) {
			d.t.Fatalf("%s does not come: %+v, %v", what, s.Journal.Anchor, err)
		}
	}
}

// verify reads the record as its owner does.
func (d *anchoredDevice) verify() (v audit.Verification, checkpoints []checkpoint.Report) {
	d.t.Helper()
	v, err := audit.VerifyAgainst(wal.Dir(filepath.Join(d.settings.Paths.State, "journal")), audit.Against{AK: d.ak.Public}, func(r wal.Record) error {
		e, err := event.Parse(r.Payload)
		if err == nil && e.Type == event.Checkpoint {
			var c checkpoint.Report
			c, err = checkpoint.Parse(e.Report)
			checkpoints = append(checkpoints, c)
		}
		return err
	})
	check(d.t, err)
	if len(v.Problems)+len(v.Findings) > 0 {
		d.t.Errorf("found %v %v", v.Problems, v.Findings)
	}
	return v, checkpoints
}

// The whole daemon with a software TPM: the boot's first checkpoints, one on demand,
// one at the stop; a second start in the same boot goes on.
//
// Verifies: SR-054
func TestTheDaemonAnchorsItsRecord(t *testing.T) {
	d := newAnchoredDevice(t)
	client, stop := d.start()
	d.until(client, "the first checkpoint", func(a localapi.Anchor) bool { return a.Counter == string(checkpoint.Orderly) })
	raw, err := client.TakeCheckpoint(t.Context())
	check(t, err)
	if e, err := event.Parse(raw); err != nil || e.Type != event.Checkpoint {
		t.Errorf("on demand: %s, %v", raw, err)
	}
	var refusal *localapi.Refusal
	if _, err := client.TakeCheckpoint(t.Context()); !errors.As(err, &refusal) || refusal.Status != http.StatusTooManyRequests {
		t.Errorf("at once again: %v", err)
	}
	stop()
	v, got := d.verify()
	if len(got) != 4 || v.Verified != 4 || v.Durable.Value != 1 || v.Orderly.Value != 3 || v.Anchored < v.Last-2 {
		t.Fatalf("%d checkpoints, %d verified, durable %+v, orderly %+v, anchored up to %d of %d", len(got), v.Verified, v.Durable, v.Orderly, v.Anchored, v.Last)
	}
	for i, r := range got {
		if want := i < 2; (r.Evidence.String() == d.boot.String()) != want || len(r.Evidence) != 0 != want {
			t.Errorf("checkpoint %d names the evidence %s, the boot's is %s", i, r.Evidence, d.boot)
		}
	}

	client, stop = d.start()
	d.until(client, "one of the second start", func(a localapi.Anchor) bool { return a.Counter == string(checkpoint.Orderly) && a.Value >= 4 })
	stop()
	if v, _ := d.verify(); v.Durable.Value != 1 || v.Orderly.Value < 4 {
		t.Errorf("after the second start: durable %+v, orderly %+v", v.Durable, v.Orderly)
	}
}

// A record that is put back as it was an hour ago is found by the daemon itself.
//
// Verifies: SR-054
func TestTheDaemonFindsAnOlderRecord(t *testing.T) {
	d := newAnchoredDevice(t)
	folder := filepath.Join(d.settings.Paths.State, "journal")
	run := func(value uint64) {
		client, stop := d.start()
		d.until(client, "a checkpoint", func(a localapi.Anchor) bool { return a.Counter == string(checkpoint.Orderly) && a.Value >= value })
		stop()
	}
	run(1)
	old := filepath.Join(t.TempDir(), "old")
	check(t, os.CopyFS(old, os.DirFS(folder)))
	run(3)
	check(t, os.RemoveAll(folder))
	check(t, os.CopyFS(folder, os.DirFS(old)))
	client, stop := d.start()
	defer stop()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s, err := client.Status(t.Context())
		if err == nil {
			for _, f := range s.Incidents {
				if f.Code == finding.JournalRolledBack {
					return
				}
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the older record is not found: %+v, %+v, %v", s.Journal, s.Journal.Anchor, s.Roles)
		}
	}
}

// A device that was never manufactured, and a record that is in memory only, say
// why they have no anchor.
//
// Verifies: SR-054
func TestWhatHasNoAnchor(t *testing.T) {
	lazy := tpm.NewLazy(filepath.Join(t.TempDir(), "none"))
	state := t.TempDir()
	c := counters{chip.Counters{Chip: lazy, Store: idstore.Open(state)}, nil}
	if _, _, err := c.Certify(t.Context(), checkpoint.Durable, [32]byte{}); !errors.Is(err, idstore.ErrNone) || !strings.Contains(err.Error(), "not manufactured") {
		t.Errorf("no counters: %v", err)
	}
	if err := c.Step(t.Context(), checkpoint.Durable); !errors.Is(err, idstore.ErrNone) {
		t.Errorf("no counters: %v", err)
	}
	if _, err := c.Key(t.Context()); !errors.Is(err, tpm.ErrAbsent) {
		t.Errorf("no TPM: %v", err)
	}
	c.unkept = errors.New("read-only file system")
	if _, err := c.Key(t.Context()); err == nil || !strings.Contains(err.Error(), "in memory only: read-only") {
		t.Errorf("in memory: %v", err)
	}
	if got := describeAnchor(anchor.Status{Missing: "busy"}); got.Missing != "busy" || got.Counter != "" {
		t.Errorf("%+v", got)
	}
}
