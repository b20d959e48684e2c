// Package archive takes the journal of a running virtual device to the host and
// back, and rewrites it there as somebody does who is root on the device: with
// checksums, hashes and state file made anew. It is the attacker of the drills
// about the record (blueprint, section 12).
package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ward/internal/lab/control"
	"ward/internal/lab/vm"
)

// Folder is where the device's journal lies.
const Folder = "/var/lib/ward/journal"

// owner is wardd's user and group on the virtual device.
const owner = 900

// names lists the plain files of the journal on the device.
func names(ctx context.Context, m *vm.VM) ([]string, error) {
	r, err := m.Run(ctx, "/usr/bin/ls", Folder)
	if err != nil {
		return nil, err
	}
	if r.Exit != 0 {
		return nil, fmt.Errorf("list %s in the device: %s", Folder, r.Stderr)
	}
	var out []string
	for _, name := range strings.Fields(string(r.Stdout)) {
		if strings.HasSuffix(name, ".wal") || strings.HasSuffix(name, ".json") {
			out = append(out, name)
		}
	}
	return out, nil
}

// Pull copies the device's journal into a new folder of the host.
func Pull(ctx context.Context, m *vm.VM, dir string) error {
	all, err := names(ctx, m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range all {
		b, err := m.Pull(ctx, Folder+"/"+name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Push replaces the device's journal by that of a folder of the host. The daemon
// must not be running.
func Push(ctx context.Context, m *vm.VM, dir string) error {
	old, err := names(ctx, m)
	if err != nil {
		return err
	}
	for _, name := range old {
		if r, err := m.Run(ctx, "/usr/bin/rm", Folder+"/"+name); err != nil || r.Exit != 0 {
			return errors.Join(err, fmt.Errorf("remove %s in the device: %s", name, r.Stderr))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		put := &control.Put{Path: Folder + "/" + e.Name(), Mode: 0o600, UID: owner, GID: owner, Data: b}
		if _, err := m.Do(ctx, control.Request{Put: put}); err != nil {
			return fmt.Errorf("put %s: %w", e.Name(), err)
		}
	}
	return nil
}
