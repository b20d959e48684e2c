package posture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"ward/internal/agent/posture"
	"ward/internal/contracttest"
	device "ward/internal/device/posture"
	"ward/internal/trust/event"
	claims "ward/internal/trust/posture"
)

// journal keeps what is recorded.
type journal struct {
	mu     sync.Mutex
	events []event.Event
	fail   error
}

func (j *journal) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
	return j.fail
}

// said lists what was recorded since the last call.
func (j *journal) said() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, e := range j.events {
		if e.Finding != nil {
			out = append(out, fmt.Sprintf("%s %s %s", strings.TrimPrefix(e.Type, "ward.finding."), e.Finding.Code, e.Subject))
		} else {
			out = append(out, fmt.Sprintf("%s %s", e.Subject, e.Report))
		}
	}
	j.events = nil
	return out
}

// thing is a collector whose values and delay a test sets.
type thing struct {
	name string

	mu    sync.Mutex
	claim claims.Claim
	delay time.Duration
	hang  chan struct{} // not nil: a read that hangs until it is closed
	runs  int
}

func (x *thing) collector() device.Collector {
	return device.Collector{Name: x.name, Collect: func(fs.FS) claims.Claim {
		x.mu.Lock()
		x.runs++
		c, delay, hang := x.claim, x.delay, x.hang
		x.mu.Unlock()
		time.Sleep(delay)
		if hang != nil {
			<-hang
		}
		return c
	}}
}

func (x *thing) set(c claims.Claim) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.claim = c
}

func (x *thing) has(values ...string) { x.set(device.Value(x.name, values...)) }

func (x *thing) ran() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.runs
}

// scene is a running role.
type scene struct {
	*posture.Watch
	root     fstest.MapFS
	mu       sync.Mutex
	policy   *claims.Policy
	journal  journal
	modules  *thing
	sockets  *thing
	lockdown *thing
	alive    time.Time
	slowest  time.Duration // between two signs of life
}

// fill gives every collector a value, as the release has it.
func (s *scene) fill() {
	s.root["proc/modules"] = &fstest.MapFile{Data: []byte("nvme 1 1 - Live 0x0\n"), Mode: 0o444}
	s.modules.has("nvme")
	s.sockets.has("tcp *:22 /usr/sbin/sshd")
	s.lockdown.has("integrity")
}

// play runs the role inside a bubble while act acts.
func play(t *testing.T, begin func(*scene), act func(*scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{
			root: fstest.MapFS{}, modules: &thing{name: claims.Modules}, sockets: &thing{name: claims.Sockets}, lockdown: &thing{name: claims.Lockdown},
			policy: &claims.Policy{EverySeconds: 60, Rules: []claims.Rule{
				{Claim: claims.Modules, Mode: claims.Equal, Values: []string{"nvme"}},
				{Claim: claims.Lockdown, Mode: claims.Equal, Values: []string{"integrity"}},
			}},
		}
		s.fill()
		if begin != nil {
			begin(s)
		}
		s.alive = time.Now()
		s.Watch = posture.New(posture.Config{
			Root: s.root, Collectors: []device.Collector{s.modules.collector(), s.sockets.collector(), s.lockdown.collector()},
			Policy: func() *claims.Policy { s.mu.Lock(); defer s.mu.Unlock(); return s.policy },
			Hide: func(path string) string {
				if strings.HasPrefix(path, "/usr/") {
					return path
				}
				return "/~hidden"
			},
			Recorder: &s.journal,
			Alive: func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.slowest = max(s.slowest, time.Since(s.alive))
				s.alive = time.Now()
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		act(s)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.slowest > 6*time.Second {
			t.Errorf("no sign of life for %v", s.slowest)
		}
	})
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func want(t *testing.T, s *scene, lines ...string) {
	t.Helper()
	if got := s.journal.said(); !slices.Equal(got, lines) {
		t.Errorf("recorded\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// A departure is told at the next look that the release's time asks for, as a change
// and as a condition that ends when it is gone.
//
// Verifies: SR-091
func TestDepartureIsToldAndCleared(t *testing.T) {
	play(t, nil, func(s *scene) {
		want(t, s)
		s.lockdown.has("none")
		pass(60 * time.Second)
		want(t, s,
			`posture/kernel.lockdown {"claim":"kernel.lockdown","reason":"scheduled","added":["none"],"removed":["integrity"]}`,
			"raised posture.lockdown posture/kernel.lockdown")
		pass(10 * time.Minute)
		want(t, s) // told once
		s.lockdown.has("integrity")
		pass(60 * time.Second)
		want(t, s,
			`posture/kernel.lockdown {"claim":"kernel.lockdown","reason":"scheduled","added":["integrity"],"removed":["none"]}`,
			"cleared posture.lockdown posture/kernel.lockdown")
	})
}

// What is wrong at the start is told at once; that another thing is wrong with the
// same claim is told again, under its own code where it has one.
//
// Verifies: SR-091
func TestOneConditionForAClaim(t *testing.T) {
	play(t, func(s *scene) { s.modules.has() }, func(s *scene) {
		want(t, s, "raised posture.module-missing posture/kernel.modules")
		s.modules.has("nvme", "rootkit")
		pass(60 * time.Second)
		want(t, s,
			`posture/kernel.modules {"claim":"kernel.modules","reason":"scheduled","added":["nvme","rootkit"]}`,
			"cleared posture.module-missing posture/kernel.modules", "raised posture.module-unknown posture/kernel.modules")
		s.modules.has("nvme", "another", "rootkit")
		pass(60 * time.Second)
		want(t, s,
			`posture/kernel.modules {"claim":"kernel.modules","reason":"scheduled","added":["another"]}`,
			"raised posture.module-unknown posture/kernel.modules")
	})
}

// A hint is followed at once, many within the gap by one look more; the modules are
// asked for a change where nobody hints.
//
// Verifies: SR-093
func TestHints(t *testing.T) {
	play(t, nil, func(s *scene) {
		s.modules.has("nvme", "rootkit")
		s.Look("uevent")
		synctest.Wait()
		want(t, s,
			`posture/kernel.modules {"claim":"kernel.modules","reason":"uevent","added":["rootkit"]}`,
			"raised posture.module-unknown posture/kernel.modules")
		before := s.modules.ran()
		for range 1000 {
			s.Look("mount")
			pass(time.Millisecond)
		}
		if n := s.modules.ran() - before; n != 0 {
			t.Errorf("%d looks within the gap", n)
		}
		pass(time.Second)
		if n := s.modules.ran() - before; n != 1 {
			t.Errorf("%d looks at its end", n)
		}
		pass(5 * time.Second)
		if n := s.modules.ran() - before; n != 1 {
			t.Errorf("%d looks when all is quiet", n)
		}
	})
	play(t, nil, func(s *scene) {
		pass(5 * time.Second)
		before := s.modules.ran()
		s.root["proc/modules"] = &fstest.MapFile{Data: []byte("nvme 1 2 - Live 0x0\n"), Mode: 0o444}
		pass(6 * time.Second)
		if n := s.modules.ran() - before; n != 0 {
			t.Errorf("%d looks because a module has one user more", n)
		}
		s.root["proc/modules"] = &fstest.MapFile{Data: []byte("nvme 1 2 - Live 0x0\nrootkit 1 0 - Live 0x0 (E)\n"), Mode: 0o444}
		s.modules.has("nvme", "rootkit")
		pass(5 * time.Second)
		want(t, s,
			`posture/kernel.modules {"claim":"kernel.modules","reason":"noticed","added":["rootkit"]}`,
			"raised posture.module-unknown posture/kernel.modules")
	})
}

// A collector that was slow is not asked on hints, and its claim stays what it was.
func TestSlowCollectorsWaitForTheWholeLook(t *testing.T) {
	play(t, func(s *scene) { s.sockets.delay = 100 * time.Millisecond }, func(s *scene) {
		pass(time.Second)
		s.sockets.has("tcp *:80 /usr/bin/x")
		s.Look("mount")
		pass(time.Second)
		if n := s.sockets.ran(); n != 1 {
			t.Errorf("it ran %d times", n)
		}
		want(t, s)
		pass(60 * time.Second)
		want(t, s, `posture/net.listening {"claim":"net.listening","reason":"scheduled","added":["tcp *:80 /usr/bin/x"],"removed":["tcp *:22 /usr/sbin/sshd"]}`)
	})
}

// A read that hangs holds up neither the role nor the other claims, is told as
// unreadable where it is judged, keeps one goroutine, and heals.
//
// Verifies: SR-092
func TestReadThatHangs(t *testing.T) {
	var hang chan struct{}
	play(t, func(s *scene) {
		hang = make(chan struct{}) // of the bubble
		s.modules.hang = hang
	}, func(s *scene) {
		pass(5 * time.Second)
		want(t, s, "raised posture.unreadable posture/kernel.modules")
		s.lockdown.has("none")
		pass(5 * time.Minute)
		want(t, s,
			`posture/kernel.lockdown {"claim":"kernel.lockdown","reason":"scheduled","added":["none"],"removed":["integrity"]}`,
			"raised posture.lockdown posture/kernel.lockdown")
		if n := s.modules.ran(); n != 1 {
			t.Errorf("%d goroutines hang", n)
		}
		close(hang)
		s.modules.mu.Lock()
		s.modules.hang = nil
		s.modules.mu.Unlock()
		pass(60 * time.Second)
		want(t, s,
			`posture/kernel.modules {"claim":"kernel.modules","reason":"scheduled","added":["nvme"]}`,
			"cleared posture.unreadable posture/kernel.modules")
	})
}

// What cannot be read any more, or is gone, is a change; unreadable is no pass.
//
// Verifies: SR-092
func TestUnreadableAndAbsent(t *testing.T) {
	play(t, nil, func(s *scene) {
		s.lockdown.set(device.Failed(claims.Lockdown, errors.New("permission denied")))
		pass(60 * time.Second)
		want(t, s,
			`posture/kernel.lockdown {"claim":"kernel.lockdown","reason":"scheduled","removed":["integrity"],"error":"permission denied"}`,
			"raised posture.unreadable posture/kernel.lockdown")
		s.lockdown.set(device.Absent(claims.Lockdown))
		pass(60 * time.Second)
		want(t, s,
			`posture/kernel.lockdown {"claim":"kernel.lockdown","reason":"scheduled","absent":true}`,
			"cleared posture.unreadable posture/kernel.lockdown", "raised posture.lockdown posture/kernel.lockdown")
		s.lockdown.set(device.Value("other.claim", "integrity"))
		pass(60 * time.Second)
		want(t, s,
			`posture/kernel.lockdown {"claim":"kernel.lockdown","reason":"scheduled","error":"the collector claims other.claim"}`,
			"cleared posture.lockdown posture/kernel.lockdown", "raised posture.unreadable posture/kernel.lockdown")
	})
}

// Planted paths leave neither in events nor in the claims for the evidence, and a
// flood of values is counted.
//
// Verifies: SR-094
func TestPathsAreHidden(t *testing.T) {
	const planted = "/home/smith-1964-03-02/tool"
	play(t, func(s *scene) {
		s.policy.Rules = append(s.policy.Rules, claims.Rule{Claim: claims.Sockets, Mode: claims.Equal, Values: []string{"tcp *:22 /usr/sbin/sshd"}})
	}, func(s *scene) {
		s.sockets.has("tcp *:22 /usr/sbin/sshd", "tcp *:4444 "+planted)
		many := make([]string, 100)
		for i := range many {
			many[i] = fmt.Sprintf("m%03d", i)
		}
		s.modules.has(many...)
		pass(60 * time.Second)
		var told, seen int
		for _, e := range s.journal.events {
			b, err := json.Marshal(e)
			if err != nil || strings.Contains(string(b), "smith") {
				t.Errorf("%s, %v", b, err)
			}
			told += strings.Count(string(b), "/~hidden")
			var r struct {
				Added, Removed []string
				More           int
			}
			if e.Subject == "posture/kernel.modules" && e.Type == event.PostureChanged {
				if err := json.Unmarshal(e.Report, &r); err != nil || len(r.Added) != 16 || r.More != 84 || len(r.Removed) != 1 {
					t.Errorf("%s, %v", e.Report, err)
				}
				seen++
			}
		}
		if told != 2 || seen != 1 {
			t.Errorf("%d times hidden, %d changes of modules: %q", told, seen, s.journal.said())
		}
		got := s.Claims()
		if len(got) != 3 || !slices.Equal(got[1].Values, []string{"tcp *:22 /usr/sbin/sshd", "tcp *:4444 /~hidden"}) {
			t.Errorf("%+v", got)
		}
	})
}

// Without a release the defaults alone judge; when one comes, its rules do.
func TestPolicyThatComesLate(t *testing.T) {
	var release *claims.Policy
	play(t, func(s *scene) {
		release, s.policy = s.policy, nil
		s.lockdown.has("none")
	}, func(s *scene) {
		want(t, s)
		s.mu.Lock()
		s.policy = release
		s.mu.Unlock()
		s.Look("release")
		synctest.Wait()
		want(t, s, "raised posture.lockdown posture/kernel.lockdown")
	})
}

// A journal that fails does not stop the watch.
func TestRecorderThatFails(t *testing.T) {
	play(t, func(s *scene) { s.journal.fail = errors.New("disk full") }, func(s *scene) {
		for _, v := range []string{"none", "integrity"} {
			s.lockdown.has(v)
			pass(60 * time.Second)
			if n := len(s.journal.said()); n != 2 {
				t.Errorf("%s: %d events", v, n)
			}
		}
	})
}

func TestStopsBeforeTheBootIsJudged(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := posture.New(posture.Config{Start: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, Recorder: new(journal)})
	if err := w.Run(ctx); err != nil || len(w.Claims()) > 0 {
		t.Error(err, w.Claims())
	}
}
