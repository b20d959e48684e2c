package registrar

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// However many addresses ask, what is remembered of them is bounded; IPv6 counts
// by the network that one customer has.
//
// Verifies: SR-036
func TestSourcesAreBounded(t *testing.T) {
	l := newLimits(1, 1_000_000)
	now := time.Now()
	for n := range 3 * maxSources {
		l.take(now, fmt.Sprintf("10.%d.%d.%d:1", n>>16, n>>8&255, n&255))
		if len(l.sources) > maxSources {
			t.Fatalf("%d addresses are remembered", len(l.sources))
		}
	}
	for n := range burst + 1 {
		wait := l.take(now, fmt.Sprintf("[2001:db8:0:1::%x]:1", n))
		if (wait > 0) != (n == burst) {
			t.Errorf("address %d of a network waits %s", n, wait)
		}
	}
	if wait := l.take(now, "[2001:db8:0:2::1]:1"); wait != 0 {
		t.Errorf("the next network waits %s", wait)
	}
	if wait := l.take(now, "[2001:db8:0:1::1]:1"); wait != time.Second {
		t.Errorf("one waits %s", wait)
	}
	if wait := l.take(now.Add(time.Second), "[2001:db8:0:1::1]:1"); wait != 0 {
		t.Errorf("after that time it waits %s", wait)
	}
	if wait := l.take(now.Add(-time.Hour), "[2001:db8:0:1::1]:1"); wait > 2*time.Second {
		t.Errorf("with a clock that was set back it waits %s", wait)
	}
}

// All together are bounded too.
//
// Verifies: SR-036
func TestTotalIsBounded(t *testing.T) {
	l := newLimits(100, 10)
	now := time.Now()
	held := 0
	for n := range 150 {
		if l.take(now, fmt.Sprintf("10.0.0.%d:1", n)) > 0 {
			held++
		}
	}
	if held != 50 {
		t.Errorf("%d of 150 wait, want 50", held)
	}
}

// Verifies: SR-034
func FuzzParseSerials(f *testing.F) {
	f.Add([]byte("# comment\r\npump-1\r\n\npump-2," + strings.Repeat("Ab", 32) + "\n"))
	f.Add([]byte("pump-1,\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseSerials(b)
		if err != nil {
			return
		}
		var lines []string
		for serial, digest := range list {
			if digest != "" {
				serial += "," + digest
			}
			lines = append(lines, serial)
		}
		rand.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		again, err := parseSerials([]byte(strings.Join(lines, "\n")))
		if err != nil || len(again) != len(list) {
			t.Fatalf("%v became %v, %v", list, again, err)
		}
		for serial, digest := range list {
			if again[serial] != digest || digest != "" && len(digest) != 64 {
				t.Errorf("%s has %q and %q", serial, digest, again[serial])
			}
		}
	})
}

// A list that contradicts itself is refused.
//
// Verifies: SR-034
func TestSerialsRefused(t *testing.T) {
	a, b := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	for _, text := range []string{"pump.1", "pump-1,", "pump-1," + a[1:], "pump-1," + a + "," + b, "pump-1," + a + "\npump-1," + b, "pump-1," + a + "\npump-1", strings.Repeat("x", 70_000)} {
		if list, err := parseSerials([]byte(text)); err == nil || list != nil {
			t.Errorf("%.40q: %v", text, list)
		}
	}
	if list, err := parseSerials([]byte("pump-1," + a + "\npump-1," + strings.ToUpper(a))); err != nil || len(list) != 1 {
		t.Errorf("the same line twice: %v, %v", list, err)
	}
}
