package securityfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"ward/internal/device/securityfs"
	"ward/internal/format/ima"
	"ward/internal/trust/appraisal/appraisaltest"
)

const countName = "ima/runtime_measurements_count"

// growing is a kernel's list that counts what is read of it. Offset is what a
// descriptor that was just opened stands at.
type growing struct {
	list  []byte
	count int
	way   string // "seek", "at", "stream": what the file offers
	bytes int64
	reads int
}

func newGrowing(entries int, way string) *growing {
	g := &growing{way: way}
	g.measure(entries)
	return g
}

func (g *growing) measure(entries int) {
	for range entries {
		g.list = append(g.list, appraisaltest.Program(fmt.Sprintf("/usr/bin/program-%06d", g.count)).Bytes()...)
		g.count++
	}
}

func (g *growing) end() securityfs.Position {
	return securityfs.Position{Entries: g.count, Offset: int64(len(g.list))}
}

func (g *growing) Open(name string) (fs.File, error) {
	switch name {
	case countName:
		return fstest.MapFS{name: {Data: []byte(strconv.Itoa(g.count) + "\n")}}.Open(name)
	case listName:
	default:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f := &growingFile{g: g}
	switch g.way {
	case "seek":
		return seekable{f}, nil
	case "at":
		return readable{f}, nil
	}
	return f, nil
}

type growingFile struct {
	fs.File
	g  *growing
	at int64
}

func (f *growingFile) Close() error { return nil }

func (f *growingFile) Read(p []byte) (int, error) {
	n, err := f.readAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *growingFile) readAt(p []byte, at int64) (int, error) {
	f.g.reads++
	if at >= int64(len(f.g.list)) {
		return 0, io.EOF
	}
	n := copy(p, f.g.list[at:])
	f.g.bytes += int64(n)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

type seekable struct{ *growingFile }

func (f seekable) Seek(offset int64, _ int) (int64, error) {
	f.at = offset
	return offset, nil
}

type readable struct{ *growingFile }

func (f readable) ReadAt(p []byte, at int64) (int, error) { return f.readAt(p, at) }

// A list is read from the last known position on, in each way that a file offers.
//
// Verifies: SR-005
func TestReadIMAFrom(t *testing.T) {
	for _, way := range []string{"seek", "at", "stream"} {
		g := newGrowing(3, way)
		first, err := securityfs.ReadIMAFrom(g, securityfs.Position{}, securityfs.MaxIMA)
		if err != nil || !bytes.Equal(first.List, g.list) || first.End != g.end() || first.Truncated {
			t.Fatalf("%s: %+v, %v", way, first.End, err)
		}
		none, err := securityfs.ReadIMAFrom(g, first.End, securityfs.MaxIMA)
		if err != nil || len(none.List) != 0 || none.End != first.End {
			t.Errorf("%s: nothing new: %+v, %v", way, none, err)
		}
		g.measure(2)
		second, err := securityfs.ReadIMAFrom(g, first.End, securityfs.MaxIMA)
		if err != nil || second.Begin != first.End || second.End != g.end() || !bytes.Equal(second.List, g.list[first.End.Offset:]) {
			t.Errorf("%s: %+v, %v", way, second, err)
		}
	}
}

// What exceeds the reader's bound is cut behind a whole entry, and the next part
// goes on there.
//
// Verifies: SR-005
func TestReadIMAFromInParts(t *testing.T) {
	ascii := []byte("10 49ab61dd97ea2f759edcb6c6a3387ac67f0aa576 ima-buf sha256:0c907aab3261194f16b0c2a422a82f145bc9b9ecb8fdb633fa43e3e5379f0af2 kernel_version 372e312e302d7263312b\n")
	binary := appraisaltest.Program("/usr/bin/a").Bytes()
	for name, entry := range map[string][]byte{listName: binary, asciiName: ascii} {
		list := bytes.Repeat(entry, 5)
		fsys := fstest.MapFS{name: {Data: list}, countName: {Data: []byte("5\n")}}
		for most := len(entry); most <= len(list)+1; most++ {
			var got []byte
			at := securityfs.Position{}
			for range 6 {
				p, err := securityfs.ReadIMAFrom(fsys, at, int64(most))
				if err != nil || len(p.List) > most || len(p.List)%len(entry) != 0 || p.End.Entries*len(entry) != int(p.End.Offset) {
					t.Fatalf("%s, %d bytes: %+v, %v", name, most, p.End, err)
				}
				got, at = append(got, p.List...), p.End
				if !p.Truncated {
					break
				}
			}
			if !bytes.Equal(got, list) {
				t.Fatalf("%s, %d bytes: %d of %d were read", name, most, len(got), len(list))
			}
		}
		p, err := securityfs.ReadIMAFrom(fsys, securityfs.Position{}, int64(len(entry))-1)
		if !errors.Is(err, securityfs.ErrTooLong) || len(p.List) != 0 || p.End != p.Begin {
			t.Errorf("%s: an entry longer than the bound: %+v, %v", name, p, err)
		}
	}
}

// Pitfall 10 of attestation: newer kernels can give up entries; a position that
// the list no longer has is said to be gone, never read as "nothing new".
//
// Verifies: SR-005 SR-007
func TestReadIMAFromAPositionThatIsGone(t *testing.T) {
	entry := appraisaltest.Program("/usr/bin/a").Bytes()
	at := securityfs.Position{Entries: 2, Offset: int64(2 * len(entry))}
	var cut *ima.TruncatedError
	for name, c := range map[string]struct {
		entries int
		count   string
		at      securityfs.Position
		check   func(error) bool
	}{
		"fewer entries":                {1, "1", at, func(err error) bool { return errors.Is(err, securityfs.ErrShrunk) }},
		"more counted than listed":     {2, "3", at, func(err error) bool { return errors.Is(err, securityfs.ErrShrunk) }},
		"inside an entry":              {4, "4", securityfs.Position{Entries: 2, Offset: at.Offset + 4}, func(err error) bool { return err != nil }},
		"inside the last one":          {2, "2", securityfs.Position{Entries: 1, Offset: int64(2*len(entry)) - 3}, func(err error) bool { return err != nil && (errors.As(err, &cut) || errors.Is(err, ima.ErrFormat)) }},
		"negative":                     {2, "2", securityfs.Position{Offset: -1}, func(err error) bool { return err != nil }},
		"the count is no number":       {2, "x", at, func(err error) bool { return err != nil }},
		"none counted, position given": {0, "0", at, func(err error) bool { return errors.Is(err, securityfs.ErrShrunk) }},
	} {
		fsys := fstest.MapFS{listName: {Data: bytes.Repeat(entry, c.entries)}, countName: {Data: []byte(c.count + "\n")}}
		p, err := securityfs.ReadIMAFrom(fsys, c.at, securityfs.MaxIMA)
		if !c.check(err) || len(p.List) != 0 || p.End != c.at {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	g := newGrowing(1, "stream")
	if _, err := securityfs.OpenIMAAt(g, 1<<40); !errors.Is(err, securityfs.ErrShrunk) {
		t.Errorf("an offset behind the end of a stream: %v", err)
	}
	if _, err := securityfs.ReadIMAFrom(fstest.MapFS{}, at, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no list: %v", err)
	}
}

// A list that grew by one entry costs the same bytes and reads at any length.
//
// Verifies: SR-005
func TestOneMoreEntryCostsTheSameAtAnyLength(t *testing.T) {
	type cost struct {
		bytes int64
		reads int
	}
	for _, way := range []string{"seek", "at"} {
		var from, follow []cost
		for _, entries := range []int{100, 100_000} {
			g := newGrowing(entries, way)
			f := caughtUp(t, g)
			at := g.end()
			g.measure(1)
			g.bytes, g.reads = 0, 0
			if p, err := securityfs.ReadIMAFrom(g, at, securityfs.MaxIMA); err != nil || p.End.Entries != at.Entries+1 {
				t.Fatalf("%+v, %v", p, err)
			}
			from = append(from, cost{g.bytes, g.reads})
			g.bytes, g.reads = 0, 0
			oneMore(t, f, entries)
			follow = append(follow, cost{g.bytes, g.reads})
		}
		entry := int64(len(appraisaltest.Program("/usr/bin/program-000000").Bytes()))
		for what, c := range map[string][]cost{"read from a position": from, "follow": follow} {
			if c[0] != c[1] || c[0].bytes != entry || c[0].reads > 4 {
				t.Errorf("%s, %s: at 100 entries %+v, at 100,000 %+v; want %d bytes and a few reads", way, what, c[0], c[1], entry)
			}
		}
	}
}

// caughtUp is a follower that has given out every entry.
func caughtUp(t testing.TB, fsys fs.FS) *securityfs.Follower {
	t.Helper()
	f, err := securityfs.FollowIMA(fsys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for err == nil {
		_, err = f.Next()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	return f
}

func oneMore(t testing.TB, f *securityfs.Follower, index int) {
	t.Helper()
	if e, err := f.Next(); err != nil || e.Index != index {
		t.Fatalf("entry %d, %v", e.Index, err)
	}
	if _, err := f.Next(); err != io.EOF {
		t.Fatal(err)
	}
}

// BenchmarkOneMoreEntry takes over one new entry of a list with 100 entries and of
// one with 100,000, by turns. "x-length" is the mean time for the long list as a
// multiple of that for the short one.
func BenchmarkOneMoreEntry(b *testing.B) {
	for _, way := range []string{"follow", "from"} {
		b.Run(way, func(b *testing.B) {
			short, long := newGrowing(100, "seek"), newGrowing(100_000, "seek")
			lists := []*growing{short, long}
			followers := []*securityfs.Follower{caughtUp(b, short), caughtUp(b, long)}
			var spent [2]time.Duration
			var read [2]int64
			b.ReportAllocs()
			for b.Loop() {
				for i, g := range lists {
					at := g.end()
					g.measure(1)
					g.bytes = 0
					start := time.Now()
					if way == "follow" {
						oneMore(b, followers[i], at.Entries)
					} else if p, err := securityfs.ReadIMAFrom(g, at, securityfs.MaxIMA); err != nil || p.End.Entries != at.Entries+1 {
						b.Fatalf("%+v, %v", p, err)
					}
					spent[i] += time.Since(start)
					read[i] += g.bytes
				}
			}
			b.ReportMetric(float64(spent[1])/float64(spent[0]), "x-length")
			b.ReportMetric(float64(spent[1])/float64(b.N), "ns/entry")
			b.ReportMetric(float64(read[1])/float64(b.N), "bytes-read/entry")
		})
	}
}

// Missing, empty and too long are three different things.
//
// Verifies: SR-003 SR-007
func TestReadUserLog(t *testing.T) {
	const name = "tpm2-measure.log"
	for what, c := range map[string]struct {
		fsys fs.FS
		want error
		n    int
	}{
		"there":     {fstest.MapFS{name: {Data: []byte("\x1e{}")}}, nil, 3},
		"empty":     {fstest.MapFS{name: {}}, nil, 0},
		"at bound":  {fstest.MapFS{name: {Data: make([]byte, securityfs.MaxUserLog)}}, nil, securityfs.MaxUserLog},
		"too long":  {fstest.MapFS{name: {Data: make([]byte, securityfs.MaxUserLog+1)}}, securityfs.ErrTooLong, 0},
		"missing":   {fstest.MapFS{}, fs.ErrNotExist, 0},
		"forbidden": {forbidden{}, fs.ErrPermission, 0},
	} {
		b, err := securityfs.ReadUserLog(c.fsys)
		if !errors.Is(err, c.want) || len(b) != c.n {
			t.Errorf("%s: %d bytes, error %v; want %d, %v", what, len(b), err, c.n, c.want)
		}
	}
}
