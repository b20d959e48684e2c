package rotation

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"ward/internal/format/dsse"
)

// ErrKnown: the rotation says nothing new. It was followed already, or it leads
// from a key that is not known here to one that is or was accepted.
var ErrKnown = errors.New("the rotation is known already")

// Chain is the keys of one use that are accepted: the anchored ones, with those
// that were rotated replaced by their successors. It does not change: Next gives
// another one, so that it can be kept before it counts.
type Chain struct {
	use     Use
	current []key
	gone    []departed
	applied []Verified
	kept    [][]byte // their envelopes, in order
	keys    *dsse.Keyring
}

// departed is a key that was given up, and the id of its successor.
type departed struct {
	key
	heir string
}

// NewChain begins with the anchored keys; a nil keyring has none.
func NewChain(use Use, anchors *dsse.Keyring) *Chain {
	c := &Chain{use: use, keys: anchors}
	for _, p := range anchors.Public() {
		id, err := dsse.KeyID(p)
		if err != nil {
			continue // no keyring holds such a key
		}
		c.current = append(c.current, key{id: id, public: p})
	}
	return c
}

// Keyring holds the keys that are accepted.
func (c *Chain) Keyring() *dsse.Keyring { return c.keys }

// Envelopes are the rotations that were followed, in order.
func (c *Chain) Envelopes() [][]byte { return slices.Clone(c.kept) }

// Next judges a rotation and gives the chain with it. It checks, in this order:
//
//  1. the signature of a key that is accepted, or was (Verify). One of a key that
//     was never known is refused; if it leads to a key that is known, it is
//     ErrKnown: a release with the new key has overtaken it;
//  2. the use;
//  3. the old key is accepted. One that was given up signs nothing: the rotation
//     that it was given up by is ErrKnown, every other one is refused;
//  4. the serial number is one more than that of the old key. An anchored key may
//     stand anywhere in its line, because a release does not say where;
//  5. the new key does not lead back to the old one. One that was given up itself
//     stands for its successor;
//  6. there are fewer than MaxRotations.
//
// An error changes nothing.
func (c *Chain) Next(envelope []byte) (*Chain, Verified, error) {
	v, err := Verify(envelope, c.keys)
	if errors.Is(err, dsse.ErrSignature) {
		var known error
		if v, known = c.verifyDeparted(envelope); known == nil {
			err = nil
		} else if c.overtaken(envelope) {
			return nil, Verified{}, ErrKnown
		}
	}
	if err != nil {
		return nil, Verified{}, err
	}
	r := v.rotation
	if r.Use != c.use {
		return nil, Verified{}, fmt.Errorf("follow rotation: it is for %s keys, want %s", r.Use, c.use)
	}
	at := slices.IndexFunc(c.current, func(k key) bool { return k.id == r.From })
	if at < 0 {
		return nil, Verified{}, c.refuseDeparted(r)
	}
	if old := c.current[at]; old.serial != 0 && r.Serial != old.serial+1 {
		return nil, Verified{}, fmt.Errorf("follow rotation: serial %d, and the old key %.12s came with serial %d", r.Serial, r.From, old.serial)
	}
	if c.successor(v.heir.id) == r.From {
		return nil, Verified{}, fmt.Errorf("follow rotation: key %.12s was given up, and the rotation leads back to it", v.heir.id)
	}
	if len(c.applied) == MaxRotations {
		return nil, Verified{}, fmt.Errorf("follow rotation: %d were followed since the release, and no more are", MaxRotations)
	}
	next, err := c.with(v, at, envelope)
	return next, v, err
}

// verifyDeparted verifies a rotation that a key signed which was given up.
func (c *Chain) verifyDeparted(envelope []byte) (Verified, error) {
	publics := make([]crypto.PublicKey, 0, len(c.gone))
	for _, d := range c.gone {
		publics = append(publics, d.public)
	}
	keys, err := dsse.NewKeyring(publics...)
	if err != nil {
		return Verified{}, err
	}
	return Verify(envelope, keys)
}

// overtaken tells whether a rotation that nobody known has signed is from a key
// that is not known to one that is.
func (c *Chain) overtaken(envelope []byte) bool {
	v, err := untrusted(envelope)
	return err == nil && v.rotation.Use == c.use && !c.knows(v.rotation.From) && c.knows(v.heir.id)
}

func (c *Chain) knows(id string) bool {
	return slices.ContainsFunc(c.current, func(k key) bool { return k.id == id }) || c.departed(id) != nil
}

func (c *Chain) departed(id string) *departed {
	if i := slices.IndexFunc(c.gone, func(d departed) bool { return d.id == id }); i >= 0 {
		return &c.gone[i]
	}
	return nil
}

// successor follows a key to the one that took its place in the end; it ends, for
// no rotation leads back.
func (c *Chain) successor(id string) string {
	for d := c.departed(id); d != nil; d = c.departed(id) {
		id = d.heir
	}
	return id
}

func (c *Chain) refuseDeparted(r Rotation) error {
	for _, v := range c.applied {
		if v.rotation.Equal(r) {
			return ErrKnown
		}
		if v.rotation.From == r.From {
			return fmt.Errorf("follow rotation: key %.12s signed another successor, serial %d: it was given up by serial %d", r.From, r.Serial, v.rotation.Serial)
		}
	}
	return fmt.Errorf("follow rotation: key %.12s is not accepted", r.From)
}

// with gives the chain in which the key at a place has its successor.
func (c *Chain) with(v Verified, at int, envelope []byte) (*Chain, error) {
	next := &Chain{
		use: c.use, current: slices.Clone(c.current), applied: append(slices.Clone(c.applied), v),
		gone: append(slices.Clone(c.gone), departed{c.current[at], v.heir.id}), kept: append(slices.Clone(c.kept), bytes.Clone(envelope)),
	}
	next.current = slices.Delete(next.current, at, at+1)
	i := slices.IndexFunc(next.current, func(k key) bool { return k.id == v.heir.id })
	switch {
	case i >= 0: // it is anchored, too
		next.current[i].serial = max(next.current[i].serial, v.heir.serial)
	case c.departed(v.heir.id) == nil:
		next.current = append(next.current, v.heir)
	}
	publics := make([]crypto.PublicKey, 0, len(next.current))
	for _, k := range next.current {
		publics = append(publics, k.public)
	}
	var err error
	if next.keys, err = dsse.NewKeyring(publics...); err != nil {
		return nil, fmt.Errorf("follow rotation: %w", err)
	}
	return next, nil
}
