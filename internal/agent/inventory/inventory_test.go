package inventory_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
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
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/device/statefile"
	"ward/internal/trust/appraisal/appraisaltest"
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

func (i image) Digest() [32]byte { return sum(i.name) }

func (i image) Components() []string {
	var all []string
	for _, c := range i.files {
		if c != "" {
			all = append(all, c)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (i image) ComponentOf(path string, digest [32]byte) (string, bool) {
	if c, ok := i.files[path]; ok && sum(path) == digest {
		return c, true
	}
	for p, c := range i.files {
		if sum(p) == digest {
			return c, true
		}
	}
	return "", false
}

func (i image) Entry(path string) (baseline.Entry, bool, error) {
	_, ok := i.files[path]
	e := baseline.Entry{Path: path, Type: baseline.File, SHA256: sum(path)}
	if !slices.Contains(i.plain, path) {
		e.Flags = baseline.Exec
	}
	return e, ok, nil
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
	release func() (inventory.Baseline, bool)
	kernel  fs.FS
	journal journal
	state   string
	boot    string
	first   func(context.Context, string, finding.Finding) bool
	hide    func(string) string
}

func newScene(t *testing.T) *scene {
	return &scene{t: t, release: func() (inventory.Baseline, bool) { return pump, true }, state: filepath.Join(t.TempDir(), inventory.File), boot: "boot-1"}
}

// run runs the role while act acts.
func (s *scene) run(act func(*inventory.Role)) {
	s.t.Helper()
	r := inventory.New(inventory.Config{Release: s.release, SecurityFS: s.kernel, Boot: s.boot, State: s.state, Recorder: &s.journal, First: s.first, Hide: s.hide})
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	synctest.Wait()
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
	names, err := set.Decode(b, pump.Components())
	if err != nil {
		t.Error(err)
	}
	if got := r.Status().Ran; !slices.Equal(got, names) {
		t.Errorf("the status says %q, the set %q", got, names)
	}
	return strings.Join(names, " ")
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
			if st := r.Status(); !st.Known || !st.SBOM || st.Components != 4 {
				t.Errorf("%+v", st)
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
		s.release = func() (inventory.Baseline, bool) { return pump, false }
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
			start(r, "/usr/bin/stray")
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
		s.release = func() (inventory.Baseline, bool) { return big, true }
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

// What ran before the daemon stands in the kernel's list, which is gone through as
// soon as there is a release, and once.
//
// Verifies: SR-079
func TestMeasurementList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		k := securityfstest.New(t)
		k.Measure(appraisaltest.Program("/bin/busybox"), appraisaltest.Program("/tmp/tool"), appraisaltest.Program("/usr/bin/stray"))
		s.kernel = k.SecurityFS()
		var mu sync.Mutex
		there := false
		s.release = func() (inventory.Baseline, bool) {
			mu.Lock()
			defer mu.Unlock()
			if !there {
				return nil, false
			}
			return pump, true
		}
		s.run(func(r *inventory.Role) {
			start(r, "/usr/bin/pump")
			if got := ran(t, r); got != "unknown" {
				t.Errorf("without a release: %q", got)
			}
			mu.Lock()
			there = true
			mu.Unlock()
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := ran(t, r); got != "busybox@1.37.0" {
				t.Errorf("ran %q", got)
			}
			if got := s.journal.said(); !slices.Equal(got, []string{"inventory.no-component /usr/bin/stray"}) {
				t.Errorf("recorded %q", got)
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
		other.release = func() (inventory.Baseline, bool) { o := pump; o.name = "other"; return o, true }
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
		if err := os.WriteFile(s.state, []byte(`{"boot":"boot-2","running":"AQ=="}`), 0o600); err != nil {
			t.Fatal(err)
		}
		s.run(func(r *inventory.Role) {
			if got := ran(t, r); got != "" {
				t.Errorf("from a damaged file: %q", got)
			}
		})
	})
}
