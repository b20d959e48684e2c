package network

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFirstCard(t *testing.T) {
	class := t.TempDir()
	if err := os.MkdirAll(filepath.Join(class, "lo"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := firstCard(class); err == nil {
		t.Error("loopback alone: no error")
	}
	if err := os.MkdirAll(filepath.Join(class, "eth0", "device"), 0o755); err != nil {
		t.Fatal(err)
	}
	if card, err := firstCard(class); err != nil || card != "eth0" {
		t.Errorf("got %q, %v", card, err)
	}
}
