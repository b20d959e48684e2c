package recovery_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"ward/internal/format/recovery"
)

const golden = "000000-000011-002816-720885-001452-360448-123453-555555"

// Verifies: SR-042
func TestGoldenKey(t *testing.T) {
	k, err := recovery.Parse([]byte(golden))
	if err != nil {
		t.Fatal(err)
	}
	if want := "0000000101 00ffff008480002bd7c549"; fmt.Sprintf("%x", k[:]) != strings.ReplaceAll(want, " ", "") || k.String() != golden {
		t.Errorf("key %x, text %s", k[:], k)
	}
	for _, typed := range []string{strings.ReplaceAll(golden, "-", ""), strings.ReplaceAll(golden, "-", " ") + "\r\n", " " + golden} {
		if again, err := recovery.Parse([]byte(typed)); err != nil || again != k {
			t.Errorf("%q: %s, %v", typed, again, err)
		}
	}
}

// Every wrong digit and every swap of two neighbours within a group is found, and
// the group is named.
//
// Verifies: SR-042
func TestTyposAreNamed(t *testing.T) {
	k, err := recovery.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := k.String()
	wrong := func(typed []byte, at int) {
		t.Helper()
		_, err := recovery.Parse(typed)
		if want := fmt.Sprintf("group %d of 8", at/7+1); !errors.Is(err, recovery.ErrKey) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", typed, err, want)
		}
	}
	for i := range text {
		if text[i] == '-' {
			continue
		}
		for c := byte('0'); c <= '9'; c++ {
			if c != text[i] {
				typed := []byte(text)
				typed[i] = c
				wrong(typed, i)
			}
		}
		if i+1 < len(text) && text[i+1] != '-' && text[i+1] != text[i] {
			typed := []byte(text)
			typed[i], typed[i+1] = typed[i+1], typed[i]
			wrong(typed, i)
		}
	}
}

func TestWhatIsNoKey(t *testing.T) {
	for _, tc := range []struct{ typed, want string }{
		{"", "0 digits"},
		{golden[:48], "42 digits"},
		{golden + "-000000", "54 digits"},
		{strings.Replace(golden, "0", "O", 1), "character 1"},
		{"999999" + golden[6:], "group 1"},
		{"720896" + golden[6:], "group 1"}, // 11 times 65,536
		{strings.Repeat(" ", 300), "at most"},
	} {
		_, err := recovery.Parse([]byte(tc.typed))
		if !errors.Is(err, recovery.ErrKey) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.typed, err, tc.want)
		}
	}
	if _, err := recovery.New(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Error("a key of 15 random bytes: no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte("720885"))
	f.Fuzz(func(t *testing.T, typed []byte) {
		k, err := recovery.Parse(typed)
		if err != nil {
			if !errors.Is(err, recovery.ErrKey) || strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
			return
		}
		if again, err := recovery.Parse([]byte(k.String())); err != nil || again != k {
			t.Errorf("%x is written %s and read %x, %v", k[:], k, again[:], err)
		}
	})
}
