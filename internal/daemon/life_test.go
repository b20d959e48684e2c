package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/journal/audit"
	"ward/internal/agent/localapi"
	"ward/internal/config"
	"ward/internal/daemon/early"
	"ward/internal/device/wal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// living is a daemon that lives, and what asks its socket.
type living struct {
	t      *testing.T
	state  string
	client *localapi.Client
	first  *daemon // its first life
	stop   func()
}

// live puts a daemon together as wardd does, over folders of the test.
func live(t *testing.T, state string, began func(*daemon)) *living {
	t.Helper()
	dir := short(t)
	none := filepath.Join(dir, "none")
	settings := config.Default()
	settings.Paths = config.Paths{
		State: state, Socket: filepath.Join(dir, "s"), Release: none, Baseline: none, Trust: none, SysFS: none,
	}
	settings.TPM.Device = none
	d := &daemon{early: new(early.Opened), config: settings, log: slog.New(slog.DiscardHandler), started: time.Now(), healAfter: 50 * time.Millisecond}
	if began != nil {
		began(d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.live(ctx, nil, nil, "") }()
	l := &living{t: t, state: state, client: localapi.NewClient(settings.Paths.Socket), first: d}
	stopped := false
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(farewell + 5*time.Second):
			t.Error("the daemon does not stop")
		}
	}
	t.Cleanup(l.stop)
	return l
}

// until asks for the status until it is as wanted.
func (l *living) until(what string, ok func(localapi.Status) bool) localapi.Status {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for {
		s, err := l.client.Status(ctx)
		if err == nil && ok(s) {
			return s
		}
		select {
		case <-ctx.Done():
			l.t.Fatalf("not within 30 s: %s; %+v, %v", what, s.Journal, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// record has a role of the first life record an incident.
func (l *living) record(d *daemon, name string) {
	l.t.Helper()
	f := finding.New(finding.IMAUnknownFile, "").On("/tmp/" + name)
	if err := d.recorder.Record(context.Background(), event.Event{Type: event.FindingIncident, Subject: f.Path, Severity: f.Severity, Finding: &f}); err != nil {
		l.t.Fatal(err)
	}
}

// onDisk lists what the journal on the disk holds: files of incidents, codes of the
// journal's own findings with what was done, and starts of the daemon.
func (l *living) onDisk() (files string, codes []string, epoch uint64) {
	l.t.Helper()
	v, err := audit.Verify(wal.Dir(filepath.Join(l.state, "journal")), func(r wal.Record) error {
		e, err := event.Parse(r.Payload)
		if err != nil {
			return err
		}
		switch {
		case e.Type == event.DaemonStarted:
			codes = append(codes, "started")
		case e.Type == event.DaemonStopped:
			codes = append(codes, "stopped")
		case e.Finding == nil:
		case e.Finding.Code == finding.IMAUnknownFile:
			files += strings.TrimPrefix(e.Finding.Path, "/tmp/")
		case e.Finding.Code.Area() == "journal":
			codes = append(codes, strings.TrimPrefix(e.Type, "ward.finding.")+" "+string(e.Finding.Code))
		}
		return nil
	})
	if err != nil || len(v.Problems) > 0 {
		l.t.Errorf("the journal on the disk: %+v, %v", v, err)
	}
	return files, codes, v.Epoch
}

// A journal that was proved to be an older copy ends one life of the daemon and
// begins the next in the same process: the roles are begun anew, the socket
// answers again, and what was of this run is in the new journal once.
//
// Verifies: SR-056
func TestAReplacedJournalIsBegunAnew(t *testing.T) {
	state := t.TempDir()
	l := live(t, state, nil)
	l.until("it runs", func(s localapi.Status) bool { return s.Journal.Epoch == 1 && len(s.Roles) > 0 })
	l.stop()
	l = live(t, state, nil)
	before := l.until("it runs again", func(s localapi.Status) bool { return s.Link.Session == 2 && len(s.Roles) > 0 })
	l.record(l.first, "a")
	l.record(l.first, "b")
	l.first.replaced("the fleet holds record 99", 7)
	l.first.replaced("told once more", 3)
	after := l.until("another epoch", func(s localapi.Status) bool { return s.Journal.Epoch == 7 && len(s.Roles) == len(before.Roles) })
	if after.Link.Session != 3 || after.Boot != before.Boot {
		t.Errorf("session %d, want 3", after.Link.Session)
	}
	l.until("the conditions are raised anew", func(s localapi.Status) bool { return holds(s, "boot.release-no-trust", "") })
	if err := l.first.recorder.Record(t.Context(), event.Event{Type: event.DaemonStopped, Severity: finding.Info}); err == nil {
		t.Error("a role of the life before records in a journal that was closed")
	}
	l.stop()
	files, codes, epoch := l.onDisk()
	if want := "incident journal.begun-anew, started, started, stopped"; files != "ab" || epoch != 7 || strings.Join(codes, ", ") != want {
		t.Errorf("epoch %d holds %q and %q, want a and b once and %q", epoch, files, codes, want)
	}
	if v, err := audit.Verify(wal.Dir(filepath.Join(state, "journal", "aside-1")), nil); err != nil || v.Records < 5 || len(v.Problems) > 0 {
		t.Errorf("put aside is %+v, %v", v, err)
	}
}

// However often it is asked for, a journal lasts for minutes.
//
// Verifies: SR-056
func TestJournalsAreNotReplacedInCircles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{log: slog.New(slog.DiscardHandler)}
		d.after = make(chan *daemon, 1)
		began := time.Now()
		for n := range 5 {
			d.replaced("an older copy", 2)
			next := d.awaitNext(t.Context())
			if next == nil || next.life.anew == "" {
				t.Fatal("no other life")
			}
			if passed := time.Since(began); passed != time.Duration(n)*anewEvery {
				t.Errorf("the %dth time after %s", n+1, passed)
			}
			next.after = make(chan *daemon, 1)
			d = next
		}
		d.replaced("an older copy", 2)
		go func() {
			time.Sleep(time.Minute)
			d.replaced("and newer than thought", 40)
		}()
		if next := d.awaitNext(t.Context()); next.life.atLeast != 40 {
			t.Errorf("epoch %d is asked for, want the highest, 40", next.life.atLeast)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if d.awaitNext(ended) != nil {
			t.Error("a life behind the end")
		}
	})
}

// A disk that cannot be used when the daemon starts: it runs on a record in memory
// with an epoch of its own, and says so. When the disk heals, the daemon goes on
// with it, and what was kept in memory is recorded on it, once.
//
// Verifies: SR-057 SR-017
func TestADiskThatHeals(t *testing.T) {
	mounted := func(t *testing.T) string {
		state := t.TempDir()
		if err := syscall.Mount("none", state, "tmpfs", 0, "size=2m"); err != nil {
			t.Skipf("mount a file system: %v: run as root", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(state, syscall.MNT_DETACH) })
		return state
	}
	remount := func(t *testing.T, state string, flags uintptr) {
		if err := syscall.Mount("none", state, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	write := func(t *testing.T, file string, size int) {
		if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil && size < 2<<20 {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name  string
		lived bool // the daemon ran there before
		state func(*testing.T) string
		harm  func(*testing.T, string)
		heal  func(*testing.T, string)
		cause string
	}{
		{"no folder can be made", false, func(t *testing.T) string { return t.TempDir() },
			func(t *testing.T, state string) { write(t, filepath.Join(state, "journal"), 1) },
			func(t *testing.T, state string) { check(t, os.Remove(filepath.Join(state, "journal"))) }, "not a directory"},
		{"read-only, never used", false, mounted,
			func(t *testing.T, state string) { remount(t, state, syscall.MS_RDONLY) },
			func(t *testing.T, state string) { remount(t, state, 0) }, "read-only file system"},
		{"read-only", true, mounted,
			func(t *testing.T, state string) { remount(t, state, syscall.MS_RDONLY) },
			func(t *testing.T, state string) { remount(t, state, 0) }, "read-only file system"},
		{"full, never used", false, mounted,
			func(t *testing.T, state string) { write(t, filepath.Join(state, "ballast"), 4<<20) },
			func(t *testing.T, state string) { check(t, os.Remove(filepath.Join(state, "ballast"))) }, "no space left"},
		{"a state file that cannot be read", true, func(t *testing.T) string { return t.TempDir() },
			func(t *testing.T, state string) {
				check(t, os.Rename(filepath.Join(state, "journal/state.json"), filepath.Join(state, "kept")))
				check(t, os.Mkdir(filepath.Join(state, "journal/state.json"), 0o700))
			},
			func(t *testing.T, state string) {
				check(t, os.Remove(filepath.Join(state, "journal/state.json")))
				check(t, os.Rename(filepath.Join(state, "kept"), filepath.Join(state, "journal/state.json")))
			}, "is a directory"},
	} {
		t.Run(row.name, func(t *testing.T) {
			state := row.state(t)
			if row.lived {
				l := live(t, state, nil)
				l.until("it runs", func(s localapi.Status) bool { return s.Journal.Epoch == 1 && len(s.Roles) > 0 })
				l.record(l.first, "a")
				l.stop()
			}
			row.harm(t, state)
			l := live(t, state, nil)
			s := l.until("it runs in memory", func(s localapi.Status) bool {
				return event.Volatile(s.Journal.Epoch) && holds(s, "journal.write-failing", row.cause)
			})
			if !strings.Contains(s.Journal.Error, row.cause) {
				t.Errorf("the status says %+v", s.Journal)
			}
			l.record(l.first, "b")
			l.record(l.first, "c")
			row.heal(t, state)
			l.until("it goes on with the disk", func(s localapi.Status) bool {
				return s.Journal.Epoch == 1 && s.Journal.Error == "" && len(s.Roles) > 0 && !holds(s, "journal.write-failing", "")
			})
			l.stop()
			files, codes, epoch := l.onDisk()
			want, story := "bc", "incident journal.begun-anew, started, raised journal.write-failing, started, cleared journal.write-failing, stopped"
			if row.lived {
				want, story = "abc", strings.Replace(story, "begun-anew, ", "begun-anew, started, stopped, ", 1)
			}
			if files != want || epoch != 1 || strings.Join(codes, ", ") != story {
				t.Errorf("epoch %d on the disk holds %q and %q, want %q and %q", epoch, files, codes, want, story)
			}
		})
	}
}

// The record of a daemon whose disk never heals stays in memory, and its epochs
// differ from start to start.
//
// Verifies: SR-057
func TestEpochsInMemoryDiffer(t *testing.T) {
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "journal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	seen := make(map[uint64]bool)
	for range 3 {
		l := live(t, state, nil)
		s := l.until("it runs in memory", func(s localapi.Status) bool { return event.Volatile(s.Journal.Epoch) })
		if seen[s.Journal.Epoch] || s.Journal.Epoch >= event.EndVolatile {
			t.Errorf("epoch %d: seen before %v", s.Journal.Epoch, seen)
		}
		seen[s.Journal.Epoch] = true
		l.first.replaced("nothing to replace", 9) // the fleet knows the disk's journal
		l.stop()
	}
}
