// Package watch holds how a release wants its devices to be watched while they
// run: what a scan may cost (blueprint, section 9, rule 1), how long therapy may
// hold it off (rule 2), which programs write by rule (rule 6), and what may be
// plugged in. The build host takes it from the board profile, and it travels in
// the signed manifest: whoever has root on a device cannot loosen it.
package watch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Bounds of a policy.
const (
	maxList = 64
	maxText = 512
)

// Policy is how a device is watched. Zero values mean the defaults of Default.
type Policy struct {
	Scan    Scan     `json:"scan,omitzero"`
	Lease   Lease    `json:"lease,omitzero"`
	Writers []Writer `json:"writers,omitempty"`
	// Ignore lists folders whose changes tell nothing: logs, caches. What runs from
	// them is told all the same.
	Ignore []string `json:"ignore,omitempty"`
	USB    []USB    `json:"usb,omitempty"` // the first that fits decides; none fits: never
}

// Scan paces the walk over all files.
type Scan struct {
	EverySeconds     int `json:"everySeconds,omitempty"`     // from one full scan's start to the next
	CPUPercent       int `json:"cpuPercent,omitempty"`       // of one core, while it runs
	ReadKiBPerSecond int `json:"readKiBPerSecond,omitempty"` // from disk, while it runs
	OverdueSeconds   int `json:"overdueSeconds,omitempty"`   // an unfinished scan is a finding after that
}

// Lease bounds how long a host application holds off heavy work.
type Lease struct {
	MaxSeconds int `json:"maxSeconds,omitempty"` // of one lease, until it must be renewed
}

// Writer is a program of the release that changes files by rule, an updater.
type Writer struct {
	Program string   `json:"program"` // absolute path
	Paths   []string `json:"paths"`   // files or folders, with what lies below them; "/dev/..." for slots
}

// When something may be plugged in.
type When string

// Answers of a USB rule.
const (
	Always  When = "always"
	Service When = "service" // in service mode alone
	Never   When = "never"
)

// USB is a rule about an interface class (USB-IF class codes: "03" HID, "08" mass
// storage, "02" communications); "*" is every class.
type USB struct {
	Class   string `json:"class"`             // two lower-case hexadecimal digits or "*"
	Vendor  string `json:"vendor,omitempty"`  // four digits; empty: every one
	Product string `json:"product,omitempty"` // four digits; empty: every one
	When    When   `json:"when"`
}

// Default is what holds where the release says nothing or none is verified.
func Default() Policy {
	return Policy{
		Scan:  Scan{EverySeconds: 86400, CPUPercent: 10, ReadKiBPerSecond: 8192, OverdueSeconds: 3 * 86400},
		Lease: Lease{MaxSeconds: 4 * 3600},
		USB:   []USB{{Class: "09", When: Always}, {Class: "03", When: Service}, {Class: "*", When: Never}},
	}
}

// Complete fills what a policy leaves open; nil is the default.
func (p *Policy) Complete() Policy {
	d := Default()
	if p == nil {
		return d
	}
	c := *p.Clone()
	for _, f := range []struct{ have, otherwise *int }{
		{&c.Scan.EverySeconds, &d.Scan.EverySeconds}, {&c.Scan.CPUPercent, &d.Scan.CPUPercent},
		{&c.Scan.ReadKiBPerSecond, &d.Scan.ReadKiBPerSecond}, {&c.Scan.OverdueSeconds, &d.Scan.OverdueSeconds},
		{&c.Lease.MaxSeconds, &d.Lease.MaxSeconds},
	} {
		if *f.have == 0 {
			*f.have = *f.otherwise
		}
	}
	if len(c.USB) == 0 {
		c.USB = d.USB
	}
	return c
}

// Check finds what a policy may not say. Errors begin with the field's name.
func (p *Policy) Check() error {
	if p == nil {
		return nil
	}
	const month = 31 * 86400
	for _, f := range []struct {
		name             string
		value, low, high int
	}{
		{"scan.everySeconds", p.Scan.EverySeconds, 60, month}, {"scan.cpuPercent", p.Scan.CPUPercent, 1, 100},
		{"scan.readKiBPerSecond", p.Scan.ReadKiBPerSecond, 64, 1 << 22}, {"scan.overdueSeconds", p.Scan.OverdueSeconds, 60, month},
		{"lease.maxSeconds", p.Lease.MaxSeconds, 1, 7 * 86400},
	} {
		if f.value != 0 && (f.value < f.low || f.value > f.high) {
			return fmt.Errorf("%s: %d, want %d to %d", f.name, f.value, f.low, f.high)
		}
	}
	if len(p.Writers) > maxList || len(p.Ignore) > maxList || len(p.USB) > maxList {
		return fmt.Errorf("writers, ignore, usb: at most %d each", maxList)
	}
	for i, w := range p.Writers {
		if err := checkPaths(append([]string{w.Program}, w.Paths...)); err != nil || len(w.Paths) == 0 || len(w.Paths) > maxList {
			return fmt.Errorf("writers[%d]: want a program and 1 to %d paths: %w", i, maxList, err)
		}
	}
	if err := checkPaths(p.Ignore); err != nil {
		return fmt.Errorf("ignore: %w", err)
	}
	for i, u := range p.USB {
		if err := u.check(); err != nil {
			return fmt.Errorf("usb[%d].%w", i, err)
		}
	}
	return nil
}

func checkPaths(paths []string) error {
	for _, s := range paths {
		if !strings.HasPrefix(s, "/") || path.Clean(s) != s || len(s) > maxText || strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("path %q: want an absolute, clean one of at most %d bytes", s[:min(len(s), 80)], maxText)
		}
	}
	return nil
}

func (u USB) check() error {
	if u.Class != "*" && !digits(u.Class, 2) {
		return fmt.Errorf("class: %q, want two lower-case hexadecimal digits or *", u.Class)
	}
	if u.Vendor != "" && !digits(u.Vendor, 4) || u.Product != "" && (u.Vendor == "" || !digits(u.Product, 4)) {
		return fmt.Errorf("vendor: %q and product %q, want four lower-case hexadecimal digits, and no product alone", u.Vendor, u.Product)
	}
	switch u.When {
	case Always, Service, Never:
		return nil
	}
	return fmt.Errorf("when: %q, want %q, %q or %q", string(u.When), Always, Service, Never)
}

func digits(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// Clone is a copy that shares nothing.
func (p *Policy) Clone() *Policy {
	if p == nil {
		return nil
	}
	c := *p
	c.Writers, c.Ignore, c.USB = slices.Clone(p.Writers), slices.Clone(p.Ignore), slices.Clone(p.USB)
	for i := range c.Writers {
		c.Writers[i].Paths = slices.Clone(c.Writers[i].Paths)
	}
	return &c
}
