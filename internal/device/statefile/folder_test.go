package statefile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ward/internal/device/statefile"
)

func openFolder(t *testing.T, dir string) *statefile.Folder {
	t.Helper()
	f, err := statefile.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Verifies: SR-009
func TestFolderReplacesWholeFiles(t *testing.T) {
	dir := t.TempDir()
	f := openFolder(t, dir)
	var steps []string
	f.Step = func(s string) { steps = append(steps, s) }
	check(t, f.Make("a/b"))
	check(t, f.Write("a/b/c", []byte("one"), 0o640))
	check(t, f.Write("a/b/c", []byte("two"), 0o644))
	if b, err := f.Read("a/b/c", 3); err != nil || string(b) != "two" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := f.Read("a/b/c", 2); !errors.Is(err, statefile.ErrIrregular) {
		t.Errorf("longer than its bound: %v", err)
	}
	if _, err := f.Read("a/b/d", 2); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "a/b/c")); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	check(t, f.Move("a/b", "a/d"))
	if entries, err := f.List("a", 10); err != nil || len(entries) != 1 || entries[0].Name() != "d" {
		t.Errorf("list %v, %v", entries, err)
	}
	if entries, err := f.List("none", 10); err != nil || len(entries) != 0 {
		t.Errorf("list of none %v, %v", entries, err)
	}
	check(t, f.Write("a/x", nil, 0o600))
	if _, err := f.List("a", 1); !errors.Is(err, statefile.ErrIrregular) {
		t.Errorf("more entries than the bound: %v", err)
	}
	want := []string{"make folder a", "make folder a/b", "make a/b/c", "fill a/b/c", "rename a/b/c"}
	if !slices.Equal(steps[:5], want) {
		t.Errorf("steps %q, want %q", steps[:5], want)
	}
	if err := f.Write("a/big", make([]byte, statefile.MaxSize+1), 0o600); err == nil {
		t.Error("more than the bound is written")
	}
}

// Who owns the folder cannot have root read or write elsewhere.
//
// Verifies: SR-047
func TestFolderFollowsNoLink(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	check(t, os.WriteFile(secret, []byte("not Ward's"), 0o600))
	traps := map[string]func(dir string) error{
		"a link for the file":                  func(dir string) error { return os.Symlink(secret, filepath.Join(dir, "in/file")) },
		"a link for the temporary file":        func(dir string) error { return os.Symlink(secret, filepath.Join(dir, "in/file.new")) },
		"a second name for the temporary file": func(dir string) error { return os.Link(secret, filepath.Join(dir, "in/file.new")) },
		"a link for the folder": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "in")), os.Symlink(outside, filepath.Join(dir, "in")))
		},
		"a link within the folder": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "other"), 0o700), os.Remove(filepath.Join(dir, "in")), os.Symlink("other", filepath.Join(dir, "in")))
		},
		"a pipe": func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "in/file"), 0o600) },
	}
	for name, trap := range traps {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			check(t, os.Mkdir(filepath.Join(dir, "in"), 0o700))
			check(t, trap(dir))
			f := openFolder(t, dir)
			if b, err := f.Read("in/file", 100); err == nil {
				t.Errorf("read %q", b)
			}
			_ = f.Write("in/file", []byte("written"), 0o600) // over a trap, or refused
			_ = f.Make("in/deeper")
			check(t, f.Erase("in"))
			if b, err := os.ReadFile(secret); err != nil || string(b) != "not Ward's" {
				t.Errorf("the file outside holds %q, %v", b, err)
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
				t.Errorf("outside lie %v, %v", entries, err)
			}
		})
	}
	for _, name := range []string{"../x", "/etc/x", "a/../../x"} {
		f := openFolder(t, t.TempDir())
		if err := f.Write(name, nil, 0o600); err == nil {
			t.Errorf("%s is written", name)
		}
		if _, err := f.Read(name, 1); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// Verifies: SR-049
func TestErase(t *testing.T) {
	dir := t.TempDir()
	f := openFolder(t, dir)
	deep := strings.Repeat("d/", 10) + "d"
	check(t, f.Make(deep))
	content := bytes.Repeat([]byte("planted"), 100_000)
	check(t, f.Write(deep+"/file", content, 0o600))
	open, err := os.Open(filepath.Join(dir, deep, "file"))
	check(t, err)
	defer open.Close()
	for i := range 1500 { // more than one look at the folder
		check(t, os.WriteFile(filepath.Join(dir, "d", strings.Repeat("n", i%200+1)+string(rune('a'+i/200))), nil, 0o600))
	}
	check(t, f.Erase("d"))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	b := make([]byte, len(content))
	if n, _ := open.ReadAt(b, 0); n != len(content) || bytes.Contains(b, []byte("planted")) {
		t.Errorf("%d bytes, not written over", n)
	}
	check(t, f.Erase("d"))
	check(t, f.Make(strings.Repeat("e/", 20)+"e"))
	if err := f.Erase("e"); err == nil {
		t.Error("deeper than the bound is erased")
	}
}
