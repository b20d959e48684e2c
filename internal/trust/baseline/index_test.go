package baseline_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"ward/internal/trust/baseline"
)

// load makes the index of a text that is a baseline.
func load(t testing.TB, text []byte) *baseline.Index {
	t.Helper()
	x, err := baseline.LoadIndex(bytes.NewReader(text), int64(len(text)), sha256.Sum256(text))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// release is a tree of n files in folders, with names that need escapes, links
// between them, one component for each 100 files, and every tenth content twice.
func release(n int) []baseline.Entry {
	entries := []baseline.Entry{{Path: "/", Type: baseline.Directory, Mode: 0o755}, {Path: "/usr", Type: baseline.Directory, Mode: 0o755}}
	for i := range n {
		dir := fmt.Sprintf("/usr/package%06d \xff\n", i/100)
		if i%100 == 0 {
			entries = append(entries, baseline.Entry{Path: dir, Type: baseline.Directory, Mode: 0o755})
		}
		path := fmt.Sprintf("%s/module%03d.so", dir, i%100)
		e := baseline.Entry{Path: path, Type: baseline.File, Mode: 0o755, Size: int64(i), SHA256: sum(i), Flags: baseline.Exec, Component: fmt.Sprintf("package%06d 1.0", i/100)}
		if i%10 == 3 {
			e.SHA256 = sum(i - 1)
		}
		if i%10 == 7 {
			e = baseline.Entry{Path: path, Type: baseline.Symlink, Mode: 0o777, Link: "module000.so", Component: e.Component}
		}
		entries = append(entries, e)
	}
	return entries
}

func sum(i int) [32]byte { return sha256.Sum256(fmt.Append(nil, i)) }

// What is asked is answered as the entries say, wherever in a chunk they lie; and
// what lies between two entries is not there.
//
// Verifies: SR-076
func TestIndexAnswersAsTheEntriesSay(t *testing.T) {
	entries := release(5000)
	text, _ := write(t, entries...)
	x := load(t, text)
	known := make(map[[32]byte]bool)
	for _, e := range entries {
		known[e.SHA256] = e.Type == baseline.File
	}
	stranger := sha256.Sum256([]byte("stranger"))
	for i, e := range entries {
		got, there, err := x.Entry(e.Path)
		if err != nil || !there || got != e {
			t.Fatalf("%q: %+v, %v, %v", e.Path, got, there, err)
		}
		for _, near := range []string{e.Path + "\x01", e.Path + "/x", e.Path + "0", strings.TrimSuffix(e.Path, "o") + "n"} {
			if _, there, err := x.Entry(near); there || err != nil {
				t.Fatalf("%q is there (%v)", near, err)
			}
		}
		if e.Type != baseline.File {
			if got := x.Lookup(e.Path, stranger); got != baseline.UnknownPath {
				t.Fatalf("%q, no file: %s", e.Path, got)
			}
			continue
		}
		if got := x.Lookup(e.Path, e.SHA256); got != baseline.Known {
			t.Fatalf("%q: %s", e.Path, got)
		}
		if got := x.Lookup(e.Path, stranger); got != baseline.ChangedContent {
			t.Fatalf("%q with other content: %s", e.Path, got)
		}
		if got := x.Lookup("/tmp/x", e.SHA256); got != baseline.KnownContentOtherPath {
			t.Fatalf("content of %q elsewhere: %s", e.Path, got)
		}
		for _, path := range []string{e.Path, "/tmp/x"} {
			if c, ok := x.ComponentOf(path, e.SHA256); !ok || i%10 != 3 && c != e.Component {
				t.Fatalf("component of %q: %q, %v, want %q", path, c, ok, e.Component)
			}
		}
	}
	// A content whose first bytes are those of a released one is another one.
	alike := entries[3].SHA256
	alike[31] ^= 1
	if got := x.Lookup("/tmp/x", alike); got != baseline.UnknownPath {
		t.Errorf("content that begins alike: %s", got)
	}
	if c := x.Components(); len(c) != 50 || !slices.IsSorted(c) {
		t.Errorf("components %q", c)
	}
	if x.Files() != 4500 || x.Err() != nil {
		t.Errorf("%d files, %v", x.Files(), x.Err())
	}
}

// Verifies: SR-076
func TestAncestorAndComponent(t *testing.T) {
	one := sum(1)
	text, _ := write(t,
		baseline.Entry{Path: "/", Type: baseline.Directory},
		baseline.Entry{Path: "/a", Type: baseline.Directory},
		baseline.Entry{Path: "/a/b", Type: baseline.Directory},
		baseline.Entry{Path: "/a/b/c", Type: baseline.File, SHA256: one, Component: "c 1"},
		baseline.Entry{Path: "/a b", Type: baseline.File, SHA256: sum(2)},
		baseline.Entry{Path: "/link", Type: baseline.Symlink, Link: "a", Component: "c 1"},
	)
	x := load(t, text)
	for path, want := range map[string]string{
		"/": "/", "/a": "/", "/a/x": "/a", "/a/b": "/a", "/a/b/c": "/a/b", "/a/b/x/y/z": "/a/b", "/a/bx": "/a",
		"/a b/x": "/", "/link/x": "/", "": "/", "relative": "/", "/x": "/", "//a": "/", strings.Repeat("/a/b", 3000): "/a/b",
	} {
		if got := x.Ancestor(path); got != want {
			t.Errorf("Ancestor(%.40q) = %q, want %q", path, got, want)
		}
	}
	for _, tt := range []struct {
		path string
		sum  [32]byte
		want string
		ok   bool
	}{
		{"/a/b/c", one, "c 1", true},
		{"/a/b/c", [32]byte{}, "c 1", true},
		{"/a/b/c", sum(3), "", false},
		{"/a/b/c", sum(2), "", true}, // the content of /a b, which is in no SBOM
		{"/a b", sum(2), "", true},
		{"/tmp/c", one, "c 1", true},
		{"/tmp/c", [32]byte{}, "", false},
		{"/link", [32]byte{}, "", false},
		{"/a", [32]byte{}, "", false},
	} {
		if c, ok := x.ComponentOf(tt.path, tt.sum); c != tt.want || ok != tt.ok {
			t.Errorf("ComponentOf(%q, %.2x) = %q, %v; want %q, %v", tt.path, tt.sum, c, ok, tt.want, tt.ok)
		}
	}
	empty := new(baseline.Index)
	if _, there, err := empty.Entry("/"); there || err != nil || empty.Ancestor("/a/b") != "/" || len(empty.Components()) != 0 {
		t.Errorf("the zero Index names something (%v)", err)
	}
	if r, err := empty.Entries(); err != nil {
		t.Error(err)
	} else if _, err := r.Next(); err != io.EOF {
		t.Errorf("the zero Index has entries: %v", err)
	}
}

// file is one that somebody changes after it was verified.
type file struct {
	mu   sync.Mutex
	text []byte
	err  error
}

func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	return bytes.NewReader(f.text).ReadAt(p, offset)
}

// Whatever of the file is changed after it was verified, no answer is one that
// the verified text would not have given, and Err tells of it.
//
// Verifies: SR-076
func TestIndexOfAFileThatIsChanged(t *testing.T) {
	entries := release(2000)
	text, digest := write(t, entries...)
	stranger := sha256.Sum256([]byte("stranger"))
	for name, change := range map[string]func([]byte) []byte{
		"a byte": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"a digest for another": func(b []byte) []byte {
			return bytes.Replace(b, fmt.Appendf(nil, "%x", entries[1000].SHA256), fmt.Appendf(nil, "%x", stranger), 1)
		},
		"cut":         func(b []byte) []byte { return b[:len(b)/2] },
		"cut by one":  func(b []byte) []byte { return b[:len(b)-1] },
		"empty":       func([]byte) []byte { return nil },
		"other file":  func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) },
		"lines moved": func(b []byte) []byte { return append(bytes.Clone(b[200:]), b[:200]...) },
	} {
		t.Run(name, func(t *testing.T) {
			f := &file{text: bytes.Clone(text)}
			x, err := baseline.LoadIndex(f, int64(len(text)), digest)
			if err != nil {
				t.Fatal(err)
			}
			f.text = change(bytes.Clone(text))
			undecided := 0
			for _, e := range entries {
				if e.Type != baseline.File {
					continue
				}
				match, changed := x.Lookup(e.Path, e.SHA256), x.Lookup(e.Path, stranger)
				if match == 0 || changed == 0 {
					undecided++
				}
				if match != 0 && match != baseline.Known || changed != 0 && changed != baseline.ChangedContent {
					t.Fatalf("%q: %s and %s", e.Path, match, changed)
				}
				if got, there, err := x.Entry(e.Path); err == nil && (!there || got != e) {
					t.Fatalf("%q: %+v, %v", e.Path, got, there)
				}
			}
			if undecided == 0 || !errors.Is(x.Err(), baseline.ErrDigest) {
				t.Errorf("%d undecided, Err %v", undecided, x.Err())
			}
			r, err := x.Entries()
			for err == nil {
				_, err = r.Next()
			}
			if !errors.Is(err, baseline.ErrDigest) {
				t.Errorf("Entries: %v", err)
			}
		})
	}
	f := &file{text: text}
	x, err := baseline.LoadIndex(f, int64(len(text)), digest)
	if err != nil {
		t.Fatal(err)
	}
	f.err = io.ErrClosedPipe
	if got := x.Lookup(entries[5].Path, entries[5].SHA256); got != 0 || !errors.Is(x.Err(), io.ErrClosedPipe) || errors.Is(x.Err(), baseline.ErrDigest) {
		t.Errorf("a disk with errors: %s, %v", got, x.Err())
	}
	if got := x.Lookup("/tmp/x", entries[5].SHA256); got != 0 {
		t.Errorf("a disk with errors: content %s", got)
	}
	if got := x.Ancestor("/usr/x/y"); got != "/" {
		t.Errorf("a disk with errors: ancestor %q", got)
	}
}

// Verifies: SR-076
func TestEntriesStreamsAll(t *testing.T) {
	entries := append(release(3000), baseline.Entry{Path: "/zz", Type: baseline.Pipe})
	text, _ := write(t, entries...)
	x := load(t, text)
	r, err := x.Entries()
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if e, err := r.Next(); err != nil || e != entries[i] {
			t.Fatalf("entry %d: %+v, %v", i, e, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after the last one: %v", err)
	}
}

// A reader that skips to a path goes on behind it, whether or not it is an entry.
func TestSkip(t *testing.T) {
	entries := release(300)
	text, _ := write(t, entries...)
	for i, e := range entries {
		for _, to := range []string{e.Path, e.Path + "\x01"} {
			r, err := baseline.NewReader(bytes.NewReader(text))
			if err == nil {
				err = r.Skip(to)
			}
			if err != nil {
				t.Fatal(err)
			}
			rest := slices.IndexFunc(entries, func(e baseline.Entry) bool { return baseline.ComparePaths(e.Path, to) > 0 })
			got, err := r.Next()
			if rest < 0 {
				if err != io.EOF {
					t.Fatalf("behind %q: %v", to, err)
				}
				continue
			}
			if err != nil || got != entries[rest] {
				t.Fatalf("skip to entry %d, %q: %+v, %v", i, to, got, err)
			}
			if flags, listed := r.Holds(got.Path); !listed || flags != 0 {
				t.Fatalf("behind %q the folder of %q is not known", to, got.Path)
			}
		}
	}
}

// held is how much the heap grows by what make returns.
func held[T any](make func() T) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	v := make()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(v)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// Verifies: SR-076
func TestIndexOf200000EntriesIsSmall(t *testing.T) {
	text, digest := write(t, release(200_000)...)
	var x *baseline.Index
	size := held(func() *baseline.Index {
		var err error
		if x, err = baseline.LoadIndex(bytes.NewReader(text), int64(len(text)), digest); err != nil {
			t.Fatal(err)
		}
		return x
	})
	t.Logf("an index of %d files, %d bytes of text, holds %d bytes", x.Files(), len(text), size)
	if size > 2<<20 {
		t.Errorf("it holds %d bytes, want at most 2 MiB", size)
	}
	cache := held(func() int {
		for i := range 200_000 {
			x.Lookup(fmt.Sprintf("/usr/package%06d \xff\n/module000.so", i/100), digest)
		}
		return 0
	})
	t.Logf("and %d bytes of the last chunks", cache)
	if cache > 1<<20 {
		t.Errorf("the last chunks hold %d bytes, want at most 1 MiB", cache)
	}
	stream := held(func() *baseline.Reader {
		r, err := x.Entries()
		for range 100_000 {
			if err == nil {
				_, err = r.Next()
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
	t.Logf("and %d bytes half way through the entries", stream)
	if stream > 256<<10 {
		t.Errorf("streaming holds %d bytes", stream)
	}
	runtime.KeepAlive(text)
}

// Many ask at the same time; with -race, this finds what is not guarded.
func TestIndexIsAskedByMany(t *testing.T) {
	entries := release(5000)
	text, _ := write(t, entries...)
	x := load(t, text)
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, 0))
			for range 2000 {
				e := entries[random.IntN(len(entries))]
				if got, there, err := x.Entry(e.Path); err != nil || !there || got != e {
					t.Errorf("%q: %+v, %v, %v", e.Path, got, there, err)
				}
			}
		})
	}
	wg.Wait()
}

// A lookup that stays in the chunks that were read last, and one that never does.
func BenchmarkLookup(b *testing.B) {
	entries := release(200_000)
	text, _ := write(b, entries...)
	x := load(b, text)
	b.Run("near", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x.Lookup(entries[10].Path, entries[10].SHA256)
		}
	})
	b.Run("far", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i = (i + 64573) % len(entries)
			x.Lookup(entries[i].Path, entries[i].SHA256)
		}
	})
}
