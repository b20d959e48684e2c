package presence

import (
	"fmt"
	"strings"
)

// Prefix is the first level of every topic, with the contract's version.
const Prefix = "ward/v1"

// Kind is the last part of a topic: what a message is.
type Kind string

// Kinds of messages: what goes up from the device, and the two that come down.
const (
	Event     Kind = "up/event"
	ShedEvent Kind = "up/shed" // an event without its content
	State     Kind = "up/status"
	Evidence  Kind = "up/evidence" // a part of an evidence document
	Receipt   Kind = "down/receipt"
	Challenge Kind = "down/challenge" // asks for evidence
)

// MaxPayload bounds every payload, in bytes.
const MaxPayload = 128 << 10

// maxName bounds a tenant and a device id, in bytes.
const maxName = 64

// CheckNames says whether a tenant and a device id can stand in a topic.
func CheckNames(tenant, device string) error {
	if err := checkName(tenant); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	if err := checkName(device); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	return nil
}

// checkName says whether a tenant or device id can stand in a topic: letters,
// digits, '-' and '_', so no '.', '/', '+', '#' and no space.
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("name of %d characters, want 1 to %d", len(name), maxName)
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("name %q: want letters, digits, '-' and '_' only", name)
		}
	}
	return nil
}

// Topic is the topic of one kind of message of one device.
func Topic(tenant, device string, k Kind) string {
	return Prefix + "/" + tenant + "/" + device + "/" + string(k)
}

// ParseTopic splits a device's topic; a topic of no known kind or with a name
// that cannot stand in one is an error.
func ParseTopic(topic string) (tenant, device string, k Kind, err error) {
	rest, ok := strings.CutPrefix(topic, Prefix+"/")
	parts := strings.SplitN(rest, "/", 3)
	if !ok || len(parts) != 3 {
		return "", "", "", fmt.Errorf("parse topic %.200q: want %s/{tenant}/{device}/{kind}", topic, Prefix)
	}
	tenant, device, k = parts[0], parts[1], Kind(parts[2])
	for _, name := range parts[:2] {
		if err := checkName(name); err != nil {
			return "", "", "", fmt.Errorf("parse topic: %w", err)
		}
	}
	switch k {
	case Event, ShedEvent, State, Evidence, Receipt, Challenge:
		return tenant, device, k, nil
	}
	return "", "", "", fmt.Errorf("parse topic %.200q: unknown kind", topic)
}
