package statefile_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/device/statefile"
)

// A write that fails at any of its steps leaves the old content, whole.
//
// Verifies: SR-017
func TestEachFailedStepLeavesTheOldContent(t *testing.T) {
	failures := map[string]struct {
		arrange func(t *testing.T, path string)
		content []byte
	}{
		"the disk is full": {func(t *testing.T, path string) {
			if _, err := os.Stat("/dev/full"); err != nil {
				t.Skip(err)
			}
			if err := os.Symlink("/dev/full", path+".new"); err != nil {
				t.Fatal(err)
			}
		}, []byte("new")},
		"the temporary file cannot be made": {func(t *testing.T, path string) {
			if err := os.Mkdir(path+".new", 0o700); err != nil {
				t.Fatal(err)
			}
		}, []byte("new")},
		"more than the bound": {func(*testing.T, string) {}, make([]byte, statefile.MaxSize+1)},
	}
	for name, f := range failures {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := statefile.Write(path, []byte("old")); err != nil {
				t.Fatal(err)
			}
			f.arrange(t, path)
			if err := statefile.Write(path, f.content); err == nil {
				t.Error("the write counts as good")
			}
			if b, err := statefile.Read(path); err != nil || string(b) != "old" {
				t.Errorf("read %q, %v; want the old content", b, err)
			}
		})
	}
	t.Run("the rename fails", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.MkdirAll(filepath.Join(path, "kept"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := statefile.Write(path, []byte("new")); err == nil {
			t.Error("the write counts as good")
		}
		if _, err := os.Stat(filepath.Join(path, "kept")); err != nil {
			t.Errorf("what stood there is gone: %v", err)
		}
	})
}

// A file far beyond the bound is refused without being read into memory.
func TestLargestContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	largest := bytes.Repeat([]byte{'x'}, statefile.MaxSize)
	if err := statefile.Write(path, largest); err != nil {
		t.Fatal(err)
	}
	if b, err := statefile.Read(path); err != nil || !bytes.Equal(b, largest) {
		t.Errorf("%d bytes, %v; want the largest content", len(b), err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Skip(err)
	}
	if b, err := statefile.Read(path); err == nil || b != nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("%d bytes, %v; want an error with the bound", len(b), err)
	}
	if _, err := statefile.Read(filepath.Dir(path)); err == nil {
		t.Error("a folder is read")
	}
}
