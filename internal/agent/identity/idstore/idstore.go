// Package idstore keeps the device's identity in a folder of the state partition:
// who the device is, generations of its keys with their certificates, sealed
// secrets, what was learned of the fleet's roots and revocations. Every file is
// replaced whole; a power cut at any point leaves the generation that worked
// (README.md has the layout and the argument). Keys are TSS2 PRIVATE KEY files
// (draft "ASN.1 Specification for TPM 2.0 Key Files"), which only the TPM that
// made them can load; chains are PEM (RFC 7468).
package idstore

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"ward/internal/device/statefile"
)

// Folder is the store's folder in the state directory.
const Folder = "identity"

// ErrNone: there is nothing of the kind in the store. ErrDamaged: a file of it
// cannot be read; the error names it.
var (
	ErrNone    = errors.New("the identity store has none")
	ErrDamaged = errors.New("the identity store is damaged")
)

// Modes of files: a key is of use to nobody without the TPM, and still nobody's
// business; what is secret is its owner's alone.
const (
	modeKey    fs.FileMode = 0o640
	modePublic fs.FileMode = 0o644
	modeSecret fs.FileMode = 0o600
)

// named: secrets and authorisation values may be called so, as their names become
// file names: 1 to 63 of a-z, 0-9 and hyphens, no hyphen first.
func named(s string) bool {
	const letters, most = "abcdefghijklmnopqrstuvwxyz0123456789", 63
	return s != "" && len(s) <= most && s[0] != '-' && strings.Trim(s, letters+"-") == ""
}

// Store is one folder. Its methods are safe for concurrent use in one process.
type Store struct {
	dir  string
	step func(change string) // a test's

	mu sync.Mutex
}

// Open opens the store of a state directory; it need not be there.
func Open(state string) *Store { return &Store{dir: state} }

// with opens the state directory for one operation.
func (s *Store) with(operation func(*statefile.Folder) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := statefile.OpenFolder(s.dir)
	if err != nil {
		return err
	}
	f.Step = s.step
	return errors.Join(operation(f), f.Close())
}

// read reads a file of the store and has it parsed. None gives ErrNone.
func (s *Store) read(name string, most int, parse func([]byte) error) error {
	var b []byte
	err := s.with(func(f *statefile.Folder) error {
		var err error
		b, err = f.Read(name, most)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", name, ErrNone)
	}
	if err == nil {
		err = parse(b)
	}
	return damaged(name, err)
}

// damaged names the file that cannot be read.
func damaged(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read %s: %w: %w", name, ErrDamaged, err)
}

// write replaces a file of the store in one of its folders.
func (s *Store) write(folder, name string, b []byte, mode fs.FileMode) error {
	return s.with(func(f *statefile.Folder) error {
		if err := f.Make(folder); err != nil {
			return err
		}
		return f.Write(folder+"/"+name, b, mode)
	})
}

// Wipe writes over every file of the store and removes it. It can be repeated,
// and goes on where a power cut ended it. A flash chip may keep the old content
// in blocks that it has set aside: what is left there are keys that one TPM alone
// can load, and the authorisation values of its counters.
func (s *Store) Wipe() error {
	err := s.with(func(f *statefile.Folder) error { return f.Erase(Folder) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("wipe identity: %w", err)
	}
	return nil
}
