// Package presence says where a device speaks and how it tells that it is
// there: the topics of the MQTT contract (docs/asyncapi.yaml), the retained
// status message (docs/schema/status.v1.schema.json), which is a birth while
// the device is connected, a farewell after a clean stop, and the broker's
// last will when the connection ended without one, and what stands for a record
// without content.
package presence

import (
	"encoding/json"
	"fmt"
	"time"
)

// What a status says.
const (
	Online  = "online"  // the birth, and its repetitions
	Offline = "offline" // the farewell of a clean stop
	Lost    = "lost"    // the last will, published by the broker
)

// MaxStatus bounds an encoded status, in bytes; a birth takes some 400.
const MaxStatus = 4 << 10

// maxText bounds each text of a status, in bytes, and maxCapabilities their
// number.
const (
	maxText         = 128
	maxCapabilities = 32
)

// MaxKeys bounds the fleet's keys that a status names; a device that accepts more
// names none.
const MaxKeys = 32

// Status is a birth, a farewell or a last will. Session grows by one with each
// start of the daemon; Epoch is the number of the journal's life.
type Status struct {
	State             string     `json:"state"`
	Tenant            string     `json:"tenant"`
	Device            string     `json:"device"`
	Boot              string     `json:"boot"`
	Session           uint64     `json:"session"`
	Epoch             uint64     `json:"epoch"`
	Release           string     `json:"release,omitempty"`           // version of the signed release, empty if not known
	Version           string     `json:"version,omitempty"`           // version of wardd
	Capabilities      []string   `json:"capabilities,omitempty"`      // what this device can tell
	Keys              []string   `json:"keys,omitempty"`              // of a birth: the fleet's receipt and challenge keys that the device accepts (trust/rotation.Hint)
	WorryAfterSeconds int        `json:"worryAfterSeconds,omitempty"` // silence after which the fleet should worry
	Time              *time.Time `json:"time,omitempty"`              // the device's wall clock; a last will has none
}

// Encode writes a status as one line of JSON.
func Encode(s Status) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	if len(b) > MaxStatus {
		return nil, fmt.Errorf("encode status: %d bytes, want at most %d", len(b), MaxStatus)
	}
	return b, nil
}

// Parse reads a status. Keys that this version does not know are ignored:
// within v1 the contract only grows.
func Parse(b []byte) (Status, error) {
	if len(b) > MaxStatus {
		return Status{}, fmt.Errorf("parse status: %d bytes, want at most %d", len(b), MaxStatus)
	}
	var s Status
	if err := json.Unmarshal(b, &s); err != nil {
		return Status{}, fmt.Errorf("parse status: %w", err)
	}
	if err := s.check(); err != nil {
		return Status{}, fmt.Errorf("parse status: %w", err)
	}
	return s, nil
}

func (s Status) check() error {
	switch s.State {
	case Online, Offline, Lost:
	default:
		return fmt.Errorf("state %.40q, want online, offline or lost", s.State)
	}
	for _, name := range []string{s.Tenant, s.Device} {
		if err := checkName(name); err != nil {
			return err
		}
	}
	if s.Boot == "" || s.Session == 0 || s.Epoch == 0 {
		return fmt.Errorf("boot %.40q, session %d, epoch %d: all three must be given", s.Boot, s.Session, s.Epoch)
	}
	if s.State == Online && s.WorryAfterSeconds <= 0 {
		return fmt.Errorf("worryAfterSeconds %d, want a positive number", s.WorryAfterSeconds)
	}
	if s.WorryAfterSeconds < 0 {
		return fmt.Errorf("worryAfterSeconds %d is negative", s.WorryAfterSeconds)
	}
	if len(s.Capabilities) > maxCapabilities {
		return fmt.Errorf("%d capabilities, want at most %d", len(s.Capabilities), maxCapabilities)
	}
	if len(s.Keys) > MaxKeys {
		return fmt.Errorf("%d keys, want at most %d", len(s.Keys), MaxKeys)
	}
	for _, text := range append(append([]string{s.Boot, s.Release, s.Version}, s.Capabilities...), s.Keys...) {
		if len(text) > maxText {
			return fmt.Errorf("text of %d bytes, want at most %d", len(text), maxText)
		}
	}
	return nil
}
