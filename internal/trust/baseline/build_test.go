package baseline_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"ward/internal/trust/baseline"
)

// Verifies: SR-027
func TestBuildGolden(t *testing.T) {
	tree := fstest.MapFS{
		"usr":                            {Mode: fs.ModeDir | 0o755},
		"usr/bin/pump":                   {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
		"usr/bin/passwd":                 {Data: []byte("\x7fELF.."), Mode: fs.ModeSetuid | 0o755},
		"usr/lib/libc.so.6":              {Data: []byte("\x7fELF\x02"), Mode: 0o644},
		"usr/lib/modules/6/nvme.ko.xz":   {Data: []byte("\xfd7zXZ"), Mode: 0o644},
		"usr/lib/modules/6/modules.dep":  {Data: []byte("nvme:\n"), Mode: 0o644},
		"usr/lib/ward/baseline":          {Data: []byte("an older one"), Mode: 0o644},
		"usr/lib/ward/trust/release.pem": {Data: []byte("key"), Mode: 0o644},
		"etc/ward/wardd.toml":            {Data: []byte("version = 1\n"), Mode: 0o600},
		"etc/hostname":                   {Data: []byte("pump\n"), Mode: 0o644},
		"lib":                            {Data: []byte("usr/lib"), Mode: fs.ModeSymlink | 0o777},
		"var/lib/ward":                   {Mode: fs.ModeDir | 0o755},
		"var/lib/warden":                 {Mode: fs.ModeDir | 0o755},
		"tmp":                            {Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		"dev/null":                       {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666},
		"with space\n":                   {Data: nil, Mode: 0o644},
	}
	owners, err := baseline.ParseOwners(strings.NewReader(`# path uid gid mode
/etc 0 4
/etc/ward/wardd.toml 0 900 0640
/var/lib/ward 900 901
`))
	if err != nil {
		t.Fatal(err)
	}
	o := baseline.Options{
		Owners:  owners,
		Exclude: []string{"/usr/lib/ward/baseline", "/usr/lib/ward/trust"},
		Marks:   map[string]baseline.Flags{"/etc": baseline.Config, "/etc/hostname": baseline.Mutable},
		Device:  func(fs.FileInfo) (baseline.Device, error) { return baseline.Device{Major: 1, Minor: 3}, nil },
	}
	var first, second bytes.Buffer
	sum, err := baseline.Build(&first, tree, o)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "tree.baseline", first.Bytes())
	if sum.Entries != bytes.Count(first.Bytes(), []byte("\n"))-1 || sum.Files != 8 || sum.Bytes != 49 {
		t.Errorf("summary %+v", sum)
	}
	if _, err := baseline.LoadIndex(bytes.NewReader(first.Bytes()), sum.Digest); err != nil {
		t.Error(err)
	}
	if _, err := baseline.Build(&second, tree, o); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("a second build differs: %v", err)
	}
}

// Verifies: SR-027
func TestBuildOfAFolder(t *testing.T) {
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), 20000) // beyond one buffer
	for name, data := range map[string][]byte{"big": big, "exact": big[:128<<10], "empty": nil, "odd ä\\\nname": []byte("x")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("big", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := baseline.Build(&b, os.DirFS(dir), baseline.Options{}); err != nil {
		t.Fatal(err)
	}
	entries, err := read(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, string(e.Type)+e.Path)
		if e.UID != 0 || e.GID != 0 {
			t.Errorf("%s belongs to %d:%d", e.Path, e.UID, e.GID)
		}
		if e.Path == "/big" && (e.Size != int64(len(big)) || e.SHA256 != sum(big)) {
			t.Errorf("/big: %d bytes, %x", e.Size, e.SHA256)
		}
		if e.Path == "/exact" && e.SHA256 != sum(big[:128<<10]) {
			t.Errorf("/exact: %x", e.SHA256)
		}
		if e.Path == "/link" && e.Link != "big" {
			t.Errorf("/link: %q", e.Link)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "odd \xff"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := baseline.Build(io.Discard, os.DirFS(dir), baseline.Options{}); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("a name that is not UTF-8: %v", err)
	}
	if want := "d/ f/big f/empty f/exact l/link f/odd ä\\\nname p/pipe"; strings.Join(got, " ") != want {
		t.Errorf("entries %q, want %q", got, want)
	}
}

func sum(b []byte) [32]byte {
	d, _ := baseline.Digest(bytes.NewReader(b))
	return d
}

func TestBuildRefuses(t *testing.T) {
	tree := fstest.MapFS{"a": {Mode: 0o644}, "dev/null": {Mode: fs.ModeDevice | fs.ModeCharDevice}}
	for name, o := range map[string]baseline.Options{
		"devices without a reader": {},
		"relative exclusion":       {Exclude: []string{"a"}},
		"relative mark":            {Marks: map[string]baseline.Flags{"a/": baseline.Config}},
	} {
		if _, err := baseline.Build(io.Discard, tree, o); err == nil {
			t.Errorf("%s: built", name)
		}
	}
	if _, err := baseline.Build(io.Discard, unreadable{tree}, baseline.Options{Exclude: []string{"/dev"}}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "/a") {
		t.Errorf("unreadable file: %v", err)
	}
}

// unreadable is a tree in which no file can be opened.
type unreadable struct{ fstest.MapFS }

func (u unreadable) Open(name string) (fs.File, error) {
	if f, err := u.MapFS.Stat(name); err == nil && f.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return u.MapFS.Open(name)
}

func TestParseOwnersRefuses(t *testing.T) {
	for _, text := range []string{"/a 1\n", "/a 1 2 3 4\n", "a 1 2\n", "/a x 2\n", "/a 1 -2\n", "/a 1 2 9\n", "/a 1 2 17777\n", "/a 1 2\n/a 1 2\n", "/a/ 1 2\n", `/\999 1 2`, strings.Repeat("x", 1<<20)} {
		if _, err := baseline.ParseOwners(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "line") {
			t.Errorf("%.30q: error %v", text, err)
		}
	}
}
