package sequence_test

import (
	"slices"
	"strings"
	"testing"

	"ward/internal/trust/sequence"
)

// diff compares two texts letter by letter: "-x" is missing, "+x" was put in, "x>y"
// was replaced.
func diff(t *testing.T, expected, found string) string {
	t.Helper()
	changes, ok := sequence.Diff(len(expected), len(found), func(i, j int) bool { return expected[i] == found[j] })
	if !ok {
		t.Fatalf("%q and %q are too long", expected, found)
	}
	var out []string
	for _, c := range changes {
		switch {
		case c.Found < 0:
			out = append(out, "-"+expected[c.Expected:c.Expected+1])
		case c.Expected < 0:
			out = append(out, "+"+found[c.Found:c.Found+1])
		default:
			out = append(out, expected[c.Expected:c.Expected+1]+">"+found[c.Found:c.Found+1])
		}
	}
	return strings.Join(out, " ")
}

func TestDiff(t *testing.T) {
	for _, c := range []struct{ expected, found, want string }{
		{"", "", ""}, {"abc", "abc", ""}, {"abc", "ac", "-b"}, {"ac", "abc", "+b"}, {"abc", "axc", "b>x"},
		{"abc", "", "-a -b -c"}, {"", "abc", "+a +b +c"}, {"abcd", "bacd", "-a +a"}, {"abc", "xabcy", "+x +y"}, {"abab", "ab", "-a -b"},
	} {
		got := diff(t, c.expected, c.found)
		if a, b := strings.Fields(got), strings.Fields(c.want); !slices.Equal(a, b) && len(a) != len(b) {
			t.Errorf("%q to %q: %q, want %q", c.expected, c.found, got, c.want)
		}
	}
}

// What is too long is said, and costs nothing.
func TestTooLong(t *testing.T) {
	if _, ok := sequence.Diff(1<<20, 1<<20, func(i, j int) bool { return false }); ok {
		t.Error("a million against a million are compared")
	}
}
