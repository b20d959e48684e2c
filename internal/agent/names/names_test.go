package names_test

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ward/internal/agent/names"
	"ward/internal/device/statefile"
)

// release names some paths.
type release map[string]bool

func (r release) Names(p string) bool { return r[p] }

func (r release) Ancestor(p string) string {
	for p != "/" && p != "." {
		if p = path.Dir(p); r[p] {
			return p
		}
	}
	return "/"
}

var files = release{"/": true, "/usr": true, "/usr/bin": true, "/usr/bin/pump": true, "/data": true}

func open(t *testing.T, state string) *names.Names {
	t.Helper()
	return names.Open(names.Config{State: state, Files: func() names.Files { return files }})
}

// Verifies: SR-089
func TestHideAndReveal(t *testing.T) {
	n := open(t, t.TempDir())
	for _, row := range []struct{ path, above string }{
		{"/data/Mustermann, Erika 1964-08-12.pdf", "/data/"},
		{"/data/deep/down/x", "/data/"},
		{"/srv/x", "/"},
		{"/usr/bin/pump2", "/usr/bin/"},
		{"/data/line\nbreak\xff", "/data/"},
		{"not a path", "/"},
	} {
		hidden := n.Hide(row.path)
		if !strings.HasPrefix(hidden, row.above+"~") || len(hidden) != len(row.above)+13 || strings.Contains(hidden, "Erika") {
			t.Errorf("%q is hidden as %q", row.path, hidden)
		}
		if again := n.Hide(hidden); again != hidden {
			t.Errorf("hidden twice it is %q, once %q", again, hidden)
		}
		for _, shown := range []string{hidden, hidden[len(row.above):], hidden[len(row.above)+1:]} {
			if clear, ok := n.Reveal(shown); !ok || clear != row.path {
				t.Errorf("%q reveals %q, want %q", shown, clear, row.path)
			}
		}
	}
	if got := n.Hide("/usr/bin/pump"); got != "/usr/bin/pump" {
		t.Errorf("a path of the release is shown as %q", got)
	}
	if got := n.Hide(""); got != "" {
		t.Errorf("nothing is shown as %q", got)
	}
	if got, ok := n.Reveal("/data/~0123456789ab"); ok {
		t.Errorf("an unknown one reveals %q", got)
	}
	if all := n.All(); len(all) != 6 || all[0].Path != "not a path" {
		t.Errorf("%+v", all)
	}
}

// Without a baseline nothing is shown.
func TestWithoutABaselineEveryPathIsHidden(t *testing.T) {
	n := names.Open(names.Config{})
	if got := n.Hide("/usr/bin/pump"); !strings.HasPrefix(got, "/~") {
		t.Errorf("shown as %q", got)
	}
}

// Another device has other hashes, the same one has the same after a restart.
//
// Verifies: SR-089
func TestSaltIsOfTheDevice(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir).Hide("/data/x")
	if again := open(t, dir).Hide("/data/x"); again != first {
		t.Errorf("after a restart %q, before %q", again, first)
	}
	if other := open(t, t.TempDir()).Hide("/data/x"); other == first {
		t.Error("two devices have one hash for a name")
	}
	info, err := os.Stat(filepath.Join(dir, names.SaltFile))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("the salt: %v %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, names.SaltFile), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	made := open(t, dir).Hide("/data/x")
	if made == first || open(t, dir).Hide("/data/x") != made {
		t.Error("a damaged salt is not made anew, once")
	}
}

func TestNamesAreKept(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	odd := "/data/a \"quoted\"\n\xff name"
	hidden := n.Hide(odd)
	start := time.Now()
	keep := func(after time.Duration) {
		t.Helper()
		if err := n.Keep(start.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	keep(0)
	if _, err := os.Stat(filepath.Join(dir, names.File)); err == nil {
		t.Error("written at once: a burst would be written name by name")
	}
	keep(10 * time.Second)
	if got, ok := open(t, dir).Reveal(hidden); !ok || got != odd {
		t.Errorf("after a restart %q, %v", got, ok)
	}
	info, err := os.Stat(filepath.Join(dir, names.File))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestDamagedTable(t *testing.T) {
	dir := t.TempDir()
	table := "0123456789ab \"/data/x\"\nnonsense\n0123456789az \"/y\"\n0123456789ac unquoted\n\n0123456789ad \"/data/z\"\n"
	if err := os.WriteFile(filepath.Join(dir, names.File), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	n := open(t, dir)
	if all := n.All(); len(all) != 2 || all[0].Path != "/data/z" || all[1].Path != "/data/x" {
		t.Errorf("%+v", all)
	}
}

// A flood of names is bounded in memory, on the disk and in what is written a day.
//
// Verifies: SR-089
func TestBounds(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	start, written := time.Now(), statefile.Written()
	for i := range 24 * 60 {
		for j := range 20 {
			n.Hide(fmt.Sprintf("/data/%d/%d/%s", i, j, strings.Repeat("x", 800)))
		}
		if err := n.Keep(start.Add(time.Duration(i) * time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if all := n.All(); len(all) > 1024 {
		t.Errorf("%d names", len(all))
	}
	info, err := os.Stat(filepath.Join(dir, names.File))
	if err != nil || info.Size() > 512<<10 {
		t.Errorf("%v bytes, %v", info.Size(), err)
	}
	if wrote := statefile.Written() - written; wrote > 128<<10+512<<10 {
		t.Errorf("%d bytes written in a day", wrote)
	}
	n.Hide("/data/" + strings.Repeat("x", 5000))
	if all := n.All(); len(all[0].Path) != 4096 {
		t.Errorf("a name of %d bytes is kept", len(all[0].Path))
	}
}

func TestConcurrentUse(t *testing.T) {
	n := open(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 500 {
				h := n.Hide(fmt.Sprint("/data/", i, j))
				n.Reveal(h)
				_ = n.Keep(time.Now())
			}
		})
	}
	wg.Wait()
}

// Whatever stands in the table, only names of the right form come out, and they are
// written as they were read.
func FuzzTable(f *testing.F) {
	f.Add([]byte("0123456789ab \"/data/x\"\n"))
	f.Add([]byte("0123456789ab \"\\xff\\n\"\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, names.File), b[:min(len(b), statefile.MaxSize)], 0o600); err != nil {
			t.Fatal(err)
		}
		n := open(t, dir)
		all := n.All()
		for _, a := range all {
			if got, ok := n.Reveal(a.Hidden); !ok || got != a.Path || len(a.Hidden) != 13 {
				t.Fatalf("%+v reveals %q", a, got)
			}
		}
		n.Hide("/one more")
		if err := n.Keep(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := n.Keep(time.Now().Add(2 * time.Hour)); err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile(filepath.Join(dir, names.File))
		if err != nil || bytes.Count(again, []byte("\n")) != len(n.All()) {
			t.Fatalf("%q, %v", again, err)
		}
	})
}

// A file that is named as if it had been hidden does not take the folders above it
// along.
//
// Verifies: SR-089
func TestAFileNamedAsHidden(t *testing.T) {
	n := names.Open(names.Config{})
	const planted = "/data/JOHN PATIENT/~0123456789ab"
	shown := n.Hide(planted)
	if strings.Contains(shown, "PATIENT") {
		t.Errorf("hidden as %q", shown)
	}
	if again := n.Hide(shown); again != shown {
		t.Errorf("what was hidden became %q", again)
	}
	if a, b := n.Mark("PATIENT"), n.Mark("PATIENT"); a != b || strings.Contains(a, "PATIENT") || a == n.Hide("PATIENT") {
		t.Errorf("marks %q and %q", a, b)
	}
}
