package live_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/integrity/live"
	"ward/internal/contracttest"
	"ward/internal/device/fanotify"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

// release is a file baseline in memory.
type release map[string]baseline.Entry

func (r release) Entry(name string) (baseline.Entry, bool, error) {
	e, ok := r[name]
	return e, ok, nil
}

func (r release) Ancestor(name string) string {
	for name != "/" && name != "." {
		name = path.Dir(name)
		if r[name].Type == baseline.Directory {
			return name
		}
	}
	return "/"
}

func (r release) Lookup(name string, sum [32]byte) baseline.Match {
	if e, ok := r[name]; ok {
		if e.SHA256 == sum {
			return baseline.Known
		}
		return baseline.ChangedContent
	}
	for _, e := range r {
		if e.Type == baseline.File && e.SHA256 == sum {
			return baseline.KnownContentOtherPath
		}
	}
	return baseline.UnknownPath
}

func folder(name string, f baseline.Flags) baseline.Entry {
	return baseline.Entry{Path: name, Type: baseline.Directory, Mode: 0o755, Flags: f}
}

func file(name, text string) baseline.Entry {
	return baseline.Entry{Path: name, Type: baseline.File, Mode: 0o644, Size: int64(len(text)), SHA256: sha256.Sum256([]byte(text))}
}

func of(entries ...baseline.Entry) release {
	r := release{"/": folder("/", 0)}
	for _, e := range entries {
		r[e.Path] = e
	}
	return r
}

// judge is a comparison as the baseline makes it, in small.
func judge(files live.Files, name string, have *baseline.Entry, failed error) (finding.Finding, bool) {
	want, named, _ := files.Entry(name)
	switch {
	case failed != nil:
		return finding.New(finding.IMAViolation, failed.Error()).On(name), true
	case named && have == nil:
		return finding.New(finding.IMAChangedFile, "missing").On(name), true
	case named && have.SHA256 != want.SHA256:
		return finding.New(finding.IMAChangedFile, "changed").On(name).Want(fmt.Sprintf("%x", want.SHA256[:4]), fmt.Sprintf("%x", have.SHA256[:4])), true
	case !named && have != nil && have.Type == baseline.File:
		return finding.New(finding.IMAUnknownFile, "new").On(name), true
	}
	return finding.Finding{}, false
}

// journal keeps what is recorded.
type journal struct {
	mu     sync.Mutex
	events []event.Event
	at     []time.Time
	quick  bool // what is recorded is not held against the schema, which takes its time
}

func (j *journal) Record(_ context.Context, e event.Event) error {
	if !j.quick {
		contracttest.Recorded(e)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.quick && len(j.events) > 2000 && strings.Contains(e.Subject, "/many/") {
		return nil // a flood is not kept here either
	}
	j.events, j.at = append(j.events, e), append(j.at, time.Now())
	return nil
}

// said lists "type code subject" of what was recorded since the last call.
func (j *journal) said() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, e := range j.events {
		if e.Finding == nil {
			out = append(out, e.Type+" "+e.Subject)
			continue
		}
		out = append(out, fmt.Sprintf("%s %s %s", strings.TrimPrefix(e.Type, "ward.finding."), e.Finding.Code, e.Subject))
	}
	j.events, j.at = nil, nil
	return out
}

func (j *journal) find(fits func(event.Event) bool) (event.Event, time.Time, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, e := range j.events {
		if fits(e) {
			return e, j.at[i], true
		}
	}
	return event.Event{}, time.Time{}, false
}

// kernel is a source that a test speaks for.
type kernel struct {
	mu    sync.Mutex
	tell  func(fanotify.Event)
	blind []fanotify.Blind
	ends  chan error
}

func (k *kernel) Follow(ctx context.Context, tell func(fanotify.Event)) error {
	k.mu.Lock()
	k.tell = tell
	k.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil
	case err := <-k.ends:
		return err
	}
}

func (k *kernel) Blind() []fanotify.Blind {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.blind
}

func (k *kernel) say(e fanotify.Event) {
	k.mu.Lock()
	tell := k.tell
	k.mu.Unlock()
	tell(e)
}

// scene is a running role.
type scene struct {
	t       *testing.T
	kernel  *kernel
	journal *journal
	files   release
	disk    map[string]string // what stands where; a missing path has nothing
	looks   map[string]int
	policy  watch.Policy
	scans   []string
	scanned time.Time
	told    map[string]bool
	state   string
	ran     []string // programs of the release
	mu      sync.Mutex
}

func (s *scene) look(name string) (baseline.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks[name]++
	text, ok := s.disk[name]
	if !ok {
		return baseline.Entry{}, fmt.Errorf("look at %q: %w", name, fs.ErrNotExist)
	}
	if text == "broken" {
		return baseline.Entry{}, errors.New("input/output error")
	}
	return file(name, text), nil
}

func (s *scene) first(_ context.Context, subject string, f finding.Finding) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := string(f.Code) + subject + f.Found
	again := s.told[key]
	s.told[key] = true
	return !again
}

func hide(name string) string {
	if strings.HasPrefix(name, "/secret") {
		return "/~" + fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:12]
	}
	return name
}

func (s *scene) config() live.Config {
	return live.Config{
		Source: s.kernel, Files: func() live.Files { return &s.files }, Policy: func() watch.Policy { return s.policy },
		Look: s.look, Judge: judge, Hide: hide, State: s.state, Recorder: s.journal, First: s.first,
		Ran: func(path string, sum [32]byte) {
			s.mu.Lock()
			s.ran = append(s.ran, fmt.Sprintf("%s %x", path, sum[:4]))
			s.mu.Unlock()
		},
		Scan:    func(reason string) { s.mu.Lock(); s.scans = append(s.scans, reason); s.mu.Unlock() },
		Scanned: func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.scanned },
	}
}

func newScene(t *testing.T) *scene {
	return &scene{
		t: t, kernel: &kernel{ends: make(chan error)}, journal: new(journal), disk: map[string]string{}, looks: map[string]int{}, told: map[string]bool{},
		files: of(folder("/etc", 0), folder("/usr", 0), folder("/usr/bin", 0), folder("/var", 0), folder("/var/log", baseline.Volatile),
			file("/etc/conf", "right"), file("/usr/bin/pump", "pump"), file("/var/log/kept", "x")),
	}
}

// play runs the role inside a bubble while act acts.
func play(t *testing.T, begin, act func(*scene)) {
	t.Helper()
	state := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.state = state
		if begin != nil {
			begin(s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		r := live.New(s.config())
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		s.canary()
		act(s)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// canary tells of the role's own touch, as the kernel does.
func (s *scene) canary() {
	s.kernel.say(fanotify.Event{What: fanotify.Written, Path: filepath.Join(s.state, "watch-canary"), Origin: fanotify.Origin{PID: os.Getpid()}})
}

func (s *scene) change(name, text string) {
	s.mu.Lock()
	s.disk[name] = text
	s.mu.Unlock()
	s.kernel.say(fanotify.Event{What: fanotify.Written, Path: name, Origin: by})
}

var by = fanotify.Origin{PID: 12, Exe: "/usr/bin/vi", UID: 0, Started: 62 * time.Second}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (s *scene) want(lines ...string) {
	s.t.Helper()
	synctest.Wait()
	if got := s.journal.said(); !slices.Equal(got, lines) {
		s.t.Errorf("recorded\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// Verifies: SR-086
func TestChangedFileIsToldAtOnceWithWhoDidIt(t *testing.T) {
	play(t, nil, func(s *scene) {
		begun := time.Now()
		s.change("/etc/conf", "wrong")
		synctest.Wait()
		e, at, ok := s.journal.find(func(e event.Event) bool { return e.Finding != nil })
		if !ok || at.Sub(begun) > 20*time.Millisecond {
			t.Fatalf("told %v after %v", ok, at.Sub(begun))
		}
		if want := "changed by /usr/bin/vi, pid 12, uid 0, started 1m2s after the boot"; !strings.Contains(e.Finding.Detail, want) || e.Finding.Path != "/etc/conf" {
			t.Errorf("%+v, want %q", e.Finding, want)
		}
		s.want("incident ima.changed-file /etc/conf")
		// The same again, in many small writes, is looked at a few times and not told.
		for range 100 {
			s.change("/etc/conf", "wrong")
			pass(7 * time.Millisecond)
		}
		s.change("/etc/conf", "worse")
		pass(time.Second)
		s.want("incident ima.changed-file /etc/conf")
		if n := s.looks["/etc/conf"]; n < 3 || n > 6 {
			t.Errorf("looked %d times at 102 events within 700 ms", n)
		}
	})
}

// Verifies: SR-086
func TestWhatIsLookedAt(t *testing.T) {
	for _, row := range []struct {
		name, text string
		looks      int
		want       []string
	}{
		{"/etc/conf", "right", 1, nil},
		{"/etc/new", "1", 1, []string{"incident ima.unknown-file /etc/new"}},
		{"/etc/new\n\xff", "1", 1, []string{"incident ima.unknown-file /etc/new\n\xff"}},
		{"/etc/conf", "broken", 1, []string{"incident ima.violation /etc/conf"}},
		{"/var/log/messages", "1", 0, nil},  // in a folder that changes
		{"/var/log/kept", "x", 1, nil},      // named there
		{"/srv/data/anything", "1", 0, nil}, // in no folder of the release
		{"/etc/ignored/file", "1", 0, nil},  // by the release's policy
		{"/etc/ignored", "1", 0, nil},       //
		{"/etc/ignored-not", "1", 1, []string{"incident ima.unknown-file /etc/ignored-not"}},
	} {
		play(t, func(s *scene) { s.policy.Ignore = []string{"/etc/ignored"} }, func(s *scene) {
			s.change(row.name, row.text)
			pass(time.Second)
			s.want(row.want...)
			if n := s.looks[row.name]; n != row.looks {
				t.Errorf("%s: looked %d times, want %d", row.name, n, row.looks)
			}
		})
	}
}

func TestDeletedFileIsTold(t *testing.T) {
	play(t, nil, func(s *scene) {
		s.kernel.say(fanotify.Event{What: fanotify.Deleted, Path: "/usr/bin/pump", Origin: fanotify.Origin{PID: 7}})
		synctest.Wait()
		e, _, _ := s.journal.find(func(event.Event) bool { return true })
		if e.Finding == nil || !strings.Contains(e.Finding.Detail, "changed by pid 7, which had ended") {
			t.Errorf("%+v", e.Finding)
		}
		s.want("incident ima.changed-file /usr/bin/pump")
	})
}

// A set-uid file is looked at wherever it lies.
func TestNewRightsAreLookedAtAnywhere(t *testing.T) {
	dir := t.TempDir()
	name, plain := filepath.Join(dir, "su"), filepath.Join(dir, "plain")
	for _, f := range []string{name, plain} {
		if err := os.WriteFile(f, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(name, 0o700|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	play(t, nil, func(s *scene) {
		for _, f := range []string{name, plain} {
			s.kernel.say(fanotify.Event{What: fanotify.Attributes, Path: f, Volatile: true})
		}
		synctest.Wait()
		if s.looks[name] != 1 || s.looks[plain] != 0 {
			t.Errorf("looked %v", s.looks)
		}
	})
}

// Without a baseline nothing can be compared, and nothing is told as good or bad.
func TestWithoutABaseline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		c := s.config()
		c.Files = nil
		r := live.New(c)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		s.change("/etc/conf", "wrong")
		pass(time.Second)
		s.want()
		cancel()
		<-done
	})
}

// Verifies: SR-087
func TestOverflowLeadsToAScan(t *testing.T) {
	play(t, nil, func(s *scene) {
		s.kernel.say(fanotify.Event{What: fanotify.Overflow})
		pass(300 * time.Millisecond)
		s.want("raised watch.overflow fanotify")
		pass(time.Second)
		s.want("incident watch.flood fanotify")
		if !slices.Equal(s.scans, []string{"overflow"}) {
			t.Errorf("scans %v", s.scans)
		}
		pass(10 * time.Minute / 20)
		s.want() // nothing is good before the scan is done
		s.mu.Lock()
		s.scanned = time.Now()
		s.mu.Unlock()
		pass(time.Second)
		s.canary()
		said := s.journal.said()
		if !slices.Contains(said, "cleared watch.overflow fanotify") {
			t.Errorf("recorded %v", said)
		}
	})
}

// More paths than there is room for are left to a scan, and counted.
//
// Verifies: SR-087
func TestTooManyPathsLeadToAScan(t *testing.T) {
	play(t, func(s *scene) { s.files["/many"] = folder("/many", 0) }, func(s *scene) {
		for i := range 10_000 {
			s.kernel.say(fanotify.Event{What: fanotify.Written, Path: fmt.Sprintf("/many/%d", i)})
		}
		pass(2 * time.Second)
		e, _, ok := s.journal.find(func(e event.Event) bool { return e.Finding != nil && e.Finding.Code == finding.WatchFlood })
		if !ok || !strings.Contains(e.Finding.Detail, "were not looked at") {
			t.Errorf("flood %v %+v", ok, e.Finding)
		}
		if len(s.looks) > 5000 || len(s.scans) != 1 {
			t.Errorf("%d paths looked at, scans %v", len(s.looks), s.scans)
		}
	})
}

// Verifies: SR-087
func TestMissedCanary(t *testing.T) {
	play(t, nil, func(s *scene) {
		pass(55 * time.Second)
		s.want()
		pass(20 * time.Second) // touched at 60 s, its event does not come
		s.want("raised watch.canary-missed fanotify")
		if !slices.Equal(s.scans, []string{"canary"}) {
			t.Errorf("scans %v", s.scans)
		}
		pass(2 * time.Minute)
		s.want() // told once, scanned once
		if len(s.scans) != 1 {
			t.Errorf("scans %v", s.scans)
		}
		s.canary()
		pass(time.Second)
		s.want("cleared watch.canary-missed fanotify")
		if info, err := os.Stat(filepath.Join(s.state, "watch-canary")); err != nil || info.Size() != 0 {
			t.Errorf("the canary: %v, %v", info, err)
		}
	})
}

func TestBlindSpotsAreTold(t *testing.T) {
	play(t, func(s *scene) {
		s.kernel.blind = []fanotify.Blind{{Mount: "/secret/usb", Type: "vfat", Reason: "late"}}
	}, func(s *scene) {
		e, _, ok := s.journal.find(func(e event.Event) bool { return e.Type == event.FindingRaised })
		if !ok || strings.Contains(e.Finding.Detail, "secret") || !strings.Contains(e.Finding.Detail, "(vfat): late") {
			t.Errorf("%+v", e.Finding)
		}
		s.want("raised watch.blind fanotify")
		s.kernel.mu.Lock()
		s.kernel.blind = nil
		s.kernel.mu.Unlock()
		s.kernel.say(fanotify.Event{What: fanotify.Mounts})
		pass(time.Second)
		s.want("cleared watch.blind fanotify")
	})
}

func TestWithoutASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := new(journal)
		r := live.New(live.Config{Missing: errors.New("CAP_SYS_ADMIN is missing"), Recorder: j, Hide: hide})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		if said := j.said(); !slices.Equal(said, []string{"raised watch.unavailable fanotify"}) {
			t.Errorf("recorded %v", said)
		}
		if st := r.Status(); st.Changes != "" || st.Missing == "" || len(st.Programs) != 0 {
			t.Errorf("%+v", st)
		}
		cancel()
		<-done
	})
}

func TestSourceThatEnds(t *testing.T) {
	play(t, nil, func(s *scene) {
		s.kernel.say(fanotify.Event{What: fanotify.Fault, Err: errors.New("one event"), Dead: false})
		s.want()
		s.kernel.ends <- errors.New("dead")
		pass(time.Second)
		s.want("raised watch.unavailable fanotify")
		if len(s.scans) != 1 {
			t.Errorf("scans %v", s.scans)
		}
	})
}

// program writes a file and gives the event of its being run.
func program(t *testing.T, text string) (string, fanotify.Event) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return name, fanotify.Event{What: fanotify.Executed, Path: name, File: f, Origin: by, Volatile: true}
}

// Verifies: SR-088
func TestProgramsAreLookedUp(t *testing.T) {
	for _, row := range []struct {
		text string
		path string // as the event tells it; empty: as it is
		want string
	}{
		{"pump", "", ""},                                   // the release's, at another path
		{"pump", "/usr/bin/pump", ""},                      //
		{"stranger", "", "exec.unknown-file"},              //
		{"stranger", "/usr/bin/pump", "exec.changed-file"}, //
	} {
		name, e := program(t, row.text)
		if row.path != "" {
			name, e.Path = row.path, row.path
		}
		again, err := os.Open(e.File.Name())
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(e.File.Name()) // what was run counts, not what stands there now
		play(t, nil, func(s *scene) {
			s.kernel.say(e)
			waitFor(t, func() bool { return e.File.Fd() == ^uintptr(0) })
			e.File = again
			s.kernel.say(e)
			waitFor(t, func() bool { return again.Fd() == ^uintptr(0) })
			s.mu.Lock()
			ran := slices.Clone(s.ran)
			s.mu.Unlock()
			if one := fmt.Sprintf("%s %x", name, sha256.Sum256([]byte(row.text)))[:len(name)+9]; row.want == "" && !slices.Equal(ran, []string{one, one}) || row.want != "" && ran != nil {
				t.Errorf("%s as %q: handed on as run %q", row.text, name, ran)
			}
			if row.want == "" {
				s.want()
				return
			}
			found, _, ok := s.journal.find(func(event.Event) bool { return true })
			if sum := sha256.Sum256([]byte(row.text)); !ok || found.Finding.Found != fmt.Sprintf("sha256:%x", sum) || !strings.Contains(found.Finding.Detail, "run by /usr/bin/vi, pid 12") {
				t.Errorf("%+v", found.Finding)
			}
			s.want("incident " + row.want + " " + name)
		})
	}
}

// waitFor waits for what another goroutine does with real files.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 10_000 {
		if done() {
			synctest.Wait()
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it does not come to an end")
}

// What the kernel's measurement list has told is not told again, nor the other way
// round.
//
// Verifies: SR-088
func TestProgramIsToldByOneSource(t *testing.T) {
	name, e := program(t, "stranger")
	play(t, nil, func(s *scene) {
		f := finding.New(finding.IMAUnknownFile, "").On(name)
		f.Found = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("stranger")))
		if !s.first(t.Context(), name, f) {
			t.Fatal("it was told before")
		}
		s.kernel.say(e)
		waitFor(t, func() bool { return e.File.Fd() == ^uintptr(0) })
		s.want()
	})
}
