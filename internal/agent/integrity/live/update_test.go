package live_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/agent/integrity/live"
	"ward/internal/device/fanotify"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

// updater is a program of the release, as it runs.
func updater(t *testing.T, text string) fanotify.Origin {
	t.Helper()
	name := filepath.Join(t.TempDir(), "updater")
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return fanotify.Origin{PID: 77, Exe: name, Device: uint64(st.Dev), Inode: uint64(st.Ino)}
}

// withUpdater begins a scene in which by may write beneath /slot and to /dev/slot-b.
func withUpdater(by fanotify.Origin, released string) func(*scene) {
	return func(s *scene) {
		s.files[by.Exe] = file(by.Exe, released)
		s.files["/slot"] = folder("/slot", 0)
		s.policy.Writers = []watch.Writer{{Program: by.Exe, Paths: []string{"/slot", "/dev/slot-b"}}}
	}
}

func (s *scene) write(name string, by fanotify.Origin) {
	s.kernel.say(fanotify.Event{What: fanotify.Modified | fanotify.Written, Path: name, Origin: by})
}

func (s *scene) update() (u live.Update, found bool) {
	e, _, found := s.journal.find(func(e event.Event) bool { return e.Type == event.IntegrityUpdate })
	if found {
		if err := json.Unmarshal(e.Report, &u); err != nil {
			s.t.Error(err)
		}
	}
	return u, found
}

// Verifies: SR-090
func TestUpdateIsOneEvent(t *testing.T) {
	by := updater(t, "rauc")
	play(t, withUpdater(by, "rauc"), func(s *scene) {
		for i := range 1000 {
			s.write(fmt.Sprintf("/slot/file-%d", i%10), by)
			pass(20 * time.Millisecond)
		}
		s.write("/dev/slot-b", by)
		s.kernel.say(fanotify.Event{What: fanotify.Created, Path: "/slot/x", Origin: fanotify.Origin{PID: 78}}) // its child had ended
		pass(29 * time.Second)
		s.want()
		pass(2 * time.Second)
		u, _ := s.update()
		if u.Program != by.Exe || u.Changes != 1002 || u.Files != 12 || !u.Ended || u.Unattributed != 1 || u.Last.Sub(u.First) < 19*time.Second {
			t.Errorf("%+v", u)
		}
		s.canary()
		s.want("ward.integrity.update " + by.Exe)
		if len(s.looks) != 0 {
			t.Errorf("looked at %v", s.looks)
		}
	})
}

func TestLongUpdateIsToldBeforeItsEnd(t *testing.T) {
	by := updater(t, "rauc")
	play(t, withUpdater(by, "rauc"), func(s *scene) {
		for range 65 {
			s.write("/dev/slot-b", by)
			pass(10 * time.Second)
			s.canary()
		}
		u, found := s.update()
		if !found || u.Ended || u.Changes < 59 || u.Changes > 62 {
			t.Errorf("%v %+v", found, u)
		}
	})
}

// Another program at the same place is told, and so is the updater itself when it is
// not as it was released.
//
// Verifies: SR-090
func TestForeignWriter(t *testing.T) {
	by := updater(t, "rauc")
	other := fanotify.Origin{PID: 12, Exe: "/secret/tool", UID: 0}
	twin := by
	twin.Inode++ // another file at the same path of another mount namespace
	for _, row := range []struct {
		title    string
		by       fanotify.Origin
		released string
		name     string
		told     bool
	}{
		{"another program", other, "rauc", "/slot/file", true},
		{"another program at the device", other, "rauc", "/dev/slot-b", true},
		{"an updater that was changed", by, "other", "/slot/file", true},
		{"a file that is named like the updater", twin, "rauc", "/slot/file", true},
		{"nobody knows who", fanotify.Origin{PID: 5}, "rauc", "/slot/file", true},
		{"the updater", by, "rauc", "/slot/file", false},
		{"another place", other, "rauc", "/slot-not/file", false},
	} {
		play(t, withUpdater(by, row.released), func(s *scene) {
			s.write(row.name, row.by)
			synctest.Wait()
			e, _, told := s.journal.find(func(e event.Event) bool { return e.Finding != nil && e.Finding.Code == finding.WatchForeignWriter })
			if told != row.told {
				t.Errorf("%s: told %v", row.title, told)
			}
			if told && (e.Subject != row.name || strings.Contains(fmt.Sprint(*e.Finding), "secret")) {
				t.Errorf("%s: %+v", row.title, e.Finding)
			}
			s.write(row.name, row.by)
			synctest.Wait()
			n := 0
			for _, line := range s.journal.said() {
				if strings.Contains(line, "watch.foreign-writer") {
					n++
				}
			}
			if n > 1 {
				t.Errorf("%s: told %d times", row.title, n)
			}
		})
	}
}

// A node that comes, goes or is opened is no writing.
func TestDeviceNodesThatComeAndGo(t *testing.T) {
	by := updater(t, "rauc")
	play(t, withUpdater(by, "rauc"), func(s *scene) {
		for _, what := range []fanotify.What{fanotify.Created, fanotify.Deleted, fanotify.Attributes, fanotify.Written} {
			s.kernel.say(fanotify.Event{What: what, Path: "/dev/slot-b", Origin: fanotify.Origin{PID: 3, Exe: "/usr/bin/udevd"}})
		}
		pass(time.Second)
		s.want()
	})
}
