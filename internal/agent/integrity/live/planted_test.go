package live_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ward/internal/agent/names"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Names says whether the release names a path.
func (r release) Names(path string) bool {
	_, ok := r[path]
	return ok
}

// A patient's name in the names of files, folders, programs and mounts, and in
// arguments, is in nothing that is recorded, and so in nothing that leaves the device;
// the device itself knows what each hidden name stands for.
//
// Verifies: SR-089
func TestPlantedIdentifiers(t *testing.T) {
	d := boot(t)
	const patient = "Mustermann"
	secret := filepath.Join(d.dir, patient+" Erika 1964-08-12")
	n := names.Open(names.Config{State: t.TempDir(), Files: func() names.Files { return d.files }})
	d.hide = n.Hide
	if err := os.MkdirAll(filepath.Join(secret, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.run()
	tool := filepath.Join(secret, patient+"-tool")
	command(t, "cp", "/bin/cp", tool)
	if err := os.WriteFile(tool, append(read(t, tool), 'x'), 0o755); err != nil {
		t.Fatal(err)
	}
	suid := filepath.Join(secret, "deep", "line\nbreak "+patient)
	command(t, tool, "/bin/true", suid)
	command(t, "chmod", "4755", suid)
	d.wait("the program", func(e event.Event) bool {
		return is(finding.ExecUnknownFile, "")(e) && e.Finding.Path == n.Hide(tool)
	})
	d.wait("the set-uid file", func(e event.Event) bool {
		return is(finding.FileNewSetuid, "")(e) && e.Finding.Path == n.Hide(suid)
	})
	d.stop()
	d.journal.mu.Lock()
	defer d.journal.mu.Unlock()
	if len(d.journal.events) < 2 {
		t.Fatalf("%d events", len(d.journal.events))
	}
	for i, e := range d.journal.events {
		b, err := event.Encode(e, event.Stamp{Source: event.Source{Tenant: "t", Device: "d"}, Epoch: 1, Sequence: uint64(i + 1), Boot: "b", Monotonic: time.Second, Prev: chain.Hash{}})
		if err != nil {
			t.Fatal(err)
		}
		for _, planted := range []string{patient, "Erika", "1964-08-12"} {
			if bytes.Contains(b, []byte(planted)) {
				t.Errorf("%q leaves the device: %s", planted, b)
			}
		}
	}
	for _, path := range []string{tool, suid} {
		if clear, ok := n.Reveal(n.Hide(path)); !ok || clear != path {
			t.Errorf("%q is revealed as %q", path, clear)
		}
	}
}
