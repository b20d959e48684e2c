// Package fleetkeys keeps the fleet's receipt and challenge keys on the device:
// those that the read-only root holds (blueprint, section 8), and what signed
// rotations have made of them (trust/rotation). A rotation is stored before it
// counts. The store is not trusted: at each start what it holds is verified anew
// from the anchors, and what does not follow from them is left out. Without it the
// anchored keys are accepted again, and the fleet sends its rotations once more.
package fleetkeys

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"ward/internal/device/statefile"
	"ward/internal/format/dsse"
	"ward/internal/trust/rotation"
)

// File is the store's name in the folder of the device's state.
const File = "key-rotations"

// schema is the version of the store.
const schema = 1

// state is the store: envelopes in the order in which they were followed.
type state struct {
	Schema    int      `json:"schema"`
	Receipt   [][]byte `json:"receipt,omitempty"`
	Challenge [][]byte `json:"challenge,omitempty"`
}

// Store is the keys that are accepted now. It is for several goroutines.
type Store struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	chains map[rotation.Use]*rotation.Chain
}

// Open begins with the anchored keys and follows what is stored. A store that
// cannot be read, and a rotation in it that does not follow, change nothing: they
// are logged. Either keyring may be nil.
func Open(path string, receipts, challenges *dsse.Keyring, log *slog.Logger) *Store {
	s := &Store{path: path, log: log, chains: map[rotation.Use]*rotation.Chain{
		rotation.Receipt:   rotation.NewChain(rotation.Receipt, receipts),
		rotation.Challenge: rotation.NewChain(rotation.Challenge, challenges),
	}}
	b, err := statefile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	var stored state
	if err == nil {
		stored, err = parse(b)
	}
	if err != nil {
		log.Warn("the stored key rotations cannot be used; the fleet sends them again", "error", err)
		return s
	}
	s.follow(rotation.Receipt, stored.Receipt)
	s.follow(rotation.Challenge, stored.Challenge)
	return s
}

func parse(b []byte) (state, error) {
	var s state
	if err := dsse.DecodeJSON(b, &s); err != nil {
		return state{}, err
	}
	if s.Schema != schema {
		return state{}, fmt.Errorf("schema %d, want %d", s.Schema, schema)
	}
	if n := max(len(s.Receipt), len(s.Challenge)); n > rotation.MaxRotations {
		return state{}, fmt.Errorf("%d rotations of one use, want at most %d", n, rotation.MaxRotations)
	}
	return s, nil
}

func (s *Store) follow(use rotation.Use, envelopes [][]byte) {
	for i, b := range envelopes {
		next, _, err := s.chains[use].Next(b)
		if err != nil {
			s.log.Info("a stored key rotation is left out: it does not follow from the anchors", "use", use, "number", i+1, "reason", err)
			continue
		}
		s.chains[use] = next
	}
}

// Keyring holds the keys that are accepted for a use.
func (s *Store) Keyring(use rotation.Use) *dsse.Keyring {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chains[use].Keyring()
}

// Apply follows a rotation and returns when it is durable; then the old key is
// accepted no more. One that was followed before gives false and no error. After
// an error everything is as it was.
func (s *Store) Apply(use rotation.Use, envelope []byte) (rotation.Verified, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, v, err := s.chains[use].Next(envelope)
	if errors.Is(err, rotation.ErrKnown) {
		return rotation.Verified{}, false, nil
	}
	if err != nil {
		return rotation.Verified{}, false, err
	}
	if err := s.store(use, next); err != nil {
		return rotation.Verified{}, false, fmt.Errorf("store rotation: %w", err)
	}
	s.chains[use] = next
	return v, true, nil
}

// store writes what has been followed, with the chain of one use in the place of
// the present one.
func (s *Store) store(use rotation.Use, next *rotation.Chain) error {
	kept := state{Schema: schema, Receipt: s.chains[rotation.Receipt].Envelopes(), Challenge: s.chains[rotation.Challenge].Envelopes()}
	if use == rotation.Receipt {
		kept.Receipt = next.Envelopes()
	} else {
		kept.Challenge = next.Envelopes()
	}
	b, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return statefile.Write(s.path, append(b, '\n'))
}
