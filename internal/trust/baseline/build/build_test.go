package build_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/build"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden compares with a golden file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs: got\n%s", name, got)
	}
}

func read(b []byte) ([]baseline.Entry, error) {
	r, err := baseline.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var all []baseline.Entry
	for {
		e, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
}

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
	owners, err := build.ParseOwners(strings.NewReader(`# path uid gid mode
/etc 0 4
/etc/ward/wardd.toml 0 900 0640
/var/lib/ward 900 901
`))
	if err != nil {
		t.Fatal(err)
	}
	o := build.Options{
		Owners:  owners,
		Exclude: []string{"/usr/lib/ward/trust"},
		Self:    "/usr/lib/ward/baseline",
		Verity:  []string{"/usr/bin"},
		Component: func(path string, sum [32]byte) string {
			if path == "/usr/bin/pump" && sum == sha256.Sum256([]byte("#!/bin/sh\n")) {
				return "pump 1.0"
			}
			return ""
		},
		Marks: map[string]baseline.Flags{"/etc": baseline.Config, "/etc/hostname": baseline.Mutable},
		Host: build.Host{
			Device: func(fs.FileInfo) (baseline.Device, error) { return baseline.Device{Major: 1, Minor: 3}, nil },
			Xattrs: func(name string) (map[string][]byte, error) {
				if name == "usr/bin/pump" {
					return map[string][]byte{"security.selinux": []byte("pump\x00"), "security.capability": {1, 0, 0, 2}, "user.note": []byte("x")}, nil
				}
				return nil, nil
			},
		},
	}
	var first, second bytes.Buffer
	sum, err := build.Tree(&first, tree, o)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "tree.baseline", first.Bytes())
	if sum.Entries != bytes.Count(first.Bytes(), []byte("\n"))-1 || sum.Files != 9 || sum.Bytes != 49 {
		t.Errorf("summary %+v", sum)
	}
	if _, err := baseline.LoadIndex(bytes.NewReader(first.Bytes()), int64(first.Len()), sum.Digest); err != nil {
		t.Error(err)
	}
	if _, err := build.Tree(&second, tree, o); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
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
	if _, err := build.Tree(&b, os.DirFS(dir), build.Options{}); err != nil {
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
	if _, err := build.Tree(io.Discard, os.DirFS(dir), build.Options{}); err == nil || !strings.Contains(err.Error(), "UTF-8") {
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
	for name, o := range map[string]build.Options{
		"devices without a reader": {},
		"relative exclusion":       {Exclude: []string{"a"}},
		"relative mark":            {Marks: map[string]baseline.Flags{"a/": baseline.Config}},
	} {
		if _, err := build.Tree(io.Discard, tree, o); err == nil {
			t.Errorf("%s: built", name)
		}
	}
	if _, err := build.Tree(io.Discard, unreadable{tree}, build.Options{Exclude: []string{"/dev"}}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "/a") {
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
		if _, err := build.ParseOwners(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "line") {
			t.Errorf("%.30q: error %v", text, err)
		}
	}
}

func FuzzParseOwners(f *testing.F) {
	f.Add("/ 0 0\n# comment\n\n/var/lib/ward 900 900 0700\n/a\\040b 1 2\n")
	f.Add("/a 1\n")
	f.Fuzz(func(t *testing.T, s string) {
		o, err := build.ParseOwners(strings.NewReader(s))
		if err != nil {
			return
		}
		tree := fstest.MapFS{"a b": {}, "var/lib/ward/x": {}}
		if _, err := build.Tree(io.Discard, tree, build.Options{Owners: o}); err != nil {
			t.Fatal(err)
		}
	})
}
