package bounded

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"ward/internal/device/posture"
)

// What is longer than its bound is an error, and what is no file is not opened.
//
// Verifies: SR-097
func TestReads(t *testing.T) {
	root := fstest.MapFS{
		"a": {Data: []byte("one\ntwo\n\nlast")}, "fifo": {Mode: fs.ModeNamedPipe}, "d/x": {}, "d/b": {}, "d/c/e": {},
		"long": {Data: []byte(strings.Repeat("x", longest+1))}, "empty": {},
	}
	for _, c := range []struct {
		name  string
		limit int64
		want  string
		err   error
	}{
		{"a", 13, "[one two  last]", nil}, {"a", 12, "", posture.ErrTooLong}, {"none", 9, "", fs.ErrNotExist}, {"empty", 0, "[]", nil},
	} {
		var got []string
		err := Lines(root, c.name, c.limit, func(line string) { got = append(got, line) })
		if !errors.Is(err, c.err) || err == nil && fmt.Sprint(got) != c.want {
			t.Errorf("%s, %d: %q, %v", c.name, c.limit, got, err)
		}
	}
	for _, name := range []string{"fifo", "d", "long"} {
		if err := Lines(root, name, 1<<20, func(string) {}); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	list, err := Entries(root, "d", 3)
	if err != nil || !slices.IsSortedFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }) || len(list) != 3 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := Entries(root, "d", 2); !errors.Is(err, ErrMany) {
		t.Errorf("three entries of two: %v", err)
	}
	if _, err := Entries(root, "a", 2); err == nil {
		t.Error("a file is listed")
	}
	if _, err := Entries(root, "none", 2); !Absent(err) {
		t.Errorf("no folder: %v", err)
	}
}

func TestWords(t *testing.T) {
	for s, want := range map[string]string{
		"/usr/bin/pump": "/usr/bin/pump", "/a b": `/a\x20b`, "/a\n\x1b[2J": `/a\x0a\x1b[2J`, "/ä\\": `/\xc3\xa4\x5c`, "": "",
	} {
		if got := Word(s); got != want || strings.ContainsAny(got, " \n\x1b") {
			t.Errorf("%q: %q", s, got)
		}
	}
	for s, want := range map[string]string{`/my\040disk`: "/my disk", `/a\134b`: `/a\b`, `/\04`: `/\04`, `/\999`: `/\999`, `\`: `\`, `/a`: "/a"} {
		if got := Unescape(s); got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
}
