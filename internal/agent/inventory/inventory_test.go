package inventory_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/inventory"
	"ward/internal/contracttest"
	"ward/internal/device/statefile"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	set "ward/internal/trust/inventory"
)

// image is a release: files with their components; the content of each is its path.
type image struct {
	name  string
	files map[string]string // path to component, empty: none
	plain []string          // those that are no programs
}

var pump = image{
	name: "pump", files: map[string]string{
		"/bin/busybox": "busybox@1.37.0", "/usr/bin/openssl": "openssl@3.5.0", "/usr/lib/libssl.so.3": "openssl@3.5.0",
		"/usr/bin/pump": "pump@4.2.0", "/usr/bin/stray": "", "/etc/pump.conf": "", "/usr/lib/libz.so.1": "zlib@1.3.1",
	},
	plain: []string{"/etc/pump.conf"},
}

func sum(content string) [32]byte { return sha256.Sum256([]byte(content)) }

// index is the file baseline of an image.
func (i image) index(t *testing.T) *baseline.Index {
	t.Helper()
	var b bytes.Buffer
	w, err := baseline.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.SortedFunc(maps.Keys(i.files), baseline.ComparePaths) {
		e := baseline.Entry{Path: path, Type: baseline.File, Mode: 0o755, Size: int64(len(i.name)), SHA256: sum(path), Flags: baseline.Exec, Component: i.files[path]}
		if slices.Contains(i.plain, path) {
			e.Flags = 0
		}
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	digest, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	x, err := baseline.LoadIndex(bytes.NewReader(b.Bytes()), int64(b.Len()), digest)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (i image) release(t *testing.T, sbom bool) func() (*baseline.Index, bool) {
	x := i.index(t)
	return func() (*baseline.Index, bool) { return x, sbom }
}

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

// said lists "code path" of the incidents since the last call.
func (j *journal) said() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, e := range j.events {
		if e.Type == event.FindingIncident {
			out = append(out, fmt.Sprintf("%s %s", e.Finding.Code, e.Subject))
		}
	}
	j.events = nil
	return out
}

// scene is a device.
type scene struct {
	t       *testing.T
	release func() (*baseline.Index, bool)
	journal journal
	state   string
	boot    string
	first   func(context.Context, string, finding.Finding) bool
	hide    func(string) string
	early   bool // the measurement list was not gone through
}

func newScene(t *testing.T) *scene {
	return &scene{t: t, release: pump.release(t, true), state: filepath.Join(t.TempDir(), inventory.File), boot: "boot-1"}
}

// run runs the role while act acts.
func (s *scene) run(act func(*inventory.Role)) {
	s.t.Helper()
	r := inventory.New(inventory.Config{Release: s.release, Boot: s.boot, State: s.state, Recorder: &s.journal, First: s.first, Hide: s.hide})
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	synctest.Wait()
	if !s.early {
		r.Through()
	}
	act(r)
	cancel()
	if err := <-done; err != nil {
		s.t.Error(err)
	}
}

// ran is what the set that goes into evidence says.
func ran(t *testing.T, r *inventory.Role) string {
	t.Helper()
	b := r.Running()
	if b == nil {
		return "unknown"
	}
	names, err := set.Decode(b, pump.index(t).Components())
	if err != nil {
		t.Error(err)
	}
	if n, got, known := r.Status(); !slices.Equal(got, names) || !known || n != 4 {
		t.Errorf("the status says %q of %d, %v, the set %q", got, n, known, names)
	}
	return strings.Join(names, " ")
}

func known(r *inventory.Role) bool {
	_, _, ok := r.Status()
	return ok
}

func start(r *inventory.Role, paths ...string) {
	for _, p := range paths {
		r.Ran(p, sum(p))
	}
	synctest.Wait()
}

// Verifies: SR-079
func TestComponentsThatRan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.run(func(r *inventory.Role) {
			if got := ran(t, r); got != "" {
				t.Errorf("before anything ran: %q", got)
			}
			start(r, "/usr/lib/libssl.so.3", "/bin/busybox", "/bin/busybox")
			r.Ran("/usr/bin/openssl", sum("altered"))        // the release has no such content
			r.Ran("/mnt/usr/bin/pump", sum("/usr/bin/pump")) // another path, as in the initramfs
			r.Ran("/tmp/tool", sum("/tmp/tool"))
			if got := ran(t, r); got != "busybox@1.37.0 openssl@3.5.0 pump@4.2.0" {
				t.Errorf("ran %q", got)
			}
			if got := s.journal.said(); got != nil {
				t.Errorf("recorded %q", got)
			}
		})
	})
}

// A program of the release that is in no SBOM is told once; a released file that is
// no program, and a release without an SBOM, tell nothing.
//
// Verifies: SR-079
func TestNoComponent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.run(func(r *inventory.Role) {
			start(r, "/usr/bin/stray", "/etc/pump.conf", "/usr/bin/stray", "/usr/bin/pump")
			s.journal.mu.Lock()
			e := s.journal.events[0]
			s.journal.mu.Unlock()
			if want := fmt.Sprintf("sha256:%x", sum("/usr/bin/stray")); e.Finding.Found != want || e.Severity != finding.Medium || e.Finding.Detail != "executed but in no SBOM" {
				t.Errorf("%+v", e.Finding)
			}
			if got := s.journal.said(); !slices.Equal(got, []string{"inventory.no-component /usr/bin/stray"}) {
				t.Errorf("recorded %q", got)
			}
		})
		s.release = pump.release(t, false)
		s.run(func(r *inventory.Role) {
			start(r, "/usr/bin/stray")
			if got := s.journal.said(); got != nil {
				t.Errorf("without an SBOM: %q", got)
			}
		})
	})
}

// What was told in this boot is not told again, and a path that the release does
// not name does not leave the device as it is.
//
// Verifies: SR-079
func TestToldOnceAndHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		told := map[string]bool{"/usr/bin/stray": true}
		s.first = func(_ context.Context, subject string, f finding.Finding) bool { return !told[subject] }
		s.run(func(r *inventory.Role) {
			r.Ran("/home/Jane Doe/stray", sum("/usr/bin/stray"))
			synctest.Wait()
			if got := s.journal.said(); !slices.Equal(got, []string{"inventory.no-component content of the release at another path"}) {
				t.Errorf("recorded %q", got)
			}
		})
		s.hide = func(p string) string { return "/~" + fmt.Sprintf("%.6x", sum(p)) }
		s.run(func(r *inventory.Role) {
			r.Ran("/home/Jane Doe/stray", sum("/usr/bin/stray"))
			synctest.Wait()
			if got := s.journal.said(); len(got) != 1 || !strings.HasPrefix(got[0], "inventory.no-component /~") || strings.Contains(got[0], "Jane") {
				t.Errorf("recorded %q", got)
			}
		})
	})
}

// More programs than are told one by one are counted.
//
// Verifies: SR-079
func TestFloodIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		big := image{name: "big", files: map[string]string{"/bin/busybox": "busybox@1.37.0"}}
		for i := range 1000 {
			big.files[fmt.Sprintf("/opt/%d", i)] = ""
		}
		s.release = big.release(t, true)
		s.run(func(r *inventory.Role) {
			for i := range 1000 { // faster than the role can take them
				p := fmt.Sprintf("/opt/%d", i)
				r.Ran(p, sum(p))
			}
			synctest.Wait()
			s.journal.mu.Lock()
			more, single := 0, 0
			for _, e := range s.journal.events {
				var n int
				if _, err := fmt.Sscanf(e.Finding.Detail, "%d more programs", &n); err == nil {
					more += n
				} else {
					single++
				}
			}
			s.journal.mu.Unlock()
			if single+more != 1000 || single == 0 {
				t.Errorf("%d told one by one and %d as a number, of 1000", single, more)
			}
		})
	})
}

// Until the measurement list was gone through with a release, nothing is told: what
// it tells of would look dormant.
//
// Verifies: SR-079
func TestNothingIsToldTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		var mu sync.Mutex
		there := false
		files := pump.index(t)
		s.release = func() (*baseline.Index, bool) {
			mu.Lock()
			defer mu.Unlock()
			if !there {
				return nil, false
			}
			return files, true
		}
		s.early = true
		s.run(func(r *inventory.Role) {
			start(r, "/usr/bin/pump")
			r.Through()
			if got := ran(t, r); got != "unknown" || known(r) {
				t.Errorf("without a release: %q", got)
			}
			mu.Lock()
			there = true
			mu.Unlock()
			start(r, "/usr/lib/libz.so.1")
			if got := r.Running(); got != nil || known(r) {
				t.Errorf("before the list was gone through: %x", got)
			}
			start(r, "/usr/bin/pump")
			r.Through()
			if got := ran(t, r); got != "pump@4.2.0 zlib@1.3.1" || !known(r) {
				t.Errorf("ran %q", got)
			}
		})
	})
}

// The set outlives the daemon within a boot and for one release; it is written at
// most once a minute and when the daemon stops.
//
// Verifies: SR-079
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		before := statefile.Written()
		size := func() uint64 { return statefile.Written() - before }
		s.run(func(r *inventory.Role) {
			start(r, "/bin/busybox")
			time.Sleep(10 * time.Second)
			synctest.Wait()
			first := size()
			if first == 0 {
				t.Error("nothing was kept")
			}
			for _, p := range []string{"/usr/bin/pump", "/usr/lib/libz.so.1"} {
				start(r, p)
				time.Sleep(10 * time.Second)
				synctest.Wait()
			}
			if size() != first {
				t.Errorf("%d bytes were written within a minute after the first %d", size()-first, first)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if size() != 2*first {
				t.Errorf("%d bytes were written in two minutes, want %d", size(), 2*first)
			}
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			if size() != 2*first {
				t.Errorf("%d bytes more in an idle day", size()-2*first)
			}
			start(r, "/usr/bin/openssl")
		})
		const all = "busybox@1.37.0 openssl@3.5.0 pump@4.2.0 zlib@1.3.1"
		s.run(func(r *inventory.Role) {
			if got := ran(t, r); got != all {
				t.Errorf("after a restart: %q", got)
			}
		})
		other := newScene(t)
		other.state = s.state
		other.release = image{"another", pump.files, pump.plain}.release(t, true)
		other.run(func(r *inventory.Role) {
			if got := ran(t, r); got != "" {
				t.Errorf("of another release: %q", got)
			}
		})
		s.boot = "boot-2"
		s.run(func(r *inventory.Role) {
			if got := ran(t, r); got != "" {
				t.Errorf("in another boot: %q", got)
			}
			start(r, "/bin/busybox")
		})
		if err := os.WriteFile(s.state, []byte("boot-2\n\x01"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.run(func(r *inventory.Role) {
			if got := ran(t, r); got != "" {
				t.Errorf("from a damaged file: %q", got)
			}
		})
	})
}
