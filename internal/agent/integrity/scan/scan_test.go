package scan_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/agent/integrity/scan"
	"ward/internal/trust/baseline"
	"ward/internal/trust/watch"
)

// A scan begins some minutes behind the start, then at its time, and at once when
// it is asked for.
//
// Verifies: SR-082
func TestSchedule(t *testing.T) {
	play(t, small, func(s *scene) { s.policy.Scan.EverySeconds = 3600 }, func(s *scene) {
		pass(4 * time.Minute)
		s.want()
		pass(2 * time.Minute)
		s.want("scan scheduled clean")
		pass(58 * time.Minute)
		s.want()
		pass(2 * time.Minute)
		s.want("scan scheduled clean")
		s.scanner.Ask(false)
		pass(time.Second)
		s.want("scan asked clean")
		s.scanner.Trigger(scan.Overflow)
		s.scanner.Trigger(scan.Canary)
		pass(5 * time.Minute)
		s.want() // one has just ended
		pass(6 * time.Minute)
		s.want("scan overflow clean")
		pass(40 * time.Minute)
		s.scanner.Trigger(scan.Update)
		pass(time.Second)
		s.want("scan update clean")
	})
}

// Verifies: SR-082
func TestScheduleOverRestarts(t *testing.T) {
	play(t, small, func(s *scene) { s.policy.Scan.EverySeconds = 3600 }, func(s *scene) {
		pass(10 * time.Minute)
		s.want("scan scheduled clean")
		s.stop()
		s.start()
		pass(30 * time.Minute) // the boot's scan was made
		s.want()
		pass(30 * time.Minute)
		s.want("scan scheduled clean")
		s.reboot("two")
		pass(6 * time.Minute)
		s.want("scan scheduled clean")
	})
}

// Verifies: SR-081 SR-082
func TestDifferencesAreTold(t *testing.T) {
	flags := map[string]baseline.Flags{"/bin/pump": baseline.Exec, "/etc/pump.conf": baseline.Config, "/log": baseline.Mutable, "/log/now": baseline.Mutable}
	files := map[string]string{"bin/pump": "pump", "bin/other": "other", "etc/pump.conf": "rate 50", "etc/empty": "", "lib/a/b": "b", "log/now": "1"}
	for _, tt := range []struct {
		name string
		edit func(root string) error
		want []string
	}{
		{"nothing", func(string) error { return nil }, nil},
		{"a program of the same size", func(root string) error { return os.WriteFile(root+"/bin/pump", []byte("pumP"), 0o644) }, []string{"file.changed /bin/pump"}},
		{"a program of another size", func(root string) error { return os.WriteFile(root+"/bin/pump", []byte("p"), 0o644) }, []string{"file.changed /bin/pump"}},
		{"settings", func(root string) error { return os.WriteFile(root+"/etc/pump.conf", []byte("rate 99"), 0o644) }, []string{"file.config-changed /etc/pump.conf"}},
		{"rights", func(root string) error { return os.Chmod(root+"/bin/pump", 0o666) }, []string{"file.attributes-changed /bin/pump"}},
		{"set-uid", func(root string) error { return unix.Chmod(root+"/bin/pump", 0o4755) }, []string{"file.new-setuid /bin/pump"}},
		{"missing", func(root string) error { return os.Remove(root + "/etc/empty") }, []string{"file.missing /etc/empty"}},
		{"a missing folder", func(root string) error { return os.RemoveAll(root + "/lib/a") }, []string{"file.missing /lib/a", "file.missing /lib/a/b"}},
		{"a file that became a link", func(root string) error {
			_ = os.Remove(root + "/bin/pump")
			return os.Symlink("other", root+"/bin/pump")
		}, []string{"file.changed /bin/pump"}},
		{"a file that became a pipe", func(root string) error {
			_ = os.Remove(root + "/bin/pump")
			return unix.Mkfifo(root+"/bin/pump", 0o644)
		}, []string{"file.changed /bin/pump"}},
		{"a new file", func(root string) error { return os.WriteFile(root+"/bin/new\nname\xff", nil, 0o644) }, []string{"file.new hidden"}},
		{"a new set-uid file where files may come", func(root string) error {
			if err := os.WriteFile(root+"/log/x", nil, 0o644); err != nil {
				return err
			}
			return unix.Chmod(root+"/log/x", 0o4755)
		}, []string{"file.new-setuid hidden"}},
		{"a log", func(root string) error {
			plantOr(root+"/log/then", "2")
			return os.WriteFile(root+"/log/now", []byte("12345"), 0o644)
		}, nil},
		{"a new file in an ignored folder", func(root string) error { return os.WriteFile(root+"/lib/a/x", nil, 0o644) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, files, func(s *scene) {
				s.policy.Ignore = []string{"/lib"}
				s.files = released(t, s.root, flags)
				s.config = func(c *scan.Config) { c.Hide = func(string) string { return "hidden" } }
				if err := tt.edit(s.root); err != nil {
					t.Fatal(err)
				}
			}, func(s *scene) {
				pass(6 * time.Minute)
				var want []string
				for _, w := range tt.want {
					want = append(want, "incident "+w)
				}
				if tt.want == nil {
					want = append(want, "scan scheduled clean")
				} else {
					want = append(want, "raised files.differ files", "scan scheduled differs")
				}
				s.want(want...)
				// A second scan tells no incident again.
				s.scanner.Ask(false)
				pass(time.Minute)
				if got := s.journal.said(); len(got) != 1 {
					t.Errorf("%q", got)
				}
				if tt.want == nil {
					return
				}
				// The release's state is told as such.
				if err := os.RemoveAll(s.root); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(s.root, 0o755); err != nil {
					t.Fatal(err)
				}
				plant(t, s.root, files)
				s.scanner.Ask(false)
				pass(time.Minute)
				s.want("cleared files.differ files", "scan asked clean")
			})
		})
	}
}

func plantOr(path, text string) { _ = os.WriteFile(path, []byte(text), 0o644) }

// What was found in the boot before holds on until somebody has looked again.
//
// Verifies: SR-082
func TestDifferencesHoldOverABoot(t *testing.T) {
	play(t, small, nil, func(s *scene) {
		plant(t, s.root, map[string]string{"bin/pump": "PUMP"})
		pass(6 * time.Minute)
		s.want("incident file.changed /bin/pump", "raised files.differ files", "scan scheduled differs")
		s.stop()
		s.start() // the condition of this boot is in the journal
		pass(time.Minute)
		s.want()
		s.reboot("two")
		pass(time.Second)
		s.want("raised files.differ files")
		plant(t, s.root, map[string]string{"bin/pump": "pump"})
		pass(6 * time.Minute)
		s.want("cleared files.differ files", "scan scheduled clean")
	})
}

// Therapy holds a scan off in the middle of a file; what it holds off for too long
// is told, and it goes on where it was.
//
// Verifies: SR-083
func TestLeasePausesAScan(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 128<<10) // 2 MiB
	play(t, map[string]string{"a": "a", "b": big, "c": "c"}, func(s *scene) {
		s.policy.Scan = watch.Scan{EverySeconds: 86400, CPUPercent: 100, ReadKiBPerSecond: 64, OverdueSeconds: 7200}
	}, func(s *scene) {
		pass(5*time.Minute + 10*time.Second)
		if st := s.scanner.Status(); st.State != scan.Scanning {
			t.Fatalf("%+v", st)
		}
		s.lease.set(true)
		pass(10 * time.Second)
		before := s.scanner.Status()
		if before.State != scan.Paused {
			t.Fatalf("%+v", before)
		}
		pass(time.Hour)
		if st := s.scanner.Status(); st.State != scan.Paused || st.Counts != before.Counts {
			t.Errorf("%+v", st)
		}
		s.want()
		pass(time.Hour)
		s.want("raised scan.overdue scan")
		s.lease.set(false)
		pass(time.Minute)
		if got := s.journal.said(); !slices.Equal(got, []string{"cleared scan.overdue scan", "scan scheduled clean"}) {
			t.Errorf("%q", got)
		}
		if st := s.scanner.Status(); st.Last == nil || st.Last.PausedSeconds < 7100 || st.Last.PausedSeconds > 7300 {
			t.Errorf("%+v", st.Last)
		}
	})
}

// A scan that a lease or a restart holds off for ever is overdue over restarts and
// boots, too.
//
// Verifies: SR-083
func TestOverdueOverRestartsAndBoots(t *testing.T) {
	play(t, small, func(s *scene) {
		s.files = nil
		s.policy.Scan.OverdueSeconds = 8 * 3600
	}, func(s *scene) {
		pass(3 * time.Hour)
		if st := s.scanner.Status(); st.State != scan.NoBaseline || st.Detail == "" {
			t.Errorf("%+v", st)
		}
		s.stop()
		s.start()
		pass(3 * time.Hour)
		s.reboot("two")
		pass(90 * time.Minute)
		s.want()
		pass(time.Hour)
		s.want("raised scan.overdue scan")
		s.stop()
		s.start()
		pass(time.Hour)
		s.want() // it is in the journal of this boot
		s.reboot("three")
		pass(time.Minute)
		s.want("raised scan.overdue scan")
		s.files = released(t, s.root, nil)
		pass(6 * time.Minute)
		s.want("cleared scan.overdue scan", "scan scheduled clean")
	})
}

// What is read in a time is bounded, and so is the processor's share.
//
// Verifies: SR-083
func TestBudgets(t *testing.T) {
	files := map[string]string{}
	for i := range 64 {
		files[fmt.Sprintf("f%d", i)] = strings.Repeat("x", 64<<10)
	}
	for _, tt := range []struct {
		scan        watch.Scan
		least, most float64 // seconds for 4 MiB
	}{
		{watch.Scan{CPUPercent: 100, ReadKiBPerSecond: 256, EverySeconds: 86400, OverdueSeconds: 86400}, 14, 18},
		{watch.Scan{CPUPercent: 100, ReadKiBPerSecond: 1024, EverySeconds: 86400, OverdueSeconds: 86400}, 3, 5},
		// Less than the 4 MiB cost on any machine at all; the clock of the bubble stands
		// still while the processor works.
		{watch.Scan{CPUPercent: 1, ReadKiBPerSecond: 1 << 22, EverySeconds: 86400, OverdueSeconds: 86400}, 0.05, 1e6},
	} {
		play(t, files, func(s *scene) { s.policy.Scan = tt.scan }, func(s *scene) {
			s.scanner.Ask(false)
			pass(time.Hour)
			s.want("scan asked clean")
			if st := s.scanner.Status(); st.Last.Seconds < tt.least || st.Last.Seconds > tt.most {
				t.Errorf("%+v: %.2f s", tt.scan, st.Last.Seconds)
			}
		})
	}
}

// A restart in the same boot goes on; another boot, another release and a wish for
// a full scan begin anew.
//
// Verifies: SR-082
func TestGoesOn(t *testing.T) {
	files := map[string]string{}
	for i := range 100 {
		files[fmt.Sprintf("d%d/f%02d", i%7, i)] = strings.Repeat("x", 64<<10)
	}
	begin := func(s *scene) {
		s.policy.Scan = watch.Scan{EverySeconds: 86400, CPUPercent: 100, ReadKiBPerSecond: 64, OverdueSeconds: 86400}
	}
	for _, tt := range []struct {
		name    string
		between func(*scene)
		resumes bool
	}{
		{"a restart", func(s *scene) { s.start() }, true},
		{"another boot", func(s *scene) { s.boot = "two"; s.start() }, false},
		{"another release", func(s *scene) {
			s.files = released(t, s.root, map[string]baseline.Flags{"/d0": baseline.Config})
			s.start()
		}, false},
		{"a full scan", func(s *scene) { s.start(); s.scanner.Ask(true) }, false},
		{"a state that is no JSON", func(s *scene) { _ = os.WriteFile(s.state, []byte("{"), 0o600); s.start() }, false},
		{"a state of nonsense", func(s *scene) {
			b, _ := os.ReadFile(s.state)
			_ = os.WriteFile(s.state, []byte(strings.Replace(string(b), `"position":"/`, `"position":"`, 1)), 0o600)
			s.start()
		}, false},
		{"a state of a later time", func(s *scene) {
			b, _ := os.ReadFile(s.state)
			_ = os.WriteFile(s.state, []byte(strings.Replace(string(b), `"at":`, `"at":9`, 1)), 0o600)
			s.start()
		}, false},
		{"no state", func(s *scene) { _ = os.Remove(s.state); s.start() }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, files, begin, func(s *scene) {
				pass(5*time.Minute + 45*time.Second)
				s.stop()
				if st := s.scanner.Status(); st.Counts.Files < 20 || st.Counts.Files > 80 {
					t.Fatalf("%+v", st.Counts)
				}
				tt.between(s)
				resumed := false
				for range 60 {
					pass(10 * time.Second)
					resumed = resumed || s.scanner.Status().Resumed
				}
				if resumed != tt.resumes {
					t.Errorf("resumed %t", resumed)
				}
				st := s.scanner.Status()
				if st.Last == nil || st.Last.Verdict != scan.Clean || st.Last.Files != 100 || st.Last.ByHash != 100 {
					t.Errorf("%+v", st.Last)
				}
			})
		})
	}
}

// What dm-verity proves is not read again, unless somebody asks for it.
//
// Verifies: SR-081
func TestTrustOrder(t *testing.T) {
	play(t, small, func(s *scene) {
		s.config = func(c *scan.Config) { c.Vouched = func(baseline.Device) bool { return true } }
	}, func(s *scene) {
		plant(t, s.root, map[string]string{"bin/pump": "PUMP"}) // as nothing could on such a file system
		if err := os.Chmod(s.root+"/etc/empty", 0o600); err != nil {
			t.Fatal(err)
		}
		s.scanner.Ask(false)
		pass(time.Minute)
		s.want("incident file.attributes-changed /etc/empty", "raised files.differ files", "scan asked differs")
		if l := s.scanner.Status().Last; l.ByRootHash != 3 || l.Hashed != 0 || len(l.Mounts) != 1 || l.Mounts[0] != (scan.Mount{Path: "/", Trust: scan.ByRootHash}) {
			t.Errorf("%+v", l)
		}
		s.scanner.Ask(true)
		pass(time.Minute)
		s.want("incident file.changed /bin/pump", "raised files.differ files", "scan asked differs")
		if l := s.scanner.Status().Last; !l.Full || l.ByHash != 3 || l.Changed != 2 {
			t.Errorf("%+v", l)
		}
	})
}

// A planted identifier in the name of a file that the release does not have is in
// no event.
//
// Verifies: SR-085
func TestUnreleasedNamesStayOnTheDevice(t *testing.T) {
	const name = "Mustermann-Erika-19640812"
	play(t, small, func(s *scene) {
		s.config = func(c *scan.Config) {
			c.Hide = func(path string) string {
				if !strings.Contains(path, name) {
					t.Errorf("%q is hidden", path)
				}
				return "/~0123456789ab"
			}
			c.Read = func(fd int, b []byte, at int64) (int, error) { return 0, unix.EIO }
		}
		plant(t, s.root, map[string]string{"bin/" + name: "x", name + "/y": "z", "etc/x": ""})
		s.files = released(t, s.root, nil)
		for _, path := range []string{"bin/" + name, name, "etc/x"} {
			if err := os.RemoveAll(s.root + "/" + path); err != nil {
				t.Fatal(err)
			}
		}
		s.files = released(t, s.root, nil)
		plant(t, s.root, map[string]string{"bin/" + name: "x", name + "/y": "z"})
		if err := os.Symlink(name, s.root+"/lib/"+name); err != nil {
			t.Fatal(err)
		}
	}, func(s *scene) {
		pass(6 * time.Minute)
		if len(s.journal.events) < 5 {
			t.Errorf("only %d events", len(s.journal.events))
		}
		for _, e := range s.journal.events {
			if b, err := json.Marshal(e); err != nil || strings.Contains(string(b), name) {
				t.Errorf("%s, %v", b, err)
			}
		}
		if st := s.scanner.Status(); strings.Contains(fmt.Sprintf("%+v", st.Where), name) {
			t.Errorf("%+v", st)
		}
	})
}
