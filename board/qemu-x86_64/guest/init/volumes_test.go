package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/trust/volume"
)

// A volume counts as open only where the report says so, in its last line.
//
// Verifies: SR-041
func TestOnlyOpenedVolumesAreMounted(t *testing.T) {
	r := reportFile(filepath.Join(t.TempDir(), "volumes"))
	if err := r.opened(volume.Data); err == nil {
		t.Error("without a report it counts as open")
	}
	if err := os.WriteFile(string(r), volume.Outcome{Name: volume.Data, Opened: true}.Line(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.opened(volume.Data); err != nil {
		t.Error(err)
	}
	if err := r.opened(volume.State); err == nil {
		t.Error("a volume that is not in the report counts as open")
	}
	why := errors.New("no superblock")
	if got := r.closed(volume.Data, volume.Mapping, why); got != why {
		t.Errorf("error %v", got)
	}
	if err := r.opened(volume.Data); err == nil || !strings.Contains(err.Error(), "mapping") {
		t.Errorf("behind a failed mount: %v", err)
	}
	if err := os.WriteFile(string(r), []byte(`{"name":"data","opened":true}{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.opened(volume.Data); err == nil {
		t.Error("with a damaged report it counts as open")
	}
}

// The programs get their input and the boot goes on without one that hangs.
//
// Verifies: SR-041
func TestRunProgram(t *testing.T) {
	out, err := runProgram(t.Context(), []byte("a key\x00"), "/bin/cat")
	if err != nil || !bytes.Equal(out, []byte("a key\x00")) {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := runProgram(t.Context(), nil, "/bin/sh", "-c", "echo refused >&2; exit 1"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := runProgram(ctx, nil, "/bin/sleep", "1000"); err == nil || !strings.Contains(err.Error(), "no end") {
		t.Errorf("error %v", err)
	}
	if _, err := runProgram(t.Context(), nil, "/none"); err == nil {
		t.Error("a program that is not there: no error")
	}
}
