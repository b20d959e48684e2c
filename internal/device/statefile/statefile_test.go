package statefile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"ward/internal/device/statefile"
)

// Verifies: SR-009
func TestWriteReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if _, err := statefile.Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a file that is not there gives %v", err)
	}
	// A power cut left an unfinished file of an earlier write.
	if err := os.WriteFile(path+".new", []byte("half of something longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"one", "", "three"} {
		if err := statefile.Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := statefile.Read(path)
		if err != nil || string(got) != content {
			t.Fatalf("read %q, error %v; want %q", got, err, content)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("the folder holds %v, error %v; want the file alone", names, err)
	}
}

func TestAWriteThatFailsLeavesTheOldContent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := statefile.Write(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	if err := statefile.Write(path, []byte("new")); err == nil {
		t.Fatal("a write that cannot make its temporary file gives no error")
	}
	if got, err := statefile.Read(path); err != nil || string(got) != "old" {
		t.Errorf("read %q, error %v; want the old content", got, err)
	}
}

func TestBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	big := bytes.Repeat([]byte("x"), statefile.MaxSize+1)
	if err := statefile.Write(path, big); err == nil {
		t.Error("more than the bound is written")
	}
	if err := os.WriteFile(path, big, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := statefile.Read(path); err == nil {
		t.Error("more than the bound is read")
	}
	if err := statefile.Write(filepath.Join(t.TempDir(), "none", "state"), nil); err == nil {
		t.Error("a folder that is not there gives no error")
	}
}

// Verifies: SR-059
func TestWrittenBytesAreCounted(t *testing.T) {
	before := statefile.Written()
	for range 3 {
		if err := statefile.Write(filepath.Join(t.TempDir(), "f"), make([]byte, 700)); err != nil {
			t.Fatal(err)
		}
	}
	if n := statefile.Written() - before; n != 2100 {
		t.Errorf("%d bytes are counted, want 2100", n)
	}
}
