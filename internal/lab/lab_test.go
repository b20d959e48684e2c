package lab

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ward/internal/lab/works"
)

func TestModuleRoot(t *testing.T) {
	want, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{".", "..", "../..", "image"} {
		if got, err := works.ModuleRoot(dir); err != nil || got != want {
			t.Errorf("from %s: %q, %v; want %q", dir, got, err, want)
		}
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "go.mod"), []byte("module other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := works.ModuleRoot(other); err == nil || !strings.Contains(err.Error(), "run it in a clone") {
		t.Errorf("of another module: %q, %v", got, err)
	}
}

func TestDrillsHaveNames(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]bool{}
	for _, d := range Drills() {
		if !name.MatchString(d.Name) || d.Title == "" || d.Run == nil || seen[d.Name] {
			t.Errorf("drill %q, %q", d.Name, d.Title)
		}
		seen[d.Name] = true
		if got, ok := drillByName(d.Name); !ok || got.Title != d.Title {
			t.Errorf("%s is not found by its name", d.Name)
		}
	}
	if _, ok := drillByName("nonsense"); ok {
		t.Error("a drill that is not there is found")
	}
}
