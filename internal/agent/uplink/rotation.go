package uplink

import (
	"context"

	"ward/internal/format/dsse"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/rotation"
)

// Rotations give a key of the fleet its successor.
type Rotations interface {
	// Apply follows a rotation and returns when it is durable. One that was
	// followed before gives nil and no error; after an error all keys are as they
	// were.
	Apply(use rotation.Use, envelope []byte) (*rotation.Verified, error)
}

// rotated says whether a message is a rotation of the keys that sign what comes on
// its topic, and follows it. The fleet is told at once which keys the device
// accepts now.
func (s *session) rotated(ctx context.Context, use rotation.Use, envelope []byte) bool {
	u := s.u
	if u.config.Rotations == nil || !rotation.IsRotation(envelope) {
		return false
	}
	v, err := u.config.Rotations.Apply(use, envelope)
	if err != nil {
		u.unrotated.report(ctx, u, finding.LinkRotationRefused, err)
	}
	if v != nil {
		u.store(ctx, event.Event{Type: event.LinkKeyRotated, Subject: string(use), Severity: finding.Info, Report: v.Report()})
		_ = s.sendStatus() // it fails when the connection has ended, which is seen soon enough
	}
	return true
}

// keys names the keys of the fleet that the device accepts; nil where they are too
// many to name.
func (u *Uplink) keys() []string {
	var names []string
	for _, keys := range []*dsse.Keyring{u.config.Receipts(), u.config.Challenges()} {
		for _, id := range keys.IDs() {
			names = append(names, rotation.Hint(id))
		}
	}
	if len(names) > presence.MaxKeys {
		return nil
	}
	return names
}
