package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ward/internal/lab/board"
	"ward/internal/lab/disk"
	"ward/internal/lab/efistore"
)

func TestStepRunsOncePerInputs(t *testing.T) {
	b := &Builder{Cache: t.TempDir()}
	runs := 0
	fill := func(dir string) error {
		runs++
		return writeFile(filepath.Join(dir, "f"), []byte{byte(runs)}, 0o644)
	}
	first, err := b.step(t.Context(), "x", []string{"a", "b"}, fill)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.step(t.Context(), "x", []string{"a", "b"}, fill)
	if err != nil || again != first || runs != 1 {
		t.Errorf("second call: %s, %v, %d runs", again, err, runs)
	}
	// The boundary between inputs counts.
	other, err := b.step(t.Context(), "x", []string{"ab"}, fill)
	if err != nil || other == first || runs != 2 {
		t.Errorf("other inputs: %s, %v, %d runs", other, err, runs)
	}
}

func TestStepLeavesNothingWhenItFails(t *testing.T) {
	b := &Builder{Cache: t.TempDir()}
	broken := errors.New("broken")
	if _, err := b.step(t.Context(), "x", nil, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	left, err := os.ReadDir(b.Cache)
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.step(ctx, "x", nil, func(string) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestVariableStoreHoldsTheKeys(t *testing.T) {
	template, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		t.Skip("ovmf is not installed")
	}
	keys, err := LoadKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	same, err := LoadKeys(keys.Dir)
	if err != nil {
		t.Fatal(err)
	}
	store, err := same.VariableStore(template)
	if err != nil {
		t.Fatal(err)
	}
	vars, err := efistore.Read(store)
	if err != nil {
		t.Fatal(err)
	}
	if len(vars) != 4 {
		t.Fatalf("%d variables, want PK, KEK, db and dbx", len(vars))
	}
	for _, v := range vars {
		if v.Name == "dbx" {
			continue
		}
		der, err := keys.certDER(v.Name)
		if err != nil || !bytes.HasSuffix(v.Data, der) {
			t.Errorf("%s does not hold its certificate: %v", v.Name, err)
		}
	}
}

func TestNewestKernelField(t *testing.T) {
	control := []byte("Package: x\nVersion: 6.1.0-1\nDepends: a, linux-image-6.1.0-9-amd64 (= 6.1)\nSHA256: ab\n\nVersion: 5\n")
	if got := field(control, "Version"); got != "6.1.0-1" {
		t.Errorf("Version %q", got)
	}
	if got := field(control, "Missing"); got != "" {
		t.Errorf("Missing %q", got)
	}
}

func TestStage(t *testing.T) {
	root := t.TempDir()
	err := stage(root, map[string]node{
		"/usr/bin":    {mode: os.ModeDir | 0o755},
		"/bin":        {link: "usr/bin"},
		"/usr/bin/sh": {link: "gosh"},
		"/tmp":        {mode: os.ModeDir | 0o700},
		"/etc/x":      {mode: 0o640, file: disk.File{Data: []byte("x")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{"tmp": 0o700, "etc/x": 0o640, "usr/bin": 0o755} {
		st, err := os.Stat(filepath.Join(root, path))
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %o", path, st, err, want)
		}
	}
	if to, err := os.Readlink(filepath.Join(root, "bin")); err != nil || to != "usr/bin" {
		t.Errorf("bin -> %q, %v", to, err)
	}
}

func TestBoardPartitionsLayOut(t *testing.T) {
	brd, err := board.Load("../../../board/qemu-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	parts, size, err := partitions(brd)
	if err != nil {
		t.Fatal(err)
	}
	img := &Image{Board: brd}
	esp, err := img.partitionOffset(board.UseESP)
	if err != nil || esp != parts[0].Start || size <= parts[len(parts)-1].Start {
		t.Errorf("ESP at %d, disk of %d bytes, %v", esp, size, err)
	}
}

func TestPruneKeepsWhatIsNewOrUsed(t *testing.T) {
	b := &Builder{Cache: t.TempDir()}
	var dirs []string
	for i := range pruneKeep + 3 {
		dir, err := b.step(t.Context(), "uki", []string{string(rune('a' + i))}, func(string) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	old := time.Now().Add(-2 * pruneAge)
	for i, dir := range dirs[:4] { // the first is the oldest
		at := old.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(dir, at, at); err != nil {
			t.Fatal(err)
		}
	}
	// Using the oldest makes it the newest.
	if _, err := b.step(t.Context(), "uki", []string{"a"}, nil); err != nil {
		t.Fatal(err)
	}
	other, err := b.step(t.Context(), "kernel-package", nil, func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	b.prune()
	for i, dir := range append(dirs, other) {
		_, err := os.Stat(dir)
		if gone := i >= 1 && i <= 3; gone != (err != nil) {
			t.Errorf("result %d: %v; want gone %v", i, err, gone)
		}
	}
}
