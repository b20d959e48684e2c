package crash

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/agent/localapi"
	"ward/internal/trust/finding"
)

// some is how many programs run in one piece of trouble: few enough that each is
// told by an event of its own.
const some = 6

func (w *world) ran(n int) {
	for range n {
		w.kernel.run()
		time.Sleep(20 * time.Millisecond)
	}
}

// holds says whether a condition holds on the device.
func (p *process) holds(code finding.Code) bool {
	s, ok := p.status()
	return ok && slices.ContainsFunc(s.Findings, func(c localapi.Condition) bool { return c.Code == code })
}

// settle ends a device's trouble: it says everything, is ended, and everything is
// at the fleet once.
func (w *world) settle(p *process, b *book) {
	w.t.Helper()
	p.quiet()
	p.kill()
	w.received(b)
	b.verify("after the trouble", 0)
	w.complete(b)
	w.told()
	w.t.Logf("%d programs ran, %d records in the journal and at the fleet, %d last wills", len(w.kernel.entries), b.last, w.fleet.lost)
}

// halt stops the process for a while, as a debugger or a frozen control group does.
func halt(t *testing.T, times int, d time.Duration) {
	w := newWorld(t)
	b, p := w.newBook(), w.start()
	for range times {
		w.ran(1)
		p.signal(syscall.SIGSTOP)
		w.ran(some / 2)
		time.Sleep(d)
		p.signal(syscall.SIGCONT)
		p.quiet()
	}
	w.settle(p, b)
}

// end asks the daemon to end while programs run.
func end(t *testing.T, times int) {
	w := newWorld(t)
	b := w.newBook()
	for n := range times {
		p := w.start()
		until(t, "wardd answers", func() bool { _, ok := p.status(); return ok })
		w.ran(1 + n%some)
		p.stop()
		w.ran(1) // while none runs
		b.verify("after a stop", b.last)
	}
	w.settle(w.start(), b)
}

// onTmpfs makes a world whose state lies on a small file system of its own.
func onTmpfs(t *testing.T) *world {
	t.Helper()
	w := newWorldOn(t, func(folder string) {
		if err := unix.Mount("ward", folder, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
			if errors.Is(err, unix.EPERM) {
				t.Skip("to fill a disk or to take it away takes root: run the tests as root")
			}
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	})
	return w
}

// failing has programs run while the state cannot be written.
func failing(t *testing.T, times int, spoil, heal func(w *world)) {
	w := onTmpfs(t)
	b, p := w.newBook(), w.start()
	b.confirmed = w.fleet.confirmed // on a full disk they may go
	p.quiet()
	for range times {
		w.ran(1)
		p.quiet()
		// The block that the journal writes to still has room for some events, and on
		// a full disk it makes room of what the fleet has confirmed.
		until(t, "the condition is raised", func() bool {
			spoil(w)
			w.ran(1)
			time.Sleep(700 * time.Millisecond) // the rate of incidents is bounded
			return p.holds(finding.JournalFailing)
		})
		w.ran(some / 2)
		heal(w)
		until(t, "the condition is cleared", func() bool { return !p.holds(finding.JournalFailing) })
		p.quiet()
	}
	w.settle(p, b)
}

// fill leaves no byte free.
func fill(w *world) {
	f, err := os.OpenFile(filepath.Join(w.state, "others"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	check(w.t, err)
	defer f.Close()
	for piece := make([]byte, 4096); len(piece) > 0; {
		if _, err := f.Write(piece); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				w.t.Fatal(err)
			}
			piece = piece[:len(piece)/2]
		}
	}
}

func empty(w *world) { check(w.t, os.Remove(filepath.Join(w.state, "others"))) }

// readOnly starts the daemon on a state that cannot be written, as the kernel leaves
// a file system behind an error, and lets it be written again while it runs.
func readOnly(t *testing.T, times int) {
	w := onTmpfs(t)
	remount := func(flags uintptr) { check(t, unix.Mount("", w.state, "", unix.MS_REMOUNT|flags, "")) }
	b := w.newBook()
	for range times {
		p := w.start()
		w.ran(1)
		p.quiet()
		p.stop()
		remount(unix.MS_RDONLY)
		p = w.start()
		w.ran(some / 2)
		until(t, "the condition is raised", func() bool { return p.holds(finding.JournalFailing) })
		w.ran(some / 2)
		remount(0)
		until(t, "the condition is cleared", func() bool { return !p.holds(finding.JournalFailing) })
		p.quiet()
		p.kill()
		w.received(b)
		b.verify("after it was read-only", 0)
	}
	w.settle(w.start(), b)
}

// Verifies: SR-074
func TestHaltedDaemonGoesOn(t *testing.T) {
	t.Parallel()
	halt(t, 1, 500*time.Millisecond)
}

// Verifies: SR-073
func TestStopUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	end(t, 2)
}

// Verifies: SR-074
func TestFullDiskThatHeals(t *testing.T) {
	t.Parallel()
	failing(t, 1, fill, empty)
}

// Verifies: SR-074
func TestReadOnlyStateThatHeals(t *testing.T) {
	t.Parallel()
	readOnly(t, 1)
}
