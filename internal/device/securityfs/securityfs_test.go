package securityfs_test

import (
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"ward/internal/device/securityfs"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal/appraisaltest"
)

const (
	logName   = "tpm0/binary_bios_measurements"
	listName  = "ima/binary_runtime_measurements"
	asciiName = "ima/ascii_runtime_measurements"
)

// forbidden is a file system whose files may not be read.
type forbidden struct{}

func (forbidden) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// Missing, forbidden, empty and too long are four different things.
//
// Verifies: SR-003 SR-007
func TestReadEventLog(t *testing.T) {
	for name, c := range map[string]struct {
		fsys fs.FS
		want error
		n    int
	}{
		"there":     {fstest.MapFS{logName: {Data: []byte("log")}}, nil, 3},
		"empty":     {fstest.MapFS{logName: {}}, nil, 0},
		"at bound":  {fstest.MapFS{logName: {Data: make([]byte, securityfs.MaxEventLog)}}, nil, securityfs.MaxEventLog},
		"too long":  {fstest.MapFS{logName: {Data: make([]byte, securityfs.MaxEventLog+1)}}, securityfs.ErrTooLong, 0},
		"missing":   {fstest.MapFS{}, fs.ErrNotExist, 0},
		"forbidden": {forbidden{}, fs.ErrPermission, 0},
	} {
		b, err := securityfs.ReadEventLog(c.fsys)
		if !errors.Is(err, c.want) || len(b) != c.n {
			t.Errorf("%s: %d bytes, error %v; want %d, %v", name, len(b), err, c.n, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has more than one line: %q", name, err)
		}
	}
}

func TestReadIMA(t *testing.T) {
	if b, cut, err := securityfs.ReadIMA(fstest.MapFS{listName: {Data: []byte("binary")}, asciiName: {Data: []byte("ascii")}}); string(b) != "binary" || cut || err != nil {
		t.Errorf("%q, %v, %v", b, cut, err)
	}
	if b, _, err := securityfs.ReadIMA(fstest.MapFS{asciiName: {Data: []byte("ascii")}}); string(b) != "ascii" || err != nil {
		t.Errorf("ASCII alone: %q, %v", b, err)
	}
	if _, _, err := securityfs.ReadIMA(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, _, err := securityfs.ReadIMA(forbidden{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("forbidden: %v", err)
	}
}

// endless is a list without an end.
type endless struct{ fs.File }

func (endless) Open(string) (fs.File, error) { return endless{}, nil }
func (endless) Read(p []byte) (int, error)   { return len(p), nil }
func (endless) Close() error                 { return nil }

func TestListIsBounded(t *testing.T) {
	l, err := securityfs.OpenIMA(endless{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, l)
	if n != securityfs.MaxIMA || err != nil || !l.Truncated() {
		t.Errorf("%d bytes, truncated %v, %v", n, l.Truncated(), err)
	}
}

func TestReadPCRs(t *testing.T) {
	fsys := fstest.MapFS{}
	for i := range pcr.Count {
		fsys["class/tpm/tpm0/pcr-sha256/"+strconv.Itoa(i)] = &fstest.MapFile{Data: []byte(strings.Repeat("0A", 32) + "\n")}
	}
	delete(fsys, "class/tpm/tpm0/pcr-sha256/23")
	values, err := securityfs.ReadPCRs(fsys, pcr.SHA256)
	if err != nil || len(values) != 23 || values[7].String() != strings.Repeat("0a", 32) {
		t.Errorf("%d values, PCR 7 %s, %v", len(values), values[7], err)
	}
	if _, err := securityfs.ReadPCRs(fsys, pcr.SHA384); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another bank: %v", err)
	}
	for _, text := range []string{"", "zz", strings.Repeat("0A", 20), strings.Repeat("0A", 64), strings.Repeat("0A", 4000)} {
		fsys["class/tpm/tpm0/pcr-sha256/3"] = &fstest.MapFile{Data: []byte(text)}
		if _, err := securityfs.ReadPCRs(fsys, pcr.SHA256); err == nil {
			t.Errorf("PCR file %.20q was taken", text)
		}
	}
}

func next(t *testing.T, f *securityfs.Follower, want string) ima.Entry {
	t.Helper()
	e, err := f.Next()
	if err != nil || e.Path != want {
		t.Fatalf("entry %q, %v; want %q", e.Path, err, want)
	}
	return e
}

// Rereading the descriptor after its end gives what the kernel added since.
//
// Verifies: SR-005
func TestFollowerGoesOnAfterTheEnd(t *testing.T) {
	k := securityfstest.New(t)
	k.Measure(appraisaltest.Program("/a"), appraisaltest.Program("/b"))
	f, err := securityfs.FollowIMA(k.SecurityFS())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	changed := func(want bool) {
		t.Helper()
		if got, err := f.Changed(); got != want || err != nil {
			t.Fatalf("changed %v, %v; want %v", got, err, want)
		}
	}
	changed(true)
	next(t, f, "/a")
	next(t, f, "/b")
	changed(false)
	for range 3 {
		if _, err := f.Next(); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
	}
	k.Measure(appraisaltest.Program("/c"))
	changed(true)
	c := next(t, f, "/c")
	if want := int64(2 * len(appraisaltest.Program("/a").Bytes())); c.Index != 2 || c.Offset != want {
		t.Errorf("index %d, offset %d; want 2, %d", c.Index, c.Offset, want)
	}
	if _, err := f.Next(); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
	k.Measure(appraisaltest.Program("/d"), appraisaltest.Program("/e"))
	if d := next(t, f, "/d"); d.Index != 3 || d.Offset != c.Offset+int64(len(appraisaltest.Program("/c").Bytes())) {
		t.Errorf("index %d, offset %d", d.Index, d.Offset)
	}
	next(t, f, "/e")
	if f.Entries() != 5 {
		t.Errorf("%d entries", f.Entries())
	}
}

func TestFollowerWithoutACountFile(t *testing.T) {
	k := securityfstest.New(t)
	k.Remove(securityfstest.Count)
	f, err := securityfs.FollowIMA(k.SecurityFS())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if changed, err := f.Changed(); !changed || err != nil {
		t.Errorf("changed %v, %v: without a count the list itself must be asked", changed, err)
	}
	if _, err := f.Next(); err != io.EOF {
		t.Errorf("empty list: %v", err)
	}
}

// Verifies: SR-007
func TestFollowerReportsWhatCannotBe(t *testing.T) {
	if _, err := securityfs.FollowIMA(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no list: %v", err)
	}
	k := securityfstest.New(t)
	k.Measure(appraisaltest.Program("/a"), appraisaltest.Program("/b"))
	f, err := securityfs.FollowIMA(k.SecurityFS())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next(t, f, "/a")
	next(t, f, "/b")
	k.SetCount("1")
	if _, err := f.Changed(); !errors.Is(err, securityfs.ErrShrunk) {
		t.Errorf("a list that lost entries: %v", err)
	}
	k.SetCount("many")
	if _, err := f.Changed(); err == nil {
		t.Error("a count that is no number was taken")
	}
}

// The kernel shows whole entries only; what is cut is an error, not the end.
func TestFollowerOnACutEntry(t *testing.T) {
	b := appraisaltest.Program("/a").Bytes()
	f, err := securityfs.FollowIMA(fstest.MapFS{listName: {Data: b[:len(b)-1]}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cut *ima.TruncatedError
	if _, err := f.Next(); !errors.As(err, &cut) {
		t.Errorf("%v", err)
	}
}

// Memory does not grow with the list.
func BenchmarkFollowOneEntry(b *testing.B) {
	k := securityfstest.New(b)
	f, err := securityfs.FollowIMA(k.SecurityFS())
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	entry := appraisaltest.Program("/usr/bin/pump")
	b.ReportAllocs()
	for range b.N {
		b.StopTimer()
		k.Measure(entry)
		b.StartTimer()
		if _, err := f.Next(); err != nil {
			b.Fatal(err)
		}
		if _, err := f.Next(); err != io.EOF {
			b.Fatal(err)
		}
	}
}
