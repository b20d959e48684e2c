package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// pitfalls is how many docs/attestation.md lists.
const pitfalls = 15

// Each pitfall of docs/attestation.md has a test that names it.
func TestPitfallsHaveTests(t *testing.T) {
	name := regexp.MustCompile(`(?m)^func TestPitfall(\d+)[A-Z]`)
	found := make(map[int]bool)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range name.FindAllSubmatch(b, -1) {
			n, _ := strconv.Atoi(string(m[1]))
			found[n] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= pitfalls; n++ {
		if !found[n] {
			t.Errorf("pitfall %d of docs/attestation.md has no test named TestPitfall%d", n, n)
		}
		delete(found, n)
	}
	for n := range found {
		t.Errorf("a test names pitfall %d, which docs/attestation.md does not list", n)
	}
}
