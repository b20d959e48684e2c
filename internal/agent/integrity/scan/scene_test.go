package scan_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/integrity/scan"
	"ward/internal/contracttest"
	"ward/internal/device/fstree"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

// journal keeps what is recorded.
type journal struct {
	mu     sync.Mutex
	events []event.Event
	at     []time.Time
}

func (j *journal) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events, j.at = append(j.events, e), append(j.at, time.Now())
	return nil
}

// said lists what was recorded since the last call.
func (j *journal) said() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, e := range j.events {
		out = append(out, say(e))
	}
	j.events, j.at = nil, nil
	return out
}

func say(e event.Event) string {
	if e.Finding == nil {
		var r scan.Report
		if err := json.Unmarshal(e.Report, &r); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("scan %s %s", r.Reason, r.Verdict)
	}
	return fmt.Sprintf("%s %s %s", strings.TrimPrefix(e.Type, "ward.finding."), e.Finding.Code, e.Subject)
}

// lease is one that a test takes.
type lease struct {
	mu      sync.Mutex
	held    bool
	changed chan struct{}
}

func newLease() *lease { return &lease{changed: make(chan struct{})} }

func (l *lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

func (l *lease) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *lease) set(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	close(l.changed)
	l.changed = make(chan struct{})
}

// plant makes files of a tree; a name that ends in "/" is a folder.
func plant(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// released makes the baseline of a tree as it stands.
func released(t testing.TB, root string, flags map[string]baseline.Flags) *baseline.Index {
	t.Helper()
	text := text(t, root, flags)
	digest, err := baseline.Digest(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	x, err := baseline.LoadIndex(bytes.NewReader(text), int64(len(text)), digest)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func text(t testing.TB, root string, flags map[string]baseline.Flags) []byte {
	t.Helper()
	walk, err := fstree.Open(root, fstree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer walk.Close()
	var out bytes.Buffer
	w, err := baseline.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for {
		n, err := walk.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && n.Type == baseline.File {
			_, err = walk.SHA256(1 << 30)
		}
		if err == nil && (n.Type == baseline.File || n.Type == baseline.Directory) {
			err = walk.Attributes()
		}
		var e baseline.Entry
		if err == nil {
			e, err = n.Entry()
			e.Flags = flags[e.Path]
		}
		if err == nil {
			err = w.Write(e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// scene is a role over a tree, with a clock that begins at the kernel's start.
type scene struct {
	t       *testing.T
	root    string
	state   string
	boot    string
	files   *baseline.Index
	policy  watch.Policy
	lease   *lease
	journal *journal
	told    map[string]bool
	begun   time.Time // of the boot
	config  func(*scan.Config)
	scanner *scan.Scanner
	stop    func()
}

func newScene(t *testing.T, files map[string]string) *scene {
	s := &scene{
		t: t, root: t.TempDir(), state: filepath.Join(t.TempDir(), "scan.json"), boot: "one", policy: watch.Default(),
		lease: newLease(), journal: new(journal), told: map[string]bool{}, begun: time.Now(),
	}
	plant(t, s.root, files)
	s.files = released(t, s.root, nil)
	return s
}

// start starts the role; stop ends it.
func (s *scene) start() {
	var mu sync.Mutex
	c := scan.Config{
		Root: s.root, State: s.state, Boot: s.boot, Now: func() time.Duration { return time.Since(s.begun) + time.Minute },
		Files:  func() *baseline.Index { return s.files },
		Policy: func() watch.Policy { return s.policy }, Lease: s.lease, Recorder: s.journal,
		Hide: func(path string) string { return path },
		First: func(_ context.Context, subject string, f finding.Finding) bool {
			mu.Lock()
			defer mu.Unlock()
			key := string(f.Code) + subject
			again := s.told[key]
			s.told[key] = true
			return !again
		},
	}
	if s.config != nil {
		s.config(&c)
	}
	s.scanner = scan.New(c)
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.scanner.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		s.stop = func() {}
	}
}

// reboot starts the role in another boot.
func (s *scene) reboot(boot string) {
	s.stop()
	s.boot, s.begun, s.told = boot, time.Now(), map[string]bool{}
	s.start()
}

func (s *scene) want(lines ...string) {
	s.t.Helper()
	if got := s.journal.said(); !slices.Equal(got, lines) {
		s.t.Errorf("recorded\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// play runs act with a role over a tree, in a bubble of time.
func play(t *testing.T, files map[string]string, begin func(*scene), act func(*scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, files)
		if begin != nil {
			begin(s)
		}
		s.start()
		defer func() { s.stop() }()
		synctest.Wait()
		act(s)
	})
}

var small = map[string]string{"bin/pump": "pump", "etc/pump.conf": "rate 50", "etc/empty": "", "lib/": ""}
