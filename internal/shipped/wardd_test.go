package shipped

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxSize is the size budget of the stripped daemon, in bytes.
const maxSize = 10 << 20

// Verifies: SR-024
func TestTwoBuildsGiveTheSameBytes(t *testing.T) {
	first := build(t, t.TempDir(), "")
	second := build(t, filepath.Join(t.TempDir(), "elsewhere", "deeper"), t.TempDir())
	if !bytes.Equal(first, second) {
		t.Errorf("wardd built in another folder with an empty cache differs (%d and %d bytes)", len(first), len(second))
	}
	if len(first) > maxSize {
		t.Errorf("wardd has %d bytes, at most %d", len(first), maxSize)
	}
	binary, err := elf.NewFile(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("wardd has a %v header: it is not static", p.Type)
		}
	}
	if binary.Section(".symtab") != nil || binary.Section(".debug_info") != nil {
		t.Error("wardd is not stripped")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(first, []byte(root+"/")) {
		t.Error("wardd holds the path of the folder that it was built in")
	}
	t.Logf("wardd: %d bytes", len(first))
}

// build copies the daemon's source to dir and builds it there as make build
// does. An empty cache is the name of the build cache in use.
func build(t *testing.T, dir, cache string) []byte {
	t.Helper()
	for _, name := range []string{"Makefile", "go.mod", "go.sum", "cmd/wardd", "internal"} {
		copyTree(t, filepath.Join("../..", name), filepath.Join(dir, name))
	}
	cmd := exec.Command("make", "-s", "-C", dir, "build", "PROGRAMS=wardd")
	cmd.Env = os.Environ()
	if cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+cache)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v: %s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "bin", "wardd"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// copyTree copies a file or folder, but for tests and their data.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir() && d.Name() == "testdata":
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case strings.HasSuffix(name, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
