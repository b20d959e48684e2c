package stranger_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"ward/internal/lab/stranger"
)

func TestStrangerRuns(t *testing.T) {
	if runtime.GOARCH != "amd64" || runtime.GOOS != "linux" {
		t.Skip("the stranger is an x86-64 Linux program")
	}
	a, err := stranger.New()
	if err != nil {
		t.Fatal(err)
	}
	b, err := stranger.New()
	if err != nil {
		t.Fatal(err)
	}
	if string(a) == string(b) {
		t.Fatal("two strangers are the same: the kernel would measure only the first")
	}
	file := filepath.Join(t.TempDir(), "stranger")
	if err := os.WriteFile(file, a, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(file).CombinedOutput()
	if err != nil || string(out) != stranger.Message {
		t.Fatalf("stranger printed %q, error %v; want %q", out, err, stranger.Message)
	}
}
