package doctest

import (
	"os"
	"path/filepath"
	"testing"
)

// record is a testing.TB that notes a failure instead of reporting it.
type record struct {
	testing.TB
	failed bool
}

func (r *record) Helper()               {}
func (r *record) Errorf(string, ...any) { r.failed = true }
func (r *record) Fatalf(string, ...any) { r.failed = true }

func TestOldDocumentFails(t *testing.T) {
	t.Setenv("WARD_DOCS", "")
	file := filepath.Join(t.TempDir(), "X.md")
	if err := os.WriteFile(file, []byte("as the code was\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for text, failed := range map[string]bool{"as the code was\n": false, "as the code is\n": true} {
		r := &record{TB: t}
		Current(r, file, text)
		if r.failed != failed {
			t.Errorf("text %q: failed %v, want %v", text, r.failed, failed)
		}
	}
}

func TestMissingDocumentFails(t *testing.T) {
	t.Setenv("WARD_DOCS", "")
	r := &record{TB: t}
	Current(r, filepath.Join(t.TempDir(), "none.md"), "text")
	if !r.failed {
		t.Error("a document that is not there passed")
	}
}
