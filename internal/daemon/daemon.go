// Package daemon is wardd put together: the only place where the roles, the
// devices they use and the settings meet. What is missing on the device leaves
// the rest at work: every role is begun whatever the others found, and begun
// anew when it fails. The state that results is always visible in the record
// and on the local socket (blueprint, section 9, rule 3).
package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"ward/internal/agent/health"
	"ward/internal/agent/identity"
	"ward/internal/agent/journal"
	"ward/internal/agent/storm"
	"ward/internal/config"
	"ward/internal/daemon/early"
	"ward/internal/device/bootclock"
	"ward/internal/device/sdnotify"
	"ward/internal/device/tpm"
	"ward/internal/device/wal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/volume"
)

// version is set when the release is built (-ldflags -X).
var version = ""

// Version is the version of this program.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return strings.Trim(info.Main.Version, "()")
	}
	return "devel"
}

// memoryLimit is where the garbage collector begins to work hard: under the
// budget of 20 MiB resident, code and stacks included.
const memoryLimit = 16 << 20

// farewell bounds the stop: the last events are synced and sent within it.
const farewell = 5 * time.Second

// Check reads a configuration and says what is wrong with it.
func Check(file string) error {
	_, err := config.Load(file)
	return err
}

// daemon is one life of wardd: a process has more than one when its journal is
// begun anew (life.go).
type daemon struct {
	config  config.Config
	log     *slog.Logger
	started time.Time
	boot    string
	source  event.Source
	session uint64

	journal  *journal.Journal
	recorder *storm.Storm     // the journal as the roles record in it
	volumes  []volume.Outcome // what the early boot said of them
	unkept   error            // why the journal is in memory only; nil when it is not
	memory   wal.FS           // where it lies then
	health   *health.Health
	notify   *sdnotify.Notifier
	chip     *tpm.Lazy
	early    *early.Opened // what was opened before the privileges went

	configFile string
	roles      []role

	life      life          // why this life was begun
	after     chan *daemon  // the one behind it
	healAfter time.Duration // between two tries of a disk; healEvery if zero
}

// role is one part to run under supervision.
type role struct {
	name  string
	bound time.Duration
	run   func(ctx context.Context) error
}

// Run runs the daemon until ctx ends. It returns an error only when there is
// nothing left to do: no record can be kept at all.
func Run(ctx context.Context, configFile string, stderr io.Writer) error {
	started := time.Now()
	debug.SetMemoryLimit(memoryLimit)
	settings, configErr := config.Load(configFile)
	if configErr != nil {
		settings = config.Default()
	}
	d := &daemon{config: settings, configFile: configFile, log: newLog(settings.Log, stderr), started: started}
	if configErr != nil {
		d.log.Error("the configuration cannot be used; running on built-in settings", "error", configErr)
	}
	d.early = early.Open(d.log)
	defer d.early.Close()
	privileges := d.early.Drop()
	notify, watchdog := sdnotify.Environment()
	d.notify = notify
	var dog health.Watchdog
	if watchdog > 0 {
		dog = watch{notify}
	}
	d.chip = tpm.NewLazy(settings.TPM.Device)
	defer d.chip.Close()
	return d.live(ctx, dog, configErr, privileges)
}

type watch struct{ n *sdnotify.Notifier }

func (w watch) Alive() error { return w.n.Watchdog() }

func newLog(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// unenrolled names a device that has no certificate yet.
var unenrolled = event.Source{Tenant: "unenrolled", Device: "unenrolled"}

// identify finds out which boot and which device this is.
func (d *daemon) identify() {
	var err error
	if d.boot, err = bootclock.ID(os.DirFS("/proc")); err != nil {
		d.log.Error("the boot has no id", "error", err)
		d.boot = "unknown"
	}
	d.source = unenrolled
	if tenant, device, err := identity.Subject(d.config.Paths.State); err == nil {
		d.source = event.Source{Tenant: tenant, Device: device}
	}
}

// open opens the journal, or goes on with the one that was opened for this life.
func (d *daemon) open() error {
	d.after = make(chan *daemon, 1)
	if d.journal == nil {
		d.identify()
		if err := d.openJournal(); err != nil {
			// The record goes to memory: what happens is still reported, and the
			// status says that it is not kept.
			d.log.Error("the journal cannot be opened; events are kept in memory only", "error", err)
			d.unkept = err
			if err := d.openMemoryJournal(); err != nil {
				return fmt.Errorf("open journal: %w", err)
			}
		}
	}
	d.recorder = storm.New(d.journal, d.log)
	if d.life.memory != nil {
		if err := d.journal.Again(d.life.memory, d.life.memorySince); err != nil {
			d.log.Error("events that were kept in memory are not in the journal", "error", err)
		}
		d.life.memory = nil
	}
	d.session = d.nextSession()
	return nil
}

// begin records the start and what is known to be wrong at this moment.
func (d *daemon) begin(ctx context.Context, configErr error, privileges string) {
	started := map[string]any{"version": Version(), "session": d.session}
	if d.life.why != "" {
		started["again"] = d.life.why
	}
	d.record(ctx, event.Event{Type: event.DaemonStarted, Severity: finding.Info, Report: report(started)})
	if d.life.healed {
		f := finding.New(finding.JournalFailing, "the journal's disk can be used again; what was kept in memory is recorded on it")
		d.record(ctx, event.Event{Type: event.FindingCleared, Subject: "journal", Severity: f.Severity, Finding: &f})
	}
	if d.unkept != nil {
		d.raise(ctx, finding.New(finding.JournalFailing, d.unkept.Error()), "journal")
	}
	if configErr != nil {
		d.raise(ctx, finding.New(finding.DaemonConfig, configErr.Error()), "configuration")
	}
	d.beginVolumes(ctx)
	d.beginSelf(ctx)
	if privileges != "" {
		d.raise(ctx, finding.New(finding.DaemonPrivileged, privileges), "process")
	}
}

// run supervises every role until ctx ends, or until there is a reason to begin
// another life, which it returns. The record outlives the other roles: they may
// still say how they stopped.
func (d *daemon) run(ctx context.Context) (next *daemon) {
	var readers, writers sync.WaitGroup
	recordCtx, endRecord := context.WithCancel(context.WithoutCancel(ctx))
	defer endRecord()
	readCtx, endRead := context.WithCancel(ctx)
	defer endRead()
	start := func(ctx context.Context, wg *sync.WaitGroup, r role) {
		board := d.health.Role(r.name, r.bound)
		wg.Go(func() { supervise(ctx, d.log, board, r.name, r.run) })
	}
	start(recordCtx, &writers, role{"journal", 10 * time.Second, d.journal.Run})
	start(recordCtx, &writers, role{"storm", 10 * time.Second, func(ctx context.Context) error { return d.recorder.Run(ctx, d.alive("storm")) }})
	for _, r := range d.roles {
		start(readCtx, &readers, r)
	}
	start(readCtx, &readers, role{"health", 10 * time.Second, d.health.Run})
	if d.unkept != nil {
		start(readCtx, &readers, role{"heal", 0, d.heal})
	}
	if err := d.notify.Ready(); err != nil {
		d.log.Warn("notify the service manager", "error", err)
	}
	d.log.Info("running", "device", d.source.Device, "tenant", d.source.Tenant, "boot", d.boot, "session", d.session, "version", Version())

	if next = d.awaitNext(ctx); next == nil {
		_ = d.notify.Stopping()
		d.record(recordCtx, event.Event{Type: event.DaemonStopped, Severity: finding.Info, Report: report(map[string]any{"session": d.session})})
	}
	endRead()
	if !within(farewell, readers.Wait) {
		d.log.Error("a role did not stop in time")
	}
	endRecord()
	_ = within(time.Second, writers.Wait)
	d.recorder.Flush(context.WithoutCancel(ctx))
	if err := d.journal.Close(); err != nil {
		d.log.Error("close journal", "error", err)
	}
	if next != nil {
		d.handOver(next)
		d.log.Info("beginning again", "reason", next.life.why)
		return next
	}
	d.discard()
	d.endSelf()
	d.log.Info("stopped")
	return nil
}

// within says whether f returned in time.
func within(limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

func (d *daemon) record(ctx context.Context, e event.Event) {
	if err := d.recorder.Record(ctx, e); err != nil {
		d.log.Error("record event", "type", e.Type, "error", err)
	}
}

func (d *daemon) raise(ctx context.Context, f finding.Finding, subject string) {
	d.record(ctx, event.Event{Type: event.FindingRaised, Subject: subject, Severity: f.Severity, Finding: &f})
}
