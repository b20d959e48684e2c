package utmp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// record makes one as glibc's programs write it.
func record(kind Type, pid int32, line, user, host string, seconds int64) []byte {
	b := make([]byte, size)
	ne := binary.NativeEndian
	ne.PutUint16(b, uint16(kind))
	ne.PutUint32(b[4:], uint32(pid))
	copy(b[8:40], line)
	copy(b[44:76], user)
	copy(b[76:332], host)
	if wide {
		ne.PutUint64(b[344:], uint64(seconds))
	} else {
		ne.PutUint32(b[340:], uint32(seconds))
	}
	return b
}

const when = 1795482123

// A record that a C program wrote with glibc on x86-64 reads as utmpdump shows it:
// [7] [00812] [S0  ] [root    ] [ttyS0 ] [2026-11-24T01:02:03,004000+00:00]
//
// Verifies: SR-101
func TestGolden(t *testing.T) {
	dump, err := os.ReadFile("testdata/login-x86_64.hex")
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(dump)), ""))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != size {
		t.Skip("this machine has another layout")
	}
	e, err := Parse(b)
	if want := (Entry{Type: Login, PID: 812, Time: time.Unix(when, 0).UTC(), UntrustedLine: "ttyS0", UntrustedUser: "root"}); err != nil || e != want {
		t.Errorf("read %+v, error %v, want %+v", e, err, want)
	}
}

func TestRecords(t *testing.T) {
	for name, row := range map[string]struct {
		b    []byte
		want Entry
	}{
		"a session over the network":  {record(Login, 7, "pts/0", "anna", "10.1.2.3", when), Entry{Login, 7, time.Unix(when, 0).UTC(), "pts/0", "anna", true}},
		"one at the device's display": {record(Login, 7, "tty7", "anna", ":0", when), Entry{Login, 7, time.Unix(when, 0).UTC(), "tty7", "anna", false}},
		"texts without an end":        {record(Dead, 7, strings.Repeat("l", 32), strings.Repeat("u", 32), strings.Repeat("h", 256), when), Entry{Dead, 7, time.Unix(when, 0).UTC(), strings.Repeat("l", 32), strings.Repeat("u", 32), true}},
		"no UTF-8":                    {record(Login, -1, "\xff", "a\xffb", "", 0), Entry{Login, -1, time.Unix(0, 0).UTC(), "\ufffd", "a\ufffdb", false}},
	} {
		if got, err := Parse(row.b); err != nil || got != row.want {
			t.Errorf("%s: %+v, error %v, want %+v", name, got, err, row.want)
		}
	}
	for _, n := range []int{0, size - 1, size + 1} {
		if e, err := Parse(make([]byte, n)); err == nil {
			t.Errorf("%d bytes read as %+v", n, e)
		}
	}
}

func names(entries []Entry) string {
	var out []string
	for _, e := range entries {
		out = append(out, e.UntrustedUser)
	}
	return fmt.Sprint(out)
}

// Only what is new is read, a cut record waits, and a file that was rotated is another.
//
// Verifies: SR-101
func TestFileFromWhereTheLastLookEnded(t *testing.T) {
	f := &File{Name: "w"}
	one, two := record(Login, 1, "tty1", "one", "", when), record(Login, 2, "tty2", "two", "", when)
	look := func(content []byte, want string) {
		t.Helper()
		got, err := f.Since(fstest.MapFS{"w": {Data: content}})
		if err != nil || names(got) != want {
			t.Errorf("read %s, error %v, want %s", names(got), err, want)
		}
	}
	look(one, "[one]")
	look(one, "[]")
	look(append(bytes.Clone(one), two[:100]...), "[]")
	look(append(bytes.Clone(one), two...), "[two]")
	look(two, "[two]") // rotated
	look(nil, "[]")
	look(bytes.Repeat(one, maxRead+1)[:0], "[]")
	if _, err := f.Since(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	if _, err := f.Since(fstest.MapFS{"w": {Mode: fs.ModeNamedPipe}}); err == nil {
		t.Error("a pipe is read")
	}
	big := fstest.MapFS{"w": {Data: bytes.Repeat(one, maxRead+1)}}
	for _, want := range []int{maxRead, 1, 0} {
		if got, err := f.Since(big); err != nil || len(got) != want {
			t.Errorf("read %d, error %v, want %d", len(got), err, want)
		}
	}
}

func TestSkip(t *testing.T) {
	login, boot := record(Login, 1, "tty1", "old", "", when), record(Boot, 0, "~", "reboot", "6.1", when)
	now := record(Login, 1, "tty1", "new", "", when)
	for name, row := range map[string]struct {
		records [][]byte
		want    string
	}{
		"a start":            {[][]byte{login, boot, login, boot, now}, "[new]"},
		"no start":           {[][]byte{login, login}, "[]"},
		"empty":              {nil, "[]"},
		"a start at the end": {[][]byte{login, boot}, "[]"},
	} {
		f, root := &File{Name: "w"}, fstest.MapFS{"w": {Data: bytes.Join(row.records, nil)}}
		if err := f.Skip(root); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := f.Since(root); err != nil || names(got) != row.want {
			t.Errorf("%s: %s, error %v, want %s", name, names(got), err, row.want)
		}
	}
	if err := (&File{Name: "w"}).Skip(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

// No bytes make the parser panic, and its texts are texts.
func FuzzParse(f *testing.F) {
	f.Add(record(Login, 7, "pts/0", "anna", "10.1.2.3", when))
	f.Add(make([]byte, size))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if (err == nil) != (len(b) == size) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		for _, s := range []string{e.UntrustedLine, e.UntrustedUser} {
			if strings.ToValidUTF8(s, "") != s && !strings.Contains(s, "\ufffd") {
				t.Errorf("read %q", s)
			}
		}
	})
}
