package integrity_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/integrity"
	"ward/internal/contracttest"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const poll = 250 * time.Millisecond

// journal keeps what is recorded.
type journal struct {
	mu     sync.Mutex
	events []event.Event
	at     []time.Time
	fail   error
}

func (j *journal) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events, j.at = append(j.events, e), append(j.at, time.Now())
	return j.fail
}

// said lists "type code subject" of what was recorded since the last call.
func (j *journal) said() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, e := range j.events {
		out = append(out, fmt.Sprintf("%s %s %s", strings.TrimPrefix(e.Type, "ward.finding."), e.Finding.Code, e.Subject))
	}
	j.events, j.at = nil, nil
	return out
}

// start is what the appraisal of the boot has covered.
type start struct {
	mu      sync.Mutex
	files   *baseline.Index
	entries int
}

func (s *start) Judged(context.Context) (*baseline.Index, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files, s.entries, nil
}

func (s *start) set(files *baseline.Index, entries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files, s.entries = files, entries
}

// scene is a running role over a kernel.
type scene struct {
	kernel  *securityfstest.Kernel
	device  *appraisaltest.Device
	start   *start
	journal *journal
	alive   int
	mu      sync.Mutex
	ran     []string // what was handed on, and "through"
	first   func(ctx context.Context, subject string, f finding.Finding) bool
}

// play runs the role inside a bubble while act acts.
func play(t *testing.T, begin func(*scene), act func(*scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := appraisaltest.New(t)
		s := &scene{kernel: securityfstest.Boot(t, d), device: d, start: &start{files: d.Index(t), entries: 3}, journal: new(journal)}
		if begin != nil {
			begin(s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		w := integrity.New(integrity.Config{
			SecurityFS: s.kernel.SecurityFS(), Poll: poll, Start: s.start, Recorder: s.journal, First: s.first,
			Ran:     func(path string, sum [32]byte) { s.hand(fmt.Sprintf("%s %x", path, sum[:2])) },
			Through: func() { s.hand("through") },
			Alive:   func() { mu.Lock(); s.alive++; mu.Unlock() },
		})
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		act(s)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if s.alive == 0 {
			t.Error("the role never said that it is alive")
		}
	})
}

func (s *scene) hand(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ran) == 0 || text != s.ran[len(s.ran)-1] {
		s.ran = append(s.ran, text)
	}
}

// handed is what was handed on since the last call.
func (s *scene) handed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.ran
	s.ran = nil
	return out
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

// Verifies: SR-005
func TestUnknownProgramIsReportedWithinAPoll(t *testing.T) {
	play(t, nil, func(s *scene) {
		pass(time.Second)
		want(t, s)
		s.kernel.Measure(appraisaltest.Program("/usr/bin/pump"), appraisaltest.Program("/data/stranger"))
		measured := time.Now()
		pass(poll)
		if len(s.journal.at) != 1 || s.journal.at[0].Sub(measured) > poll {
			t.Fatalf("recorded at %v, measured at %v", s.journal.at, measured)
		}
		f := s.journal.events[0].Finding
		if digest := sha256.Sum256([]byte("/data/stranger")); f.Found != fmt.Sprintf("sha256:%x", digest) || f.Path != "/data/stranger" || *f.Index != 4 {
			t.Errorf("%+v", f)
		}
		want(t, s, "incident ima.unknown-file /data/stranger")
	})
}

// Verifies: SR-004 SR-005
func TestChangedFilesAndViolationsAreReported(t *testing.T) {
	play(t, nil, func(s *scene) {
		violation := appraisaltest.Program("/usr/bin/pump")
		violation.Violation = true
		s.kernel.Measure(
			appraisaltest.Measured{Path: "/usr/bin/pump", Digest: sha256.Sum256([]byte("other"))},
			violation,
			appraisaltest.Measured{Path: "/initramfs/pump", Digest: sha256.Sum256([]byte("/usr/bin/pump"))},
			appraisaltest.Measured{Path: "kexec-cmdline", Buffer: []byte("quiet")},
		)
		pass(poll)
		want(t, s, "incident ima.changed-file /usr/bin/pump", "incident ima.violation /usr/bin/pump")
	})
}

// Who asks what ran is told of every entry from the first on, also of those that the
// appraisal has judged, and when the list was gone through with a baseline.
//
// Verifies: SR-079
func TestWhatRanIsHandedOn(t *testing.T) {
	one := func(path string) string {
		sum := sha256.Sum256([]byte(path))
		return fmt.Sprintf("%s %x", path, sum[:2])
	}
	play(t, nil, func(s *scene) {
		if got, want := s.handed(), []string{one("/usr/sbin/wardd"), one("/usr/bin/pump"), "through"}; !slices.Equal(got, want) {
			t.Errorf("at the start %q, want %q", got, want)
		}
		violation := appraisaltest.Program("/usr/bin/pump")
		violation.Violation = true
		s.kernel.Measure(violation, appraisaltest.Measured{Path: "kexec-cmdline", Buffer: []byte("quiet")}, appraisaltest.Program("/tmp/tool"))
		pass(poll)
		if got, want := s.handed(), []string{one("/tmp/tool"), "through"}; !slices.Equal(got, want) {
			t.Errorf("then %q, want %q", got, want)
		}
	})
	var files *baseline.Index
	play(t, func(s *scene) { files = s.start.files; s.start.set(nil, 3) }, func(s *scene) {
		if got := s.handed(); slices.Contains(got, "through") {
			t.Errorf("without a baseline %q", got)
		}
		s.start.set(files, 3)
		pass(time.Minute)
		if got, want := s.handed(), []string{one("/usr/sbin/wardd"), one("/usr/bin/pump"), "through"}; !slices.Equal(got, want) {
			t.Errorf("when there is one %q, want %q", got, want)
		}
	})
	play(t, func(s *scene) { s.kernel.Remove(securityfstest.List) }, func(s *scene) {
		if got := s.handed(); !slices.Equal(got, []string{"through"}) {
			t.Errorf("without a list %q", got)
		}
	})
}

// What the appraisal of the boot has judged is not reported again.
func TestFollowsFromWhereTheAppraisalStopped(t *testing.T) {
	play(t, func(s *scene) {
		s.kernel.Measure(appraisaltest.Program("/tmp/judged"), appraisaltest.Program("/tmp/new"))
		s.start.set(s.start.files, 4)
	}, func(s *scene) {
		pass(poll)
		want(t, s, "incident ima.unknown-file /tmp/new")
	})
}

// What somebody else has told in this boot is not reported again, whatever part of
// the list is gone through.
//
// Verifies: SR-073
func TestToldByAnotherIsNotReportedAgain(t *testing.T) {
	play(t, func(s *scene) {
		s.first = func(_ context.Context, subject string, _ finding.Finding) bool { return subject != "/tmp/told" }
		s.kernel.Measure(appraisaltest.Program("/tmp/told"), appraisaltest.Program("/tmp/new"))
		s.start.set(s.start.files, 0)
	}, func(s *scene) {
		pass(poll)
		want(t, s, "incident ima.unknown-file /tmp/new")
	})
}

func TestSamePathAndContentIsReportedOnce(t *testing.T) {
	play(t, nil, func(s *scene) {
		for range 3 {
			s.kernel.Measure(appraisaltest.Program("/tmp/x"))
			pass(poll)
		}
		s.kernel.Measure(appraisaltest.Measured{Path: "/tmp/x", Digest: sha256.Sum256([]byte("other"))})
		pass(poll)
		want(t, s, "incident ima.unknown-file /tmp/x", "incident ima.unknown-file /tmp/x")
	})
}

// What is many is told one by one: bounds are set before the journal.
func TestManyStrangePrograms(t *testing.T) {
	play(t, nil, func(s *scene) {
		var many []appraisaltest.Measured
		for i := range 500 {
			many = append(many, appraisaltest.Program(fmt.Sprintf("/tmp/%03d", i)))
		}
		s.kernel.Measure(many...)
		pass(poll)
		if said := s.journal.said(); len(said) != 500 || said[499] != "incident ima.unknown-file /tmp/499" {
			t.Errorf("%d told", len(said))
		}
	})
}

// Without a baseline only violations are told, and it is said once; when one
// comes, what was passed over is judged.
//
// Verifies: SR-007
func TestNoBaseline(t *testing.T) {
	var files *baseline.Index
	play(t, func(s *scene) {
		files = s.start.files
		s.start.set(nil, 3)
	}, func(s *scene) {
		violation := appraisaltest.Program("/usr/bin/pump")
		violation.Violation = true
		s.kernel.Measure(appraisaltest.Program("/tmp/x"), violation)
		pass(time.Minute)
		want(t, s, "raised ima.not-judged ima", "incident ima.violation /usr/bin/pump")
		s.start.set(files, 3)
		pass(10 * time.Second)
		want(t, s, "cleared ima.not-judged ima", "incident ima.unknown-file /tmp/x")
	})
}

// spoiled is a file that can be read while it is verified, and not afterwards.
type spoiled struct {
	*bytes.Reader
	now bool
}

func (s *spoiled) ReadAt(p []byte, offset int64) (int, error) {
	if s.now {
		return 0, io.ErrClosedPipe
	}
	return s.Reader.ReadAt(p, offset)
}

// A baseline that cannot be read again is none; when it was loaded anew, what was
// passed over is judged.
//
// Verifies: SR-076
func TestBaselineThatIsSpoiledLater(t *testing.T) {
	var whole *baseline.Index
	play(t, func(s *scene) {
		whole = s.start.files
		file := &spoiled{Reader: bytes.NewReader(s.device.Baseline)}
		index, err := baseline.LoadIndex(file, int64(len(s.device.Baseline)), sha256.Sum256(s.device.Baseline))
		if err != nil {
			t.Fatal(err)
		}
		file.now = true
		s.start.set(index, 3)
	}, func(s *scene) {
		s.kernel.Measure(appraisaltest.Program("/tmp/x"), appraisaltest.Program("/tmp/y"))
		pass(time.Minute)
		want(t, s, "raised ima.not-judged ima")
		s.start.set(whole, 3)
		pass(10 * time.Second)
		want(t, s, "cleared ima.not-judged ima", "incident ima.unknown-file /tmp/x", "incident ima.unknown-file /tmp/y")
	})
}

// Verifies: SR-007 SR-017
func TestListAbsent(t *testing.T) {
	play(t, func(s *scene) { s.kernel.Remove("security/ima") }, func(s *scene) {
		pass(time.Minute)
		want(t, s, "raised ima.absent ima")
		s.kernel.Measure()
		s.kernel.Write(securityfstest.List, s.device.List)
		s.kernel.Measure(appraisaltest.Program("/tmp/x"))
		pass(10 * time.Second)
		want(t, s, "incident ima.unknown-file /tmp/x", "cleared ima.absent ima")
	})
}

// Verifies: SR-007 SR-017
func TestListThatBreaksOffIsFoundAndTriedAgain(t *testing.T) {
	play(t, nil, func(s *scene) {
		s.kernel.SetCount("many")
		pass(time.Second)
		want(t, s, "raised ima.unreadable ima")
		pass(time.Minute)
		want(t, s)
		s.kernel.SetCount("4")
		s.kernel.Write(securityfstest.List, append(s.device.List, appraisaltest.Program("/tmp/x").Bytes()...))
		pass(10 * time.Second)
		want(t, s, "incident ima.unknown-file /tmp/x", "cleared ima.unreadable ima")
	})
}

// A list that lost entries: which ones are new cannot be told, so all of it is
// judged.
//
// Verifies: SR-004
func TestListThatLostEntries(t *testing.T) {
	play(t, nil, func(s *scene) {
		s.kernel.Write(securityfstest.List, appraisaltest.List(appraisaltest.Program("/tmp/x")))
		s.kernel.SetCount("1")
		pass(10 * time.Second)
		want(t, s, "raised ima.unreadable ima", "incident ima.unknown-file /tmp/x", "cleared ima.unreadable ima")
	})
}

// A journal that fails does not stop the watch.
//
// Verifies: SR-017
func TestRecorderThatFails(t *testing.T) {
	play(t, func(s *scene) { s.journal.fail = errors.New("disk full") }, func(s *scene) {
		s.kernel.Measure(appraisaltest.Program("/tmp/x"))
		pass(poll)
		s.kernel.Measure(appraisaltest.Program("/tmp/y"))
		pass(poll)
		want(t, s, "incident ima.unknown-file /tmp/x", "incident ima.unknown-file /tmp/y")
	})
}

func TestStopsBeforeTheFirstAppraisal(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := integrity.New(integrity.Config{Start: never{}, Recorder: new(journal)})
	if err := w.Run(ctx); err != nil {
		t.Error(err)
	}
}

type never struct{}

func (never) Judged(ctx context.Context) (*baseline.Index, int, error) {
	<-ctx.Done()
	return nil, 0, ctx.Err()
}
