package files_test

import (
	"os"
	"path/filepath"
	"testing"

	"ward/internal/fleet/files"
)

func TestReplaceAndRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "state")
	for _, text := range []string{"old content", "new"} {
		if err := files.Replace(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := files.Read(name, int64(len(text))); err != nil || string(got) != text {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := files.Read(name, int64(len(text))-1); err == nil {
			t.Errorf("%d bytes were read with a bound below", len(text))
		}
	}
	left, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(left) != 1 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	if err := files.Replace(filepath.Join(name, "below a file"), nil); err == nil {
		t.Error("written below a file")
	}
	if err := os.Mkdir(name+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := files.Replace(name, []byte("x")); err == nil {
		t.Error("written where the file aside cannot be")
	}
	if got, err := files.Read(name, 10); err != nil || string(got) != "new" {
		t.Errorf("after a failure: %q, %v", got, err)
	}
}
