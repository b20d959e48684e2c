package idstore_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/agent/identity/idstore"
	"ward/internal/trust/enrolment"
)

// A power cut after any change of the disk leaves what was before the operation
// or what comes after it, and the operation can be done again. The copy of the
// folder is the disk after the cut.
//
// Verifies: SR-047
func TestPowerCuts(t *testing.T) {
	one, two := newKey(t), newKey(t)
	crl, srk := revocations(t), device(t)
	newest := func(s *idstore.Store) idstore.Generation {
		all, err := s.Generations(enrolment.Reporting)
		must(t, err)
		return all[0]
	}
	operations := []struct {
		name string
		do   func(*idstore.Store) error
	}{
		{"device", func(s *idstore.Store) error { return s.SetDevice(srk) }},
		{"auth", func(s *idstore.Store) error { return s.SetAuth("journal", bytes.Repeat([]byte{3}, 32)) }},
		{"first key", func(s *idstore.Store) error { _, err := s.Add(enrolment.Reporting, one.file); return err }},
		{"first chain", func(s *idstore.Store) error { return s.SetChain(newest(s), one.chain) }},
		{"first connected", func(s *idstore.Store) error { return s.SetConnected(newest(s)) }},
		{"secret", func(s *idstore.Store) error { return s.SetSecret("db", sealed()) }},
		{"second key", func(s *idstore.Store) error { _, err := s.Add(enrolment.Reporting, two.file); return err }},
		{"second chain", func(s *idstore.Store) error { return s.SetChain(newest(s), two.chain) }},
		{"second connected", func(s *idstore.Store) error { return s.SetConnected(newest(s)) }},
		{"prune", func(s *idstore.Store) error { return s.Prune(enrolment.Reporting) }},
		{"revocations", func(s *idstore.Store) error { return s.SetCRL(crl) }},
		{"roots", func(s *idstore.Store) error { return s.SetRoots(one.chain) }},
		{"floor", func(s *idstore.Store) error { return s.SetFloor(made) }},
		{"wipe", func(s *idstore.Store) error { return s.Wipe() }},
	}
	dir := t.TempDir()
	s := idstore.Open(dir)
	cuts := 0
	for _, o := range operations {
		t.Run(o.name, func(t *testing.T) {
			before := dump(s)
			type cut struct{ step, dir string }
			var cutsHere []cut
			s.SetStep(func(step string) {
				c := filepath.Join(t.TempDir(), "disk")
				must(t, os.CopyFS(c, os.DirFS(dir)))
				cutsHere = append(cutsHere, cut{step, c})
			})
			must(t, o.do(s))
			s.SetStep(nil)
			after := dump(s)
			if len(cutsHere) < 3 {
				t.Fatalf("%d steps are too few to be all", len(cutsHere))
			}
			for _, c := range cutsHere {
				left := idstore.Open(c.dir)
				got := dump(left)
				if o.name == "wipe" {
					got = before // what a wipe leaves is gone at the next
				}
				if got != before && got != after {
					t.Errorf("cut after %q leaves\n%swhich is neither\n%snor\n%s", c.step, got, before, after)
				}
				if strings.HasPrefix(o.name, "second") && !strings.Contains(got, "1 "+tail(one)+" chain 1 connected true") {
					t.Errorf("cut after %q loses the key that works:\n%s", c.step, got)
				}
				if got == before {
					if err := o.do(left); err != nil {
						t.Errorf("cut after %q, done again: %v", c.step, err)
					} else if again := dump(left); again != after {
						t.Errorf("cut after %q, done again, gives\n%swant\n%s", c.step, again, after)
					}
				}
				must(t, left.Prune(enrolment.Reporting))
				for _, name := range leftovers(t, filepath.Join(c.dir, idstore.Folder, "reporting")) {
					t.Errorf("cut after %q leaves %s", c.step, name)
				}
			}
			cuts += len(cutsHere)
		})
	}
	t.Logf("%d cuts", cuts)
}

func tail(k testKey) string { return fmt.Sprintf("%x", k.file.Public[len(k.file.Public)-4:]) }

// leftovers are the folders that are no generations.
func leftovers(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	must(t, err)
	var all []string
	for _, e := range entries {
		if len(e.Name()) != 4 {
			all = append(all, e.Name())
		}
	}
	return all
}
