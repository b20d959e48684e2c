package privileged

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"ward/internal/trust/posture"
)

// A walk finds what has privileges, in order, and leaves the kernel's file systems out.
//
// Verifies: SR-097
func TestWalk(t *testing.T) {
	root := fstest.MapFS{
		"usr/bin/su": {Mode: 0o755 | fs.ModeSetuid}, "usr/bin/wall": {Mode: 0o755 | fs.ModeSetgid}, "usr/bin/cat": {Mode: 0o755},
		"tmp/open": {Mode: 0o777}, "tmp/notes": {Mode: 0o666}, "tmp/both": {Mode: 0o777 | fs.ModeSetuid}, "a": {Mode: 0o4755 &^ 0o4000},
		"proc/1/exe": {Mode: 0o777}, "sys/x": {Mode: 0o777}, "dev/x": {Mode: 0o777}, "tmp/fifo": {Mode: 0o777 | fs.ModeNamedPipe}, "tmp/link": {Mode: 0o777 | fs.ModeSymlink, Data: []byte("open")},
	}
	paths := func(list []File) (out []string) {
		for _, f := range list {
			out = append(out, f.Path)
		}
		return out
	}
	got, err := Walk(root)
	if err != nil || !slices.Equal(paths(got.Setuid), []string{"/tmp/both", "/usr/bin/su", "/usr/bin/wall"}) || !slices.Equal(paths(got.Writable), []string{"/tmp/both", "/tmp/open"}) {
		t.Errorf("%v, %v, %v", paths(got.Setuid), paths(got.Writable), err)
	}
	if _, err := Walk(locked{root}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a folder that cannot be read: %v", err)
	}
}

// locked refuses one folder.
type locked struct{ fstest.MapFS }

func (l locked) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == "tmp" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return fs.ReadDir(l.MapFS, name)
}

// A flood of such files is bounded.
func TestAddIsBounded(t *testing.T) {
	root := fstest.MapFS{"x": {Mode: 0o4777&0o777 | fs.ModeSetuid}}
	info, err := fs.Stat(root, "x")
	if err != nil {
		t.Fatal(err)
	}
	var f Files
	for i := range 5 * posture.MaxValues {
		f.Add(fmt.Sprintf("/%d", i), info)
	}
	if len(f.Setuid) != 2*posture.MaxValues || len(f.Writable) != 2*posture.MaxValues {
		t.Errorf("%d and %d files", len(f.Setuid), len(f.Writable))
	}
}
