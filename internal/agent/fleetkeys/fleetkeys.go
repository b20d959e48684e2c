// Package fleetkeys keeps the fleet's receipt and challenge keys on the device:
// those that the read-only root holds (blueprint, section 8), and what signed
// rotations have made of them (trust/rotation). A rotation is stored before it
// counts. The store is not trusted: at each start what it holds is verified anew
// from the anchors, and what does not follow from them is left out. Without it the
// anchored keys are accepted again, and the fleet sends its rotations once more.
package fleetkeys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"

	"ward/internal/device/statefile"
	"ward/internal/format/dsse"
	"ward/internal/trust/rotation"
)

// File is the store's name in the folder of the device's state.
const File = "key-rotations"

// Store is the keys that are accepted now. It is for one goroutine.
type Store struct {
	path      string
	receipt   *rotation.Chain
	challenge *rotation.Chain
}

// Open begins with the anchored keys and follows what is stored: an envelope a
// line, in the order in which they were followed, those of receipt keys first. A
// line that does not follow changes nothing. Either keyring may be nil.
func Open(path string, receipts, challenges *dsse.Keyring, log *slog.Logger) *Store {
	s := &Store{path: path, receipt: rotation.NewChain(rotation.Receipt, receipts), challenge: rotation.NewChain(rotation.Challenge, challenges)}
	b, err := statefile.Read(path)
	for len(b) > 0 {
		var line []byte
		if line, b, _ = bytes.Cut(b, []byte("\n")); len(line) > 0 && !follow(&s.receipt, line) && !follow(&s.challenge, line) {
			err = errLeftOut
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("read the stored key rotations", "error", err)
	}
	return s
}

// errLeftOut: a release has brought other keys, or the store was changed.
var errLeftOut = errors.New("what does not follow from the anchors is left out")

func follow(chain **rotation.Chain, envelope []byte) bool {
	next, _, err := (*chain).Next(envelope)
	if err == nil {
		*chain = next
	}
	return err == nil
}

// Receipts are the receipt keys that are accepted now.
func (s *Store) Receipts() *dsse.Keyring { return s.receipt.Keyring() }

// Challenges are the challenge keys that are accepted now.
func (s *Store) Challenges() *dsse.Keyring { return s.challenge.Keyring() }

// Apply follows a rotation and returns when it is durable; then the old key is
// accepted no more. One that was followed before gives nil and no error. After an
// error everything is as it was.
func (s *Store) Apply(use rotation.Use, envelope []byte) (*rotation.Verified, error) {
	chain := &s.receipt
	if use == rotation.Challenge {
		chain = &s.challenge
	}
	before := *chain
	next, v, err := before.Next(envelope)
	if err == nil {
		*chain = next
		err = statefile.Write(s.path, slices.Concat(s.receipt.Lines(), s.challenge.Lines()))
	}
	if err == nil {
		return v, nil
	}
	*chain = before
	if errors.Is(err, rotation.ErrKnown) {
		return nil, nil
	}
	return nil, fmt.Errorf("follow rotation: %w", err)
}
