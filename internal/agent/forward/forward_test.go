package forward_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	device "ward/internal/device/syslog"
)

// What is in the journal and what comes later arrives in order; an idle sink is sent
// nothing.
//
// Verifies: SR-071
func TestEverythingInOrder(t *testing.T) {
	run(t, func(sc *scene) { sc.m.add(t, 3) }, func(sc *scene) {
		sc.pass(2 * time.Second)
		if got := sequence(sc.s.got()); got != "1 2 3" {
			t.Errorf("got %s", got)
		}
		sc.m.add(t, 2)
		sc.pass(time.Second)
		if got := sequence(sc.s.got()); got != "1 2 3 4 5" {
			t.Errorf("got %s", got)
		}
		sc.pass(time.Hour)
		if got := sequence(sc.s.got()); got != "1 2 3 4 5" {
			t.Errorf("an hour later: %s", got)
		}
		if s := sc.sink.Status(); s.State != "connected" || s.Sent != 5 || s.Cursor != 5 || s.Error != "" || s.Name != name {
			t.Errorf("status %+v", s)
		}
		if got := sc.m.findings(t); got != "" {
			t.Errorf("recorded %s", got)
		}
	})
}

// At most fifty messages go out in a second, however many wait, so that a sink that
// was away cannot fill the network.
//
// Verifies: SR-072
func TestRate(t *testing.T) {
	run(t, func(sc *scene) { sc.m.add(t, 2000) }, func(sc *scene) {
		last := 0
		for i := range 20 {
			sc.pass(time.Second)
			n := len(sc.s.got())
			if n-last > 64+32 || n < 40*i {
				t.Errorf("second %d: %d messages", i+1, n-last)
			}
			last = n
		}
		sc.pass(25 * time.Second)
		if n := len(sc.s.got()); n != 2000 {
			t.Errorf("%d messages", n)
		}
	})
}

// After an end of the connection what was written in the last minute is sent again,
// with the same ids, and nothing older.
//
// Verifies: SR-071
func TestOverlap(t *testing.T) {
	run(t, nil, func(sc *scene) {
		sc.m.add(t, 1)
		sc.pass(61 * time.Second)
		sc.m.add(t, 1)
		sc.pass(30 * time.Second)
		sc.m.add(t, 1)
		sc.pass(10 * time.Second)
		if s := sc.sink.Status(); s.Sent != 3 || s.Cursor != 1 {
			t.Errorf("status %+v", s)
		}
		sc.s.cut(device.Unreachable)
		sc.pass(5 * time.Second)
		if got := sequence(sc.s.got()); got != "1 2 3 2 3" {
			t.Errorf("got %s", got)
		}
		sc.pass(2 * time.Minute)
		sc.s.cut(device.Unreachable)
		sc.m.add(t, 1)
		sc.pass(time.Minute)
		if got := sequence(sc.s.got()); got != "1 2 3 2 3 4" {
			t.Errorf("two minutes later: %s", got)
		}
	})
}

// Connections end at any moment and lose what they got in the time that TCP may lose:
// in the end everything has arrived at least once, first arrivals in order, whatever
// the moments were.
//
// Verifies: SR-071
func TestNothingIsLostToConnections(t *testing.T) {
	const seed = 20261124
	random := rand.New(rand.NewPCG(seed, 1))
	cuts, again := 0, 0
	for round := range 20 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			run(t, nil, func(sc *scene) {
				sc.s.loses = device.LossTime
				for range 50 {
					sc.m.add(t, random.IntN(40))
					sc.pass(time.Duration(random.Int64N(int64(40 * time.Second))))
					switch random.IntN(4) {
					case 0:
						sc.s.cut(device.Unreachable)
						cuts++
					case 1:
						sc.s.set(device.Unreachable)
						sc.s.cut(device.Unreachable)
						sc.pass(time.Duration(random.Int64N(int64(2 * time.Minute))))
						sc.s.set(0)
						cuts++
					case 2: // the daemon is started anew
						sc.stop()
						sc.start()
					}
				}
				sc.pass(5 * time.Minute)
				seen := map[string]bool{}
				var first []string
				for _, l := range sc.s.got() {
					if !seen[l] {
						first = append(first, l)
					} else {
						again++
					}
					seen[l] = true
				}
				sc.m.mu.Lock()
				defer sc.m.mu.Unlock()
				if len(first) != len(sc.m.records) {
					t.Errorf("%d of %d records arrived", len(first), len(sc.m.records))
				}
				if !slices.IsSortedFunc(first, func(a, b string) int { return number(t, a) - number(t, b) }) {
					t.Errorf("first arrivals in another order: %v", first)
				}
			})
		})
	}
	t.Logf("seed %d: %d connections were cut, %d messages came again", seed, cuts, again)
}

func number(t *testing.T, id string) int {
	var n int
	if _, err := fmt.Sscanf(id, "pump-1/1/%d", &n); err != nil {
		t.Errorf("%q: %v", id, err)
	}
	return n
}

// A sink that is behind loses what is recycled and is told which records; the device
// records it once. A new sink begins with what there is, and is told so.
//
// Verifies: SR-072
func TestGapIsNeverSilent(t *testing.T) {
	run(t, func(sc *scene) { sc.m.add(t, 10); sc.m.recycle(4) }, func(sc *scene) {
		sc.pass(2 * time.Minute)
		const begins = "ward.sink.skipped: this sink begins with record 5 of epoch 1: the 4 before were never sent to it"
		if got := sequence(sc.s.got()); got != begins+" 5 6 7 8 9 10" {
			t.Errorf("got %s", got)
		}
		if got := sc.m.findings(t); got != "" {
			t.Errorf("a sink that is new: %s", got)
		}
		before := len(sc.s.got())
		sc.s.set(device.Unreachable)
		sc.s.cut(device.Unreachable)
		sc.m.add(t, 50)
		sc.pass(40 * time.Second)
		sc.m.recycle(40)
		sc.s.set(0)
		sc.pass(time.Minute)
		const lost = "ward.sink.skipped: 30 records, 11 to 40 of epoch 1, are not in the record any more"
		got := sc.s.got()[before:]
		if got[0] != lost || sequence(got[1:4]) != "41 42 43" || strings.Count(strings.Join(got, "\n"), "skipped:") != 1 {
			t.Errorf("got %s", sequence(got))
		}
		if s := sc.sink.Status(); s.Skipped != 34 {
			t.Errorf("status %+v", s)
		}
		// The connection ends before this is sure to have arrived: told again there, and
		// recorded once.
		sc.s.cut(device.Unreachable)
		sc.pass(time.Minute)
		if n := strings.Count(strings.Join(sc.s.got(), "\n"), lost); n != 2 {
			t.Errorf("the gap is told %d times", n)
		}
		if got := sc.m.findings(t); got != "incident link.sink-gap" {
			t.Errorf("recorded %s", got)
		}
	})
}

// A record without content is told with its place and its hash; one that cannot be
// read is no reason to stop.
//
// Verifies: SR-072
func TestRecordsWithoutContent(t *testing.T) {
	run(t, func(sc *scene) {
		sc.m.add(t, 4)
		sc.m.records[1].Bytes = nil
		sc.m.records[2].Bytes = []byte(`{"specversion":"9"}`)
	}, func(sc *scene) {
		sc.pass(time.Minute)
		h := func(i int) string { return sc.m.records[i].Hash.String()[:8] }
		if got, want := sequence(sc.s.got()), fmt.Sprintf("1 2 ward.sink.shed %s 3 ward.sink.unreadable %s 4", h(1), h(2)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// Each fault of a sink is one condition with its code: at once where it is sure, after
// a grace where it may be passing, and cleared when a connection stands.
//
// Verifies: SR-071
func TestConditions(t *testing.T) {
	for name, row := range map[string]struct {
		cause        device.Cause
		early, later string // what is recorded after ten seconds and after three minutes
	}{
		"unreachable": {device.Unreachable, "", "raised link.sink-down"},
		"untrusted":   {device.Untrusted, "raised link.sink-untrusted", "raised link.sink-untrusted"},
		"refused":     {device.Refused, "raised link.sink-refused", "raised link.sink-refused"},
		"early end":   {device.EarlyEnd, "", "raised link.sink-refused"},
		"own key":     {device.OwnKey, "", "raised link.sink-down"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(sc *scene) { sc.s.set(row.cause) }, func(sc *scene) {
				sc.pass(10 * time.Second)
				if got := sc.m.findings(t); got != row.early {
					t.Errorf("after ten seconds: %s, want %s", got, row.early)
				}
				sc.pass(3 * time.Minute)
				if got := sc.m.findings(t); got != row.later {
					t.Errorf("after three minutes: %s, want %s", got, row.later)
				}
				if s := sc.sink.Status(); s.State != "connecting" || s.Behind != sc.m.Newest() || !strings.Contains(s.Error, row.cause.String()) {
					t.Errorf("status %+v", s)
				}
				sc.s.set(0)
				sc.pass(2 * time.Minute)
				if got := sc.m.findings(t); got != row.later+strings.Replace(row.later, "raised", ", cleared", 1) {
					t.Errorf("a connection stands: %s", got)
				}
			})
		})
	}
}

// A server that lets a connection stand for a moment and then refuses is one
// condition, not one at each attempt.
//
// Verifies: SR-071
func TestRefusalAfterTheHandshake(t *testing.T) {
	run(t, nil, func(sc *scene) {
		sc.m.add(t, 1)
		for range 600 {
			sc.pass(time.Second)
			sc.s.cut(device.Refused)
		}
		sc.pass(0)
		if s := sc.sink.Status(); s.Sent != 0 || s.Behind != 2 {
			t.Errorf("what a server refused counts as sent: %+v", s)
		}
		if got := sc.m.findings(t); got != "raised link.sink-refused" {
			t.Errorf("recorded %s", got)
		}
		if sc.s.attempts() > 60 {
			t.Errorf("%d attempts in ten minutes", sc.s.attempts())
		}
		sc.pass(2 * time.Minute)
		if got := sc.m.findings(t); got != "raised link.sink-refused, cleared link.sink-refused" {
			t.Errorf("recorded %s", got)
		}
	})
}

// A short cut is no finding.
func TestShortCut(t *testing.T) {
	run(t, nil, func(sc *scene) {
		sc.pass(time.Hour)
		sc.s.set(device.Unreachable)
		sc.s.cut(device.Unreachable)
		sc.pass(30 * time.Second)
		sc.s.set(0)
		sc.pass(time.Minute)
		if got := sc.m.findings(t); got != "" {
			t.Errorf("recorded %s", got)
		}
	})
}

// Without an identity a sink waits, and the identity's own findings say why; anchors
// that cannot be used are a finding of the sink.
func TestCredentials(t *testing.T) {
	run(t, func(sc *scene) { sc.who.none.Store(true); sc.m.add(t, 1) }, func(sc *scene) {
		sc.pass(time.Hour)
		if s := sc.sink.Status(); s.State != "no-identity" || sc.s.attempts() != 0 || sc.m.findings(t) != "" {
			t.Errorf("status %+v, %d attempts, recorded %s", s, sc.s.attempts(), sc.m.findings(t))
		}
		sc.who.none.Store(false)
		sc.pass(time.Minute)
		if got := sequence(sc.s.got()); got != "1" {
			t.Errorf("got %s", got)
		}
	})
	run(t, func(sc *scene) { sc.who.err = errors.New("bad.pem: not a certificate") }, func(sc *scene) {
		sc.pass(time.Minute)
		if got := sc.m.findings(t); got != "raised link.sink-untrusted" || sc.s.attempts() != 0 {
			t.Errorf("recorded %s, %d attempts", got, sc.s.attempts())
		}
	})
}

// A journal that cannot be read for a while is no end of the connection.
func TestJournalThatFails(t *testing.T) {
	run(t, func(sc *scene) { sc.m.add(t, 2); sc.m.fail = errors.New("the disk is gone") }, func(sc *scene) {
		sc.pass(time.Minute)
		sc.m.mu.Lock()
		sc.m.fail = nil
		sc.m.mu.Unlock()
		sc.pass(5 * time.Second)
		if got := sequence(sc.s.got()); got != "1 2" || sc.s.attempts() != 1 {
			t.Errorf("got %s by %d connections", got, sc.s.attempts())
		}
	})
}

// The cursor outlives the daemon; it is written seldom and at a clean end, and stands
// behind what no end of the connection takes back.
//
// Verifies: SR-071
func TestCursorOutlivesTheDaemon(t *testing.T) {
	run(t, nil, func(sc *scene) {
		dir := sc.config.State
		sc.m.add(t, 3)
		sc.pass(5 * time.Minute)
		if got := stateFiles(t, dir); got != "" {
			t.Errorf("after five minutes: %s", got)
		}
		sc.pass(6 * time.Minute)
		const want = `{"sink":"` + name + `","device":"pump-1","epoch":1,"sequence":3}` + "\n"
		if got := stateFiles(t, dir); got != want {
			t.Errorf("after eleven minutes: %s", got)
		}
		sc.m.add(t, 1)
		sc.pass(2 * time.Minute)
		sc.m.add(t, 1)
		sc.pass(time.Second)
		sc.stop()
		if got := stateFiles(t, dir); got != strings.Replace(want, `"sequence":3`, `"sequence":4`, 1) {
			t.Errorf("at the end: %s", got)
		}
		before := len(sc.s.got())
		sc.start()
		sc.pass(time.Minute)
		if got := sequence(sc.s.got()[before:]); got != "5" {
			t.Errorf("begun again: %s", got)
		}
	})
}

// A cursor that is no place in this journal is not used, and what it means is told.
//
// Verifies: SR-072
func TestCursorOfAnotherPlace(t *testing.T) {
	const (
		good  = `{"sink":"` + name + `","device":"pump-1","epoch":1,"sequence":2}`
		short = "ward.sink.skipped: record 9 of epoch 1 was sent, and the record ends with 4: it was shortened, or an older copy was put in its place"
		begun = "ward.sink.skipped: the record of epoch 7 was begun anew as epoch 1: how many records came behind record 2 is not known"
	)
	for title, row := range map[string]struct{ state, want, recorded string }{
		"good":           {good, "3 4", ""},
		"another epoch":  {strings.Replace(good, `"epoch":1`, `"epoch":7`, 1), begun + " 1 2 3 4", "incident link.sink-gap"},
		"another device": {strings.Replace(good, "pump-1", "pump-2", 1), "1 2 3 4", ""},
		"another sink":   {strings.Replace(good, "6514", "6515", 1), "1 2 3 4", ""},
		"damaged":        {good[:20], "1 2 3 4", ""},
		"empty":          {"", "1 2 3 4", ""},
		"ahead":          {strings.Replace(good, `"sequence":2`, `"sequence":9`, 1), short + " 1 2 3 4", "incident link.sink-gap"},
	} {
		t.Run(title, func(t *testing.T) {
			run(t, func(sc *scene) {
				sc.m.add(t, 4)
				sc.start() // makes the file, whose name is the role's own
				sc.pass(2 * time.Minute)
				sc.stop()
				files, err := filepath.Glob(filepath.Join(sc.config.State, "*.json"))
				if err != nil || len(files) != 1 {
					t.Fatalf("%v, %v", files, err)
				}
				if err := os.WriteFile(files[0], []byte(row.state), 0o600); err != nil {
					t.Fatal(err)
				}
				sc.s.stored, sc.s.at, sc.s.conns = nil, nil, nil
			}, func(sc *scene) {
				sc.pass(3 * time.Second)
				want := row.want
				if row.recorded != "" {
					want += " 5" // the gap itself
				}
				if got := sequence(sc.s.got()); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				if got := sc.m.findings(t); got != row.recorded {
					t.Errorf("recorded %s", got)
				}
			})
		})
	}
}

// A sink without a folder keeps no cursor.
func TestNoFolder(t *testing.T) {
	run(t, func(sc *scene) { sc.config.State = ""; sc.m.add(t, 2) }, func(sc *scene) {
		sc.pass(20 * time.Minute)
		sc.stop()
		sc.start()
		sc.pass(time.Second)
		if got := sequence(sc.s.got()); got != "1 2 1 2" {
			t.Errorf("got %s", got)
		}
	})
}

// What was recorded until the stop still goes out.
func TestFarewell(t *testing.T) {
	run(t, nil, func(sc *scene) {
		sc.pass(time.Minute)
		sc.m.add(t, 3)
		sc.stop()
		if got := sequence(sc.s.got()); got != "1 2 3" {
			t.Errorf("got %s", got)
		}
	})
}
