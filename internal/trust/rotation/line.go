package rotation

import (
	"crypto"
	"fmt"
	"slices"

	"ward/internal/format/dsse"
)

// Line is the rotations of one use that a fleet has made, in order, as it sends
// them to devices that lack them. The zero value has none.
type Line struct{ steps []step }

type step struct {
	envelope []byte
	*claim
}

// Add appends an envelope of a rotation for this use. It must be the first from
// its old key; one whose old key an earlier rotation has brought must be signed by
// it and have the next serial number. The first of a line is signed by a key that
// the fleet need not have any more: devices judge it.
func (l *Line) Add(use Use, envelope []byte) error {
	c, err := untrusted(envelope)
	if err != nil {
		return err
	}
	if c.Use != use {
		return fmt.Errorf("it is for %s keys, want %s", c.Use, use)
	}
	for _, s := range l.steps {
		if s.From == c.From {
			return fmt.Errorf("key %.12s was given up by serial %d already", c.From, s.Serial)
		}
		if s.to != c.From {
			continue
		}
		keys, err := dsse.NewKeyring(s.public)
		if err == nil {
			_, err = Verify(envelope, keys)
		}
		if err != nil {
			return err
		}
		if c.Serial != s.Serial+1 {
			return fmt.Errorf("serial %d follows %d: give the rotations in their order", c.Serial, s.Serial)
		}
	}
	if len(l.steps) == MaxRotations {
		return fmt.Errorf("a device follows %d, and no more: make a release with the new keys", MaxRotations)
	}
	l.steps = append(l.steps, step{slices.Clone(envelope), c})
	return nil
}

// UseOf is what an envelope says that its rotation is for; nothing is verified.
func UseOf(envelope []byte) (Use, error) {
	v, err := untrusted(envelope)
	if err != nil {
		return "", err
	}
	return v.Use, nil
}

// Len is the number of rotations.
func (l Line) Len() int { return len(l.steps) }

// Check says what is wrong with signing with a key now: a rotation gave it up.
func (l Line) Check(public crypto.PublicKey) error {
	id, err := dsse.KeyID(public)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(l.steps, func(s step) bool { return s.From == id }); i >= 0 {
		return fmt.Errorf("%s key %.16s was given up by a rotation to %.16s: sign with the key that the last one leads to", l.steps[i].Use, id, l.steps[i].to)
	}
	return nil
}

// For gives the rotations that a device lacks which accepts these keys, named by
// the beginnings of their ids, and the beginnings of the ids of the keys that it
// accepts when it has followed them. A device that names none gets all, and what
// it accepts is not known.
func (l Line) For(accepted []string) (send [][]byte, then []string) {
	if len(accepted) == 0 {
		for _, s := range l.steps {
			send = append(send, s.envelope)
		}
		return send, nil
	}
	then = slices.Clone(accepted)
	for _, s := range l.steps {
		at := slices.IndexFunc(then, func(hint string) bool { return hint == Hint(s.From) })
		if at < 0 {
			continue
		}
		send = append(send, s.envelope)
		if then = slices.Delete(then, at, at+1); !slices.Contains(then, Hint(s.to)) {
			then = append(then, Hint(s.to))
		}
	}
	return send, then
}

// Hint is the beginning of a key's id, by which a device names a key that it
// accepts in its status: 16 digits tell a fleet's keys apart.
func Hint(id string) string { return id[:16] }
