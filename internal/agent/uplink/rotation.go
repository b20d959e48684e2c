package uplink

import (
	"context"
	"encoding/json"
	"errors"

	"ward/internal/device/mqtt"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/rotation"
)

// Rotations give a key of the fleet its successor.
type Rotations interface {
	// Apply follows a rotation and returns when it is durable. One that was
	// followed before gives false and no error; after an error all keys are as
	// they were.
	Apply(use rotation.Use, envelope []byte) (rotation.Verified, bool, error)
}

var errNoRotations = errors.New("this device follows no rotation of keys")

// keyRotated is the report of a ward.link.key-rotated event.
type keyRotated struct {
	Use    rotation.Use `json:"use"`
	Serial int          `json:"serial"`
	From   string       `json:"from"`
	To     string       `json:"to"`
}

// rotated says whether a message is a rotation of the keys that sign what comes on
// its topic, and follows it. The fleet is told at once which keys the device
// accepts now.
func (s *session) rotated(ctx context.Context, use rotation.Use, m mqtt.Message) bool {
	if !rotation.IsRotation(m.Payload) {
		return false
	}
	u := s.u
	if u.config.Rotations == nil {
		u.unrotated.report(ctx, u, finding.LinkRotationRefused, errNoRotations)
		return true
	}
	v, changed, err := u.config.Rotations.Apply(use, m.Payload)
	if err != nil {
		u.unrotated.report(ctx, u, finding.LinkRotationRefused, err)
		return true
	}
	if !changed {
		u.config.Log.Debug("a rotation of a key that is known already", "use", use)
		return true
	}
	r := v.Rotation()
	report, err := json.Marshal(keyRotated{Use: r.Use, Serial: r.Serial, From: r.From, To: v.To()})
	if err != nil {
		u.config.Log.Error("encode report", "error", err)
		return true
	}
	u.store(ctx, event.Event{Type: event.LinkKeyRotated, Subject: string(use), Severity: finding.Info, Report: report})
	if err := s.sendStatus(); err != nil {
		u.config.Log.Debug("send status", "error", err) // the connection has ended
	}
	return true
}

// keys names the keys of the fleet that the device accepts; nil where they are too
// many to name.
func (u *Uplink) keys() *presence.Keys {
	k := &presence.Keys{Receipt: rotation.Hints(u.config.Receipts())}
	if u.asked() {
		k.Challenge = rotation.Hints(u.config.Challenges())
	}
	if max(len(k.Receipt), len(k.Challenge)) > presence.MaxKeys {
		return nil
	}
	return k
}
