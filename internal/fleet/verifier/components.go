package verifier

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/inventory"
	"ward/internal/trust/verdict"
)

// running is the set of components that ran on a device, as its newest evidence
// told it and a quote vouched for it.
type running struct {
	At      time.Time  `json:"at"` // by the fleet's clock
	Boot    string     `json:"boot"`
	Release pcr.Digest `json:"release"`
	Set     []byte     `json:"set"`
}

// components names the components of a set; nil for a set that cannot be named here,
// with a finding where it is not one of the release.
func (r Release) components(set []byte) (*verdict.Components, *finding.Finding) {
	if len(set) == 0 {
		return nil, nil
	}
	unreadable := func(detail string) (*verdict.Components, *finding.Finding) {
		f := finding.New(finding.InventoryUnreadable, detail)
		return nil, &f
	}
	s, err := inventory.Parse(set)
	if err != nil {
		return unreadable(err.Error())
	}
	if r.Baseline == nil {
		return nil, nil // the appraisal has said so
	}
	if want, have := r.Baseline.Digest(), s.Baseline(); have != want {
		return unreadable(fmt.Sprintf("the set is of the file baseline %x, the release has %x", have, want))
	}
	names, err := s.Names(r.Baseline.Components())
	if err != nil {
		return unreadable(err.Error())
	}
	return &verdict.Components{Known: s.Count(), Running: names}, nil
}

// keepRunning keeps a set that is of the release, also where its baseline is not
// known yet. What is not vouched for replaces nothing.
func (v *Verifier) keepRunning(now time.Time, d *device, e evidence.Evidence, set []byte, good bool) {
	if len(set) > 0 && good {
		d.Running, v.changed = &running{At: now, Boot: e.Boot, Release: e.Release, Set: set}, true
	}
}

// State of a component on a device.
type State string

// States of a component. Whether a device that tells nothing runs it is not known.
const (
	Running State = "running" // a file of it ran since the boot
	Dormant State = "dormant" // it is installed, and no file of it ran since the boot
	Unknown State = "unknown" // the device has told nothing that counts
)

// Holding is a component on a device.
type Holding struct {
	Tenant    string     `json:"tenant"`
	Device    string     `json:"device"`
	Component string     `json:"component,omitempty"` // name@version; empty: what the device holds is not known
	Name      string     `json:"name,omitempty"`
	Version   string     `json:"version,omitempty"`
	State     State      `json:"state"`
	Release   string     `json:"release,omitempty"` // version of the release
	Boot      string     `json:"boot,omitempty"`
	At        *time.Time `json:"at,omitempty"`     // when the device told, by the fleet's clock
	Reason    string     `json:"reason,omitempty"` // of unknown
}

// Holdings reads the verifier's state file and lists, for each device, the
// components for which want is true, sorted by device and component. A device of
// which nothing is known gives one Holding that says why.
func Holdings(stateFile string, releases Releases, want func(name, version string) bool) ([]Holding, error) {
	devices, err := load(stateFile)
	if err != nil {
		return nil, err
	}
	all := []Holding{}
	for _, d := range devices {
		all = append(all, d.holdings(releases, want)...)
	}
	slices.SortFunc(all, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Component, b.Component))
	})
	return all, nil
}

func (d *device) holdings(releases Releases, want func(name, version string) bool) []Holding {
	one := Holding{Tenant: d.tenant, Device: d.name, State: Unknown}
	if d.Running == nil {
		one.Reason = "no evidence has told which components ran"
		return []Holding{one}
	}
	one.At, one.Boot = &d.Running.At, d.Running.Boot
	r := releases[string(d.Running.Release)]
	one.Release = r.Version
	if r.Baseline == nil {
		one.Reason = fmt.Sprintf("the file baseline of its release (manifest %s) is not given", d.Running.Release)
		return []Holding{one}
	}
	ran, f := r.components(d.Running.Set)
	if f != nil {
		one.Reason = f.Detail
		return []Holding{one}
	}
	var out []Holding
	for _, c := range r.Baseline.Components() {
		h := one
		h.Component = c
		if h.Name, h.Version = inventory.Split(c); !want(h.Name, h.Version) {
			continue
		}
		h.State = Dormant
		if _, found := slices.BinarySearch(ran.Running, c); found {
			h.State = Running
		}
		out = append(out, h)
	}
	return out
}
