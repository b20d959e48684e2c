package anchor_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/anchor"
	"ward/internal/agent/anchor/anchortest"
	"ward/internal/agent/journal"
	"ward/internal/agent/journal/audit"
	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
	"ward/internal/format/pcr"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

var (
	source = event.Source{Tenant: "lab", Device: "pump-1"}
	boot   = pcr.Digest(bytes.Repeat([]byte{0xb0}, 32))
)

// device is a device with a disk, a TPM and a journal; its daemon can be killed and
// its power cut.
type device struct {
	t     *testing.T
	disk  *waltest.Disk
	soft  *anchortest.Soft
	boots int
	begun time.Time // of this boot

	journal *journal.Journal
	role    *anchor.Anchor
	mu      sync.Mutex
	epochs  []uint64
	config  func(*anchor.Config)
	kill    func()
	stop    func() // in order
}

func newDevice(t *testing.T) *device {
	return &device{t: t, disk: waltest.New(1), soft: anchortest.NewSoft(t), begun: time.Now(), boots: 1}
}

// kept is the journal as the role takes it.
type kept struct {
	*journal.Journal
	*gate
}

func (k kept) Durable() (epoch, sequence uint64) {
	s := k.Status()
	return s.Epoch, s.Durable
}

func (k kept) Record(ctx context.Context, e event.Event) error {
	if k.dead() {
		return errDead
	}
	return k.Journal.Record(ctx, e)
}

func (k kept) Read(ctx context.Context, after uint64, limit int) ([]event.Record, error) {
	if k.dead() {
		return nil, errDead
	}
	return k.Journal.Read(ctx, after, limit)
}

var errDead = errors.New("the process is dead")

// gate is shut when the process dies: nothing that it does has an effect any more.
type gate struct {
	mu   sync.Mutex
	shut bool
}

func (g *gate) dead() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.shut }
func (g *gate) close()     { g.mu.Lock(); defer g.mu.Unlock(); g.shut = true }

// chip is the TPM as one process reaches it.
type chip struct {
	*anchortest.Soft
	*gate
	before func(op string) // may kill
	after  func(op string)
}

func (c chip) Certify(ctx context.Context, k checkpoint.Counter, q [32]byte) ([]byte, []byte, error) {
	c.before("certify")
	if c.dead() {
		return nil, nil, errDead
	}
	a, s, err := c.Soft.Certify(ctx, k, q)
	if c.after("certify"); c.dead() {
		return nil, nil, errDead
	}
	return a, s, err
}

func (c chip) Step(ctx context.Context, k checkpoint.Counter) error {
	c.before("step")
	if c.dead() {
		return errDead
	}
	err := c.Soft.Step(ctx, k)
	if c.after("step"); c.dead() {
		return errDead
	}
	return err
}

// start starts the daemon. die, which may be nil, is asked before and after each
// operation of the TPM whether the process dies there.
func (d *device) start(die func(op string) bool) {
	d.t.Helper()
	j, err := journal.Open(journal.Config{FS: d.disk, Source: source, Boot: d.boot(), Monotonic: d.now})
	if err != nil {
		d.t.Fatal(err)
	}
	g := &gate{}
	look := func(op string) {
		if die != nil && die(op) {
			g.close()
		}
	}
	k := kept{j, g}
	c := anchor.Config{
		Source: source, Boot: d.boot(), Monotonic: d.now, Counter: chip{d.soft, g, look, look}, Journal: k, Recorder: k,
		Judged: func(context.Context) (pcr.Digest, error) { return boot, nil },
		Replaced: func(_ string, atLeast uint64) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.epochs = append(d.epochs, atLeast)
		},
	}
	if d.config != nil {
		d.config(&c)
	}
	d.journal, d.role = j, anchor.New(c)
	ctx, cancel := context.WithCancel(d.t.Context())
	writes, stopWrites := context.WithCancel(d.t.Context())
	var role, writer sync.WaitGroup
	role.Go(func() {
		if err := d.role.Run(ctx); err != nil {
			d.t.Error(err)
		}
	})
	writer.Go(func() { _ = j.Run(writes) })
	d.kill = func() {
		g.close()
		cancel()
		stopWrites()
		role.Wait()
		writer.Wait()
	}
	d.stop = func() {
		cancel()
		role.Wait()
		stopWrites()
		writer.Wait()
		if err := j.Close(); err != nil {
			d.t.Error(err)
		}
	}
	d.t.Cleanup(d.kill)
}

// replaced are the epochs that were asked for.
func (d *device) replaced() []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.epochs
}

func (d *device) boot() string       { return "boot-" + string(rune('a'+d.boots%26)) }
func (d *device) now() time.Duration { return time.Since(d.begun) }

// cut cuts the power under a running daemon.
func (d *device) cut() {
	d.kill()
	d.disk = d.disk.PowerCut()
	d.soft.Cut()
	d.boots++
	d.begun = time.Now()
}

// restart shuts the device down in order.
func (d *device) restart() {
	d.stop()
	d.soft.Reset()
	d.boots++
	d.begun = time.Now()
}

func (d *device) record(code finding.Code) {
	d.t.Helper()
	f := finding.New(code, "test")
	if err := d.journal.Record(d.t.Context(), event.Event{Type: event.FindingIncident, Severity: f.Severity, Finding: &f}); err != nil {
		d.t.Fatal(err)
	}
}

// events are those on the disk now, of a type or with a finding's code; "" for all.
func (d *device) events(what string) []event.Decoded {
	d.t.Helper()
	var out []event.Decoded
	take := func(b []byte) {
		e, err := event.Parse(b)
		if err != nil {
			d.t.Fatal(err)
		}
		if what == "" || e.Type == what || e.Finding != nil && string(e.Finding.Code) == what {
			out = append(out, e)
		}
	}
	for after := uint64(0); ; {
		records, err := d.journal.Read(d.t.Context(), after, 500)
		if errors.Is(err, journal.ErrClosed) {
			_, err = wal.Inspect(d.disk, func(r wal.Record) error { take(r.Payload); return nil })
		}
		if err != nil {
			d.t.Fatal(err)
		}
		if len(records) == 0 {
			return out
		}
		for _, r := range records {
			after = r.Sequence
			take(r.Bytes)
		}
	}
}

// checkpoints are those on the disk now.
func (d *device) checkpoints() []checkpoint.Report {
	d.t.Helper()
	var out []checkpoint.Report
	for _, e := range d.events(event.Checkpoint) {
		r, err := checkpoint.Parse(e.Report)
		if err != nil {
			d.t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// verify reads the whole record as somebody with the key does, and returns the
// codes of what is found.
func (d *device) verify() map[finding.Code]int {
	d.t.Helper()
	v, err := audit.VerifyAgainst(d.disk, audit.Against{AK: d.soft.AK()}, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	out := make(map[finding.Code]int)
	for _, f := range v.Findings {
		if out[f.Code]++; f.Code != finding.JournalCounterJump {
			d.t.Log(f.Code, f.Detail)
		}
	}
	if len(v.Problems) > 0 {
		d.t.Errorf("the chain does not hold: %v", v.Problems)
	}
	return out
}

// in runs a test in its own time.
func in(t *testing.T, body func(t *testing.T, d *device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { body(t, newDevice(t)) })
}
