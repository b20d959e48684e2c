package event

import (
	"errors"
	"fmt"
	"strings"
)

// sourcePrefix begins every source.
const sourcePrefix = "urn:ward:"

// MaxName bounds a tenant's and a device's name, in bytes.
const MaxName = 64

// Source names the device that an event comes from. In JSON it is
// "urn:ward:TENANT:DEVICE".
type Source struct {
	Tenant string
	Device string
}

func (s Source) String() string { return sourcePrefix + s.Tenant + ":" + s.Device }

// ParseSource reads a source as String writes it.
func ParseSource(text string) (Source, error) {
	rest, ok := strings.CutPrefix(text, sourcePrefix)
	tenant, device, two := strings.Cut(rest, ":")
	if !ok || !two {
		return Source{}, fmt.Errorf("parse source %.80q: want urn:ward:TENANT:DEVICE", text)
	}
	s := Source{Tenant: tenant, Device: device}
	return s, s.check()
}

func (s Source) check() error {
	if err := CheckName(s.Tenant); err != nil {
		return fmt.Errorf("tenant %.80q: %w", s.Tenant, err)
	}
	if err := CheckName(s.Device); err != nil {
		return fmt.Errorf("device %.80q: %w", s.Device, err)
	}
	return nil
}

// CheckName says whether a name can stand in a topic and a source: 1 to 64
// letters, digits, '-' or '_'. Dots, slashes, wildcards and spaces mean
// something to one broker or another.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("want 1 to %d characters", MaxName)
	}
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return errors.New("want letters, digits, '-' and '_' only")
		}
	}
	return nil
}
