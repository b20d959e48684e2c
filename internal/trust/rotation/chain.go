package rotation

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"ward/internal/format/dsse"
)

// ErrKnown: the rotation says nothing new. It was followed already, or it leads
// from a key that is not known here to one that is or was accepted.
var ErrKnown = errors.New("the rotation is known already")

// What there is against a rotation.
var (
	errUse     = errors.New("it is for keys of another use")
	errUnknown = errors.New("the old key is not known")
	errGone    = errors.New("the old key was given up before, for another successor")
	errSerial  = errors.New("the serial is not the next one")
	errBack    = errors.New("it leads back to a key that was given up")
	errMany    = errors.New("as many as may be were followed since the release")
)

// Chain is the keys of one use that are accepted: the anchored ones, with those
// that were rotated replaced by their successors. It does not change: Next gives
// another one, so that it can be kept before it counts.
type Chain struct {
	use   Use
	keys  *dsse.Keyring
	steps []*claim // the rotations that were followed, in order
	lines []byte   // their envelopes
}

// NewChain begins with the anchored keys; a nil keyring has none.
func NewChain(use Use, anchors *dsse.Keyring) *Chain { return &Chain{use: use, keys: anchors} }

// Keyring holds the keys that are accepted.
func (c *Chain) Keyring() *dsse.Keyring { return c.keys }

// Lines are the envelopes of the rotations that were followed, in order, each on a
// line of its own. They are not for changing.
func (c *Chain) Lines() []byte { return c.lines }

// Next judges a rotation and gives the chain with it. It checks, in this order:
//
//  1. form and document (Verify), and the use;
//  2. a key that was given up signs nothing: the rotation that it was given up by
//     is ErrKnown, every other one is refused;
//  3. the old key is accepted. A rotation from another key is refused; if it leads
//     to a key that is or was accepted, it is ErrKnown: a release with the new key
//     has overtaken it;
//  4. the old key's signature (Verify);
//  5. the serial number is one more than that of the old key. An anchored key may
//     stand anywhere in its line, because a release does not say where;
//  6. the new key does not lead back to the old one. One that was given up itself
//     stands for its successor;
//  7. there are fewer than MaxRotations.
//
// An error changes nothing.
func (c *Chain) Next(envelope []byte) (*Chain, *Verified, error) {
	u, err := untrusted(envelope)
	if err == nil {
		err = c.against(u)
	}
	var v *Verified
	if err == nil {
		v, err = Verify(envelope, c.keys)
	}
	if err != nil {
		return nil, nil, err
	}
	with := u.public
	if c.end(u.to) != u.to {
		with = nil // its successor is accepted already
	}
	keys, err := c.keys.Replace(u.From, with)
	if err != nil {
		return nil, nil, err
	}
	line := bytes.ReplaceAll(envelope, []byte("\n"), []byte(" ")) // a blank of JSON for another
	return &Chain{c.use, keys, append(c.steps[:len(c.steps):len(c.steps)], u), slices.Concat(c.lines, line, []byte("\n"))}, v, nil
}

// against says what there is against a rotation, if it is signed.
func (c *Chain) against(u *claim) error {
	var why error
	gone, known, end := c.gone(u.From), c.keys.Has(u.From), c.end(u.to)
	switch {
	case u.Use != c.use:
		why = errUse
	case gone != nil && gone.to == u.to && gone.Serial == u.Serial:
		return ErrKnown
	case gone != nil:
		why = errGone
	case !known && c.keys.Has(end):
		return ErrKnown
	case !known:
		why = errUnknown
	case !c.follows(u):
		why = errSerial
	case end == u.From:
		why = errBack
	case len(c.steps) == MaxRotations:
		why = errMany
	default:
		return nil
	}
	return fmt.Errorf("rotation %d of a %s key, %.16s to %.16s: %w", u.Serial, u.Use, u.From, u.to, why)
}

// follows tells whether the serial is the next after that of the old key.
func (c *Chain) follows(u *claim) bool {
	for _, s := range c.steps {
		if s.to == u.From {
			return u.Serial == s.Serial+1
		}
	}
	return true
}

// gone is the rotation that a key was given up by; nil if it was not.
func (c *Chain) gone(id string) *claim {
	for _, s := range c.steps {
		if s.From == id {
			return s
		}
	}
	return nil
}

// end follows a key to the one that took its place at last. It ends, for no
// rotation leads back.
func (c *Chain) end(id string) string {
	for {
		s := c.gone(id)
		if s == nil {
			return id
		}
		id = s.to
	}
}
