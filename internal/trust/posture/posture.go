// Package posture holds what a device says about its own state beside its files
// (kernel lockdown, modules, sysctls, mounts, listening sockets and the like), and
// what the signed release expects of it. A claim is data in the sense of RFC 9334,
// section 2.1: it states what was read, that there is no such thing, or why it
// could not be read. Judge compares claims with the release's rules.
package posture

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// Bounds of claims and rules.
const (
	MaxValues = 1024 // of one claim or rule; a desktop has some hundred modules and mounts
	MaxValue  = 512  // bytes of one value
	MaxRules  = 128
	maxName   = 64
)

// Claim is what one collector read.
type Claim struct {
	Name   string   `json:"name"`             // "kernel.lockdown"; the catalogue is docs/posture.md
	Values []string `json:"values,omitempty"` // sorted, each once, UTF-8 without control characters
	More   int      `json:"more,omitempty"`   // values that were left out because of MaxValues
	Absent bool     `json:"absent,omitempty"` // this kernel or device has no such thing
	Error  string   `json:"error,omitempty"`  // why it could not be read, one line; not a pass
}

// Mode is how a rule compares.
type Mode string

// Modes of a rule.
const (
	Equal    Mode = "equal"    // the claim has these values and no other
	Within   Mode = "within"   // every value of the claim is one of these
	Contains Mode = "contains" // the claim has at least these
	Recorded Mode = "recorded" // told to the fleet, not judged
)

// Rule is what a release expects of one claim.
type Rule struct {
	Claim  string   `json:"claim"`
	Mode   Mode     `json:"mode"`
	Values []string `json:"values,omitempty"`
	// Optional accepts that the device has no such thing.
	Optional bool `json:"optional,omitempty"`
}

// Policy is the posture that a release expects. What it has no rule for is recorded.
type Policy struct {
	EverySeconds int    `json:"everySeconds,omitempty"` // between two looks; 0: 900
	Rules        []Rule `json:"rules,omitempty"`
}

// Check finds what a policy may not say. Errors begin with the field's name.
func (p *Policy) Check() error {
	if p == nil {
		return nil
	}
	if p.EverySeconds < 0 || p.EverySeconds > 7*86400 {
		return fmt.Errorf("everySeconds: %d, want 0 to a week", p.EverySeconds)
	}
	if len(p.Rules) > MaxRules {
		return fmt.Errorf("rules: %d, at most %d", len(p.Rules), MaxRules)
	}
	for i, r := range p.Rules {
		if err := r.check(); err != nil {
			return fmt.Errorf("rules[%d].%w", i, err)
		}
		if slices.ContainsFunc(p.Rules[:i], func(o Rule) bool { return o.Claim == r.Claim }) {
			return fmt.Errorf("rules[%d].claim: %q stands twice", i, r.Claim)
		}
	}
	return nil
}

func (r *Rule) check() error {
	if err := checkText(r.Claim, maxName); err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	switch r.Mode {
	case Equal, Within, Contains:
	case Recorded:
		if len(r.Values) > 0 {
			return fmt.Errorf("values: a recorded claim has none")
		}
	default:
		return fmt.Errorf("mode: %q, want %q, %q, %q or %q", string(r.Mode), Equal, Within, Contains, Recorded)
	}
	if len(r.Values) > MaxValues {
		return fmt.Errorf("values: %d, at most %d", len(r.Values), MaxValues)
	}
	for i, v := range r.Values {
		if err := checkText(v, MaxValue); err != nil {
			return fmt.Errorf("values[%d]: %w", i, err)
		}
		if i > 0 && r.Values[i-1] >= v {
			return fmt.Errorf("values[%d]: %q is out of order or stands twice", i, v)
		}
	}
	return nil
}

// checkText wants text of one line.
func checkText(s string, longest int) error {
	if s == "" || len(s) > longest || !utf8.ValidString(s) {
		return fmt.Errorf("%d bytes, want 1 to %d of UTF-8", len(s), longest)
	}
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("control character %#x", c)
		}
	}
	return nil
}

// Clone is a copy that shares nothing.
func (p *Policy) Clone() *Policy {
	if p == nil {
		return nil
	}
	c := *p
	c.Rules = slices.Clone(p.Rules)
	for i := range c.Rules {
		c.Rules[i].Values = slices.Clone(c.Rules[i].Values)
	}
	return &c
}
