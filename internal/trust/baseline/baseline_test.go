package baseline_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/trust/baseline"
)

var update = flag.Bool("update", false, "rewrite golden files")

// sample has one entry of every kind, in order.
func sample() []baseline.Entry {
	sum := sha256.Sum256([]byte("x"))
	return []baseline.Entry{
		{Path: "/", Type: baseline.Directory, Mode: 0o755},
		{Path: "/-", Type: baseline.File, Mode: 0, SHA256: sum, Size: 1, Component: "-"},
		{Path: "/\\line\nbreak\x7f\xff\xc3\xa4", Type: baseline.File, Mode: 0o644, Size: 1, SHA256: sum},
		{Path: "/a", Type: baseline.Directory, Mode: 0o1777, UID: 1, GID: 2},
		{Path: "/a/z", Type: baseline.File, Mode: 0o4755, UID: 900, GID: 4294967295, Size: 1, SHA256: sum, Flags: baseline.Exec},
		{Path: "/a b", Type: baseline.File, Mode: 0o644, Size: 9223372036854775807, SHA256: sum,
			Flags: baseline.Exec | baseline.Config | baseline.Mutable | baseline.Volatile, Component: "pkg:deb/debian/base files@1"},
		{Path: "/a-b", Type: baseline.Symlink, Mode: 0o777, Link: "../a b"},
		{Path: "/a-c", Type: baseline.Symlink, Mode: 0o777, Link: "-"},
		{Path: "/dev", Type: baseline.Directory, Mode: 0o755},
		{Path: "/dev/full", Type: baseline.CharDevice, Mode: 0o666, Device: baseline.Device{Major: 1, Minor: 7}},
		{Path: "/dev/sda", Type: baseline.BlockDevice, Mode: 0o660, GID: 6, Device: baseline.Device{Major: 8, Minor: 0}},
		{Path: "/m", Type: baseline.File, Mode: 0o755, Size: 1, SHA256: sum, Verity: sha256.Sum256([]byte("v")), Flags: baseline.Exec,
			Xattrs: `security.capability=0100000200040000000000000000000000000000,security.ima=0302,security.odd\054\040\075\303\244=,security.selinux=73797374656d00`},
		{Path: "/p", Type: baseline.Pipe, Mode: 0o600},
		{Path: "/s", Type: baseline.Socket, Mode: 0o600},
	}
}

func write(t testing.TB, entries ...baseline.Entry) (text []byte, digest [32]byte) {
	t.Helper()
	var b bytes.Buffer
	w, err := baseline.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if digest, err = w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), digest
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

// golden compares with a golden file. A change of the format changes the
// header's number first.
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

// Verifies: SR-027
func TestGolden(t *testing.T) {
	text, digest := write(t, sample()...)
	golden(t, "sample.baseline", text)
	if digest != sha256.Sum256(text) {
		t.Errorf("Close says digest %x", digest)
	}
	if d, err := baseline.Digest(bytes.NewReader(text)); err != nil || d != digest {
		t.Errorf("Digest = %x, %v", d, err)
	}
	if d, err := baseline.Check(bytes.NewReader(text)); err != nil || d != digest {
		t.Errorf("Check = %x, %v", d, err)
	}
	entries, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if e != sample()[i] {
			t.Errorf("entry %d: %+v, want %+v", i, e, sample()[i])
		}
	}
	if len(entries) != len(sample()) {
		t.Errorf("%d entries", len(entries))
	}
}

func TestCompareIsTheOrderOfAWalk(t *testing.T) {
	ordered := []string{"/", "/a", "/a/b", "/a/b/c", "/a/b c", "/a ", "/a-b", "/a.b", "/a0", "/b", "/\xff"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := baseline.ComparePaths(a, b), compareInts(i, j); got != want {
				t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func compareInts(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Verifies: SR-027
func TestReaderRefuses(t *testing.T) {
	const sum = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	file := func(path string) string { return "f 0644 0 0 1 " + sum + " - - - - " + path + "\n" }
	for _, tt := range []struct{ name, body, says string }{
		{"cut short", file("/a")[:80], "line 2 is cut short"},
		{"cut in the path", strings.TrimSuffix(file("/a"), "\n"), "line 2 is cut short"},
		{"empty line", "\n", "line 2: 1 fields"},
		{"too few fields", "f 0644 0 0 1 - -\n", "line 2: 7 fields"},
		{"too many fields", "f 0644 0 0 1 " + sum + " - - - - /a b\n", "12 fields"},
		{"two spaces", "f  0644 0 0 1 " + sum + " - - - - /a\n", "12 fields"},
		{"tab", "f 0644 0 0 1 " + sum + " - - - - /a\tb\n", "not escaped"},
		{"type", "x 0644 0 0 0 - - - - - /a\n", "want one of f d l c b p s"},
		{"long type", "ff 0644 0 0 0 - - - - - /a\n", "want one letter"},
		{"mode of three digits", "d 755 0 0 0 - - - - - /a\n", "four octal digits"},
		{"mode not octal", "d 0855 0 0 0 - - - - - /a\n", "four octal digits"},
		{"uid too large", "d 0755 4294967296 0 0 - - - - - /a\n", "uid"},
		{"gid with zero", "d 0755 0 00 0 - - - - - /a\n", "gid"},
		{"negative size", "f 0644 0 0 -1 " + sum + " - - - - /a\n", "size"},
		{"size of a folder", "d 0755 0 0 5 - - - - - /a\n", "size 5"},
		{"short digest", "f 0644 0 0 1 2d71 - - - - /a\n", "64 lower-case"},
		{"long digest", "f 0644 0 0 1 " + sum + "00 - - - - /a\n", "64 lower-case"},
		{"upper-case digest", "f 0644 0 0 1 " + strings.ToUpper(sum) + " - - - - /a\n", "64 lower-case"},
		{"digest of a folder", "d 0755 0 0 0 " + sum + " - - - - /a\n", "want - for type d"},
		{"link without target", "l 0777 0 0 0 - - - - - /a\n", "link target"},
		{"device without minor", "c 0666 0 0 0 1 - - - - /a\n", "major:minor"},
		{"device with three numbers", "c 0666 0 0 0 1:2:3 - - - - /a\n", "major:minor"},
		{"unknown flag", "d 0755 0 0 0 - - - suid - /a\n", "flags"},
		{"flags out of order", "d 0755 0 0 0 - - - config,exec - /a\n", "flags"},
		{"flag twice", "d 0755 0 0 0 - - - exec,exec - /a\n", "flags"},
		{"verity of a folder", "d 0755 0 0 0 - " + sum + " - - - /a\n", "a digest"},
		{"short verity", "f 0644 0 0 1 " + sum + " 2d71 - - - /a\n", "verity"},
		{"verity of zeros", "f 0644 0 0 1 " + sum + " " + strings.Repeat("0", 64) + " - - - /a\n", "verity"},
		{"attribute without value", "f 0644 0 0 1 " + sum + " - security.ima - - /a\n", "want security.name="},
		{"attribute of users", "f 0644 0 0 1 " + sum + " - user.x=00 - - /a\n", "want security.name="},
		{"attribute without name", "f 0644 0 0 1 " + sum + " - security.=00 - - /a\n", "want security.name="},
		{"attribute twice", "f 0644 0 0 1 " + sum + " - security.a=00,security.a=00 - - /a\n", "sorted"},
		{"attributes out of order", "f 0644 0 0 1 " + sum + " - security.b=00,security.a=00 - - /a\n", "sorted"},
		{"attribute with half a byte", "f 0644 0 0 1 " + sum + " - security.a=0 - - /a\n", "hexadecimal"},
		{"attribute in capitals", "f 0644 0 0 1 " + sum + " - security.a=AA - - /a\n", "hexadecimal"},
		{"attribute with two values", "f 0644 0 0 1 " + sum + " - security.a=00=00 - - /a\n", "hexadecimal"},
		{"attribute with a needless escape", "f 0644 0 0 1 " + sum + ` - security.\141=00 - - /a` + "\n", "spelling"},
		{"attribute with an escape in an escape", "f 0644 0 0 1 " + sum + ` - security.\04\0540=00 - - /a` + "\n", "spelling"},
		{"attribute with NUL", "f 0644 0 0 1 " + sum + ` - security.\000=00 - - /a` + "\n", "spelling"},
		{"long attributes", "f 0644 0 0 1 " + sum + " - security.a=" + strings.Repeat("00", 8192) + " - - /a\n", "at most 16384"},
		{"no attributes", "f 0644 0 0 1 " + sum + " -  - - /a\n", "empty field"},
		{"relative path", file("a"), "absolute"},
		{"dot dot", file("/a/../b"), ".."},
		{"double slash", file("/a//b"), "empty"},
		{"slash at the end", file("/a/"), "empty"},
		{"NUL in the path", file(`/a\000`), "NUL"},
		{"needless escape", file(`/\141`), "escape"},
		{"escape beyond a byte", file(`/\777`), "escape"},
		{"escape cut short", file(`/\04`), "escape"},
		{"no path", file("-"), "absolute"},
		{"out of order", file("/b") + file("/a"), "line 3: path \"/a\" is out of order"},
		{"twice", file("/a") + file("/a"), "out of order"},
		{"long path", file("/" + strings.Repeat("a", 4096)), "4097 bytes"},
		{"endless line", strings.Repeat("a", 1<<20), "longer than"},
		{"carriage return", strings.ReplaceAll(file("/a"), "\n", "\r\n"), "not escaped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := read([]byte("ward-baseline 2\n" + tt.body))
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("error %v, want one with %q", err, tt.says)
			}
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Errorf("not one short line: %q", err)
			}
		})
	}
	for _, head := range []string{"", "ward-baseline 2", "ward-baseline 1\n", "ward-baseline 3\n", "ward-baseline 2 \n", "\n", strings.Repeat("x", 1<<20), "\x1f\x8b\x08"} {
		if _, err := read([]byte(head)); !errors.Is(err, baseline.ErrHeader) {
			t.Errorf("header %.20q: error %v, want %v", head, err, baseline.ErrHeader)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	dir := func(path string) baseline.Entry { return baseline.Entry{Path: path, Type: baseline.Directory} }
	for name, entries := range map[string][]baseline.Entry{
		"out of order":      {dir("/b"), dir("/a")},
		"twice":             {dir("/a"), dir("/a")},
		"relative":          {dir("a")},
		"no type":           {{Path: "/a"}},
		"mode":              {{Path: "/a", Type: baseline.Directory, Mode: 0o10000}},
		"link of a file":    {{Path: "/a", Type: baseline.File, Link: "b"}},
		"size of a link":    {{Path: "/a", Type: baseline.Symlink, Link: "b", Size: 1}},
		"numbers of a pipe": {{Path: "/a", Type: baseline.Pipe, Device: baseline.Device{Major: 1}}},
		"long component":    {{Path: "/a", Type: baseline.Directory, Component: strings.Repeat("x", 257)}},
		"content not read":  {{Path: "/a", Type: baseline.File, Vouched: true}},
		"verity of a link":  {{Path: "/a", Type: baseline.Symlink, Link: "b", Verity: [32]byte{1}}},
		"foreign attribute": {{Path: "/a", Type: baseline.File, Xattrs: "user.a=00"}},
		"unknown flag":      {{Path: "/a", Type: baseline.Directory, Flags: 1 << 7}},
	} {
		w, err := baseline.NewWriter(io.Discard)
		for _, e := range entries {
			if err == nil {
				err = w.Write(e)
			}
		}
		if err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// Verifies: SR-027
func TestIndex(t *testing.T) {
	one, two := sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2"))
	text, digest := write(t,
		baseline.Entry{Path: "/", Type: baseline.Directory},
		baseline.Entry{Path: "/a", Type: baseline.Directory},
		baseline.Entry{Path: "/a/b", Type: baseline.File, SHA256: one},
		baseline.Entry{Path: "/a/c", Type: baseline.Symlink, Link: "b"},
		baseline.Entry{Path: "/a b", Type: baseline.File, SHA256: one},
		baseline.Entry{Path: "/a-b", Type: baseline.File, SHA256: two},
	)
	x, err := baseline.LoadIndex(bytes.NewReader(text), int64(len(text)), digest)
	if err != nil {
		t.Fatal(err)
	}
	if x.Files() != 3 || x.Digest() != digest {
		t.Errorf("%d files, digest %x", x.Files(), x.Digest())
	}
	for _, tt := range []struct {
		path string
		sum  [32]byte
		want baseline.Match
	}{
		{"/a/b", one, baseline.Known},
		{"/a b", one, baseline.Known},
		{"/a-b", two, baseline.Known},
		{"/a/b", two, baseline.ChangedContent},
		{"/a/b", sha256.Sum256([]byte("3")), baseline.ChangedContent},
		{"/tmp/b", one, baseline.KnownContentOtherPath},
		{"/a/c", one, baseline.KnownContentOtherPath},
		{"/tmp/b", sha256.Sum256([]byte("3")), baseline.UnknownPath},
		{"/a", [32]byte{}, baseline.UnknownPath},
		{"", one, baseline.KnownContentOtherPath},
		{"a/b", sha256.Sum256(nil), baseline.UnknownPath},
	} {
		if got := x.Lookup(tt.path, tt.sum); got != tt.want {
			t.Errorf("Lookup(%q, %.4x) = %s, want %s", tt.path, tt.sum, got, tt.want)
		}
	}
	if got := new(baseline.Index).Lookup("/a/b", one); got != baseline.UnknownPath {
		t.Errorf("the zero Index says %s", got)
	}
	if got := baseline.Match(0).String(); got != "none" {
		t.Errorf("the zero Match says %q", got)
	}
}

// Verifies: SR-027
func TestLoadIndexNeedsTheDigest(t *testing.T) {
	text, digest := write(t, sample()...)
	for name, changed := range map[string][]byte{
		"other content":     bytes.Replace(text, []byte("2d71"), []byte("2d72"), 1),
		"entry removed":     bytes.Replace(text, []byte("s 0600 0 0 0 - - - - - /s\n"), nil, 1),
		"cut short":         text[:len(text)/2],
		"cut after a line":  text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1],
		"empty":             nil,
		"another format":    []byte("{}"),
		"line after it":     append(bytes.Clone(text), "f\n"...),
		"random":            bytes.Repeat([]byte("\x00\xff"), 1<<17),
		"other header":      bytes.Replace(text, []byte("baseline 2"), []byte("baseline 1"), 1),
		"header alone":      []byte("ward-baseline 2\n"),
		"without last line": bytes.TrimSuffix(text, []byte("\n")),
	} {
		if x, err := baseline.LoadIndex(bytes.NewReader(changed), int64(len(changed)), digest); !errors.Is(err, baseline.ErrDigest) || x != nil {
			t.Errorf("%s: index %v, error %v; want %v", name, x, err, baseline.ErrDigest)
		}
	}
	// The right digest does not make a baseline of anything.
	broken := []byte("ward-baseline 2\nx\n")
	if x, err := baseline.LoadIndex(bytes.NewReader(broken), int64(len(broken)), sha256.Sum256(broken)); err == nil || errors.Is(err, baseline.ErrDigest) || x != nil {
		t.Errorf("broken text: index %v, error %v", x, err)
	}
	if _, err := baseline.LoadIndex(brokenReader{}, 100, digest); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("failing reader: %v", err)
	}
	if _, err := baseline.LoadIndex(bytes.NewReader(text), int64(len(text))+1, digest); err != nil {
		t.Errorf("a file that ends before its size: %v", err)
	}
	if x, err := baseline.LoadIndex(brokenReader{}, 1<<40, digest); err == nil || x != nil {
		t.Errorf("a file of a terabyte: index %v, error %v", x, err)
	}
}

type brokenReader struct{}

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

// large makes a baseline of n files below /usr/lib.
func large(t testing.TB, n int) (text []byte, digest [32]byte) {
	entries := make([]baseline.Entry, n)
	for i := range entries {
		path := fmt.Sprintf("/usr/lib/x86_64-linux-gnu/package%05d/module.so", i)
		entries[i] = baseline.Entry{Path: path, Type: baseline.File, Mode: 0o755, SHA256: sha256.Sum256([]byte(path)), Flags: baseline.Exec}
	}
	return write(t, entries...)
}

func BenchmarkLoadIndex20000(b *testing.B) {
	text, digest := large(b, 20000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := baseline.LoadIndex(bytes.NewReader(text), int64(len(text)), digest); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	text, digest := large(t, 1000)
	x, err := baseline.LoadIndex(bytes.NewReader(text), int64(len(text)), digest)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { x.Lookup("/tmp/x", digest) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A text that can be read has no second spelling: written again, it is the same.
func FuzzMalleability(f *testing.F) {
	text, _ := write(f, sample()...)
	f.Add(text)
	for _, line := range strings.SplitAfter(string(text), "\n") {
		f.Add([]byte("ward-baseline 2\n" + line))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := read(b)
		if err != nil {
			return
		}
		again, digest := write(t, entries...)
		if !bytes.Equal(again, b) {
			t.Fatalf("read %q, wrote %q", b, again)
		}
		if _, err := baseline.LoadIndex(bytes.NewReader(b), int64(len(b)), digest); err != nil {
			t.Fatal(err)
		}
	})
}
