// Package running is the part of wardrelease about the running device: what posture a
// release expects, and how its devices are watched. Both travel in the manifest; they
// come from files (JSON, or TOML as in a board profile's [posture] and [watch]) or from
// the board profile itself.
package running

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"ward/cmd/wardrelease/disk"
	"ward/internal/trust/posture"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
	"ward/internal/trust/watch"
)

// Bounds of files, in bytes.
const (
	maxPolicy = 1 << 20 // 128 rules of long values
	maxClaims = 8 << 20 // what wardctl prints of one device
)

// Tables are the parts of a board profile about the running device, each with the
// keys of the manifest.
type Tables struct {
	Posture *posture.Policy `toml:"posture"`
	Watch   *watch.Policy   `toml:"watch"`
}

// Known says that a key of a profile, which nothing has read, is none of these parts.
func Known(key toml.Key) bool { return key[0] != "posture" && key[0] != "watch" }

// Flags say where the parts come from.
type Flags struct{ posture, watch string }

// Register adds the flags.
func (f *Flags) Register(flags *pflag.FlagSet) {
	flags.StringVar(&f.posture, "posture", "", "what the release expects of the running system, `FILE` in JSON or TOML as posture writes it (default: the board profile's [posture])")
	flags.StringVar(&f.watch, "watch", "", "how its devices are watched, `FILE` in JSON, or TOML with a table [watch] (default: the board profile's [watch])")
}

// Read gives both parts, nil where neither flag nor board says anything. The root
// hash of the release takes its place in the rules.
func (f *Flags) Read(board Tables, rootHash release.Digest) (*posture.Policy, *watch.Policy, error) {
	if f.posture != "" {
		t, err := readTables(f.posture, func(t *Tables) any { t.Posture = new(posture.Policy); return t.Posture })
		if err != nil {
			return nil, nil, err
		}
		if board.Posture = t.Posture; t.Posture == nil {
			return nil, nil, fmt.Errorf("%s: no table [posture]", f.posture)
		}
	}
	if f.watch != "" {
		t, err := readTables(f.watch, func(t *Tables) any { t.Watch = new(watch.Policy); return t.Watch })
		if err != nil {
			return nil, nil, err
		}
		if board.Watch = t.Watch; t.Watch == nil {
			return nil, nil, fmt.Errorf("%s: no table [watch]", f.watch)
		}
	}
	if err := board.Posture.Check(); err != nil {
		return nil, nil, fmt.Errorf("posture.%w", err)
	}
	if err := board.Watch.Check(); err != nil {
		return nil, nil, fmt.Errorf("watch.%w", err)
	}
	var hash []byte
	if rootHash != (release.Digest{}) {
		hash = rootHash[:]
	}
	bound, err := profile.BindPosture(board.Posture, hash)
	if err != nil {
		return nil, nil, fmt.Errorf("posture: %w", err)
	}
	return bound, board.Watch, nil
}

// readTables reads a file: TOML with the tables, or JSON of one part alone.
func readTables(name string, part func(*Tables) any) (Tables, error) {
	b, err := disk.Read(name, maxPolicy)
	if err != nil {
		return Tables{}, err
	}
	var t Tables
	if filepath.Ext(name) != ".toml" {
		if err := strict(b, part(&t)); err != nil {
			return Tables{}, fmt.Errorf("%s: %w", name, err)
		}
		return t, nil
	}
	meta, err := toml.Decode(string(b), &t)
	if err != nil {
		return Tables{}, fmt.Errorf("%s: %w", name, err)
	}
	for _, k := range meta.Undecoded() {
		if !Known(k) {
			return Tables{}, fmt.Errorf("%s: unknown key %s", name, k)
		}
	}
	return t, nil
}

// strict reads one JSON value of known keys with nothing behind it.
func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("at offset %d: something stands behind the value", d.InputOffset())
	}
	return nil
}
