package self

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/contracttest"
	"ward/internal/device/process"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
)

// told keeps what is recorded: kind, code, path and detail of each finding.
type told []string

func (r *told) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	_, kind, _ := strings.Cut(e.Type, "ward.finding.")
	line := kind + " " + string(e.Finding.Code)
	if e.Finding.Path != "" {
		line += " " + e.Finding.Path
	}
	*r = append(*r, line+": "+e.Finding.Detail)
	return nil
}

// took returns what was recorded since the last call.
func (r *told) took() []string {
	all := *r
	*r = nil
	return all
}

func (r *told) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := r.took(); !slices.Equal(got, want) {
		t.Errorf("%s: told\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// released is a release with some files.
type released struct{ files *baseline.Index }

func (r released) Judged(context.Context) (*baseline.Index, int, error) { return r.files, 0, nil }

func release(t *testing.T, files map[string]string) released {
	t.Helper()
	var text bytes.Buffer
	w, err := baseline.NewWriter(&text)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for path := range files {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, baseline.ComparePaths)
	for _, path := range paths {
		if err := w.Write(baseline.Entry{Path: path, Type: baseline.File, Mode: 0o755, Size: int64(len(files[path])), SHA256: sha256.Sum256([]byte(files[path]))}); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	x, err := baseline.LoadIndex(bytes.NewReader(text.Bytes()), int64(text.Len()), sum)
	if err != nil {
		t.Fatal(err)
	}
	return released{x}
}

func hide(string) string { return "/~hidden" }

// Verifies: SR-108
func TestFilesThatSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	config, unit, manifest := filepath.Join(dir, "wardd.toml"), filepath.Join(dir, "wardd.service"), filepath.Join(dir, "release.dsse")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(config, "as released")
	write(manifest, "signed 1")
	var r told
	s := New(Config{
		Release: release(t, map[string]string{config: "as released"}), Recorder: &r, Hide: hide,
		Files: []File{{Path: config}, {Path: unit}, {Path: manifest, Genuine: func(b []byte) bool { return bytes.HasPrefix(b, []byte("signed")) }}},
	})
	look := func() {
		for _, f := range s.c.Files {
			files, _, _ := s.c.Release.Judged(t.Context())
			s.file(t.Context(), files, f)
		}
	}
	look()
	r.expect(t, "as it was at the start")
	write(config, "changed")
	write(unit, "dropped in")
	write(manifest, "signed 2")
	look()
	r.expect(t, "changed, added, and an update's",
		"raised self.config-changed "+config+": the release has another content", "raised self.config-changed "+unit+": it was not there at the start")
	look()
	r.expect(t, "told once")
	write(manifest, "anybody's")
	write(config, "as released")
	if err := os.Remove(unit); err != nil {
		t.Fatal(err)
	}
	look()
	r.expect(t, "put back, and an unsigned manifest",
		"cleared self.config-changed "+config+": it is as it should be again", "cleared self.config-changed "+unit+": it is as it should be again",
		"raised self.config-changed "+manifest+": it was changed since the start")
	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	write(config, "as released, in part")
	s.c.Release = released{}
	look()
	r.expect(t, "removed, and without a release",
		"raised self.config-changed "+config+": it was changed since the start", "raised self.config-changed "+manifest+": it was removed since the start")

	write(config, "another than the release's from the start on")
	s = New(Config{Release: release(t, map[string]string{config: "as released"}), Recorder: &r, Files: []File{{Path: config}}})
	look()
	r.expect(t, "another than the release's", "raised self.config-changed "+config+": the release has another content")
}

// Verifies: SR-108
func TestProgramAndItsMemory(t *testing.T) {
	const path = "/usr/sbin/wardd"
	var r told
	s := New(Config{Recorder: &r, Hide: hide})
	files := release(t, map[string]string{path: "wardd"}).files
	good := process.State{Path: path, Sum: sha256.Sum256([]byte("wardd"))}
	look := func(change func(*process.State)) {
		now := good
		change(&now)
		s.program(t.Context(), files, now)
	}
	look(func(*process.State) {})
	r.expect(t, "as released")
	look(func(s *process.State) { s.Sum[0] ^= 1 })
	r.expect(t, "another content", "raised self.executable-changed: /usr/sbin/wardd is changed content in the release")
	look(func(s *process.State) { s.Path, s.Gone = "/tmp/John Doe/wardd", true })
	r.expect(t, "run from elsewhere, and gone",
		"raised self.executable-changed: /~hidden is known content at another path in the release; the file was removed, or another lies in its place")
	look(func(s *process.State) {
		s.Strange, s.Written = []string{"[uprobes]", "/tmp/John Doe/lib.so", "memory without a name"}, 8
	})
	r.expect(t, "code from elsewhere", "cleared self.executable-changed: it is as it should be again",
		"raised self.mapping-unexpected: [uprobes], /~hidden, memory without a name", "raised self.text-changed: 8 KiB are not the file's")
	look(func(s *process.State) { s.Strange, s.Written = slices.Repeat([]string{"[uprobes]"}, 20), 8 })
	r.expect(t, "much of it", "raised self.mapping-unexpected: "+strings.Repeat("[uprobes], ", 8)+"and 12 more")
	look(func(*process.State) {})
	r.expect(t, "mended", "cleared self.mapping-unexpected: it is as it should be again", "cleared self.text-changed: it is as it should be again")
	s.program(t.Context(), nil, process.State{Path: "/tmp/wardd"})
	r.expect(t, "without a release nothing is compared")
}

// What cannot be read is no pass.
//
// Verifies: SR-108
func TestProcessThatCannotBeRead(t *testing.T) {
	var r told
	s := New(Config{Recorder: &r, Release: released{}})
	s.see = func() (process.State, error) {
		return process.State{}, errors.New("open own executable: permission denied")
	}
	s.look(t.Context())
	r.expect(t, "unreadable", "raised self.unreadable: open own executable: permission denied")
	s.see = func() (process.State, error) { return process.State{}, nil }
	s.look(t.Context())
	r.expect(t, "readable again", "cleared self.unreadable: it is as it should be again")
}

// Verifies: SR-108
func TestHaltsAndTracers(t *testing.T) {
	var r told
	s := New(Config{Recorder: &r, Release: released{}})
	s.see = func() (process.State, error) { return process.State{}, nil }
	begun := time.Now()
	s.last = begun
	ctx := t.Context()
	s.tick(ctx, begun.Add(time.Second), false, 0, true)
	s.tick(ctx, begun.Add(11*time.Second), false, 0, true)
	r.expect(t, "a tick that came late by nine seconds")
	s.tick(ctx, begun.Add(31*time.Second), true, 0, true)
	r.expect(t, "halted", "incident self.starved: it was halted by a signal for 20 s")
	s.tick(ctx, begun.Add(42*time.Second), false, 0, true)
	r.expect(t, "starved", "incident self.starved: it got no processor for 11 s")
	looked := s.looked
	s.tick(ctx, begun.Add(43*time.Second), false, 4711, false)
	r.expect(t, "traced", "raised self.traced: a process traces it")
	if s.looked != looked {
		t.Error("it looked before the boot was judged")
	}
	s.tick(ctx, begun.Add(44*time.Second), false, 4711, true)
	if want := begun.Add(44 * time.Second); s.looked != want {
		t.Errorf("the tracer led to no look once the boot was judged: %s", s.looked.Sub(begun))
	}
	s.tick(ctx, begun.Add(45*time.Second), false, 0, true)
	r.expect(t, "let go", "cleared self.traced: it is as it should be again")
	s.tick(ctx, begun.Add(46*time.Second), false, 0, true)
	if want := begun.Add(45 * time.Second); s.looked != want {
		t.Errorf("it looked again at once: %s", s.looked.Sub(begun))
	}
}

// A daemon that was ended without a farewell is told to the next one in the same
// boot, and to none in another.
//
// Verifies: SR-108
func TestLives(t *testing.T) {
	state := t.TempDir()
	begin := func(boot string, want bool) {
		t.Helper()
		if killed, err := Begin(state, boot); err != nil || killed != want {
			t.Errorf("boot %s: killed %v, %v", boot, killed, err)
		}
	}
	begin("one", false)
	begin("one", true)
	begin("one", true)
	begin("two", false)
	if err := End(state); err != nil {
		t.Error(err)
	}
	if err := End(state); err != nil {
		t.Error(err)
	}
	begin("two", false)
	if err := os.WriteFile(filepath.Join(state, runningFile), []byte("\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	begin("two", false)
	if killed, err := Begin(filepath.Join(state, "none"), "two"); err == nil || killed {
		t.Errorf("without a state folder: %v, %v", killed, err)
	}
}
