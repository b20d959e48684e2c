// Package stock is the role that notes which components have run (package
// inventory) as the daemon wires it: with the release that the attester verified,
// and on the local socket.
package stock

import (
	"os"
	"strings"

	"ward/internal/agent/attester"
	"ward/internal/agent/inventory"
	"ward/internal/agent/localapi"
)

// Stock is the role with what it is asked beside.
type Stock struct {
	*inventory.Role
	latest func() (attester.Snapshot, bool)
	boot   string
}

// New makes the role. latest gives the last appraisal of the boot, and is not called
// before the role runs or is told something.
func New(latest func() (attester.Snapshot, bool), c inventory.Config) *Stock {
	c.Release = func() (inventory.Baseline, bool) {
		s, _ := latest()
		if s.Release == nil || s.Baseline == nil {
			return nil, false
		}
		return s.Baseline, s.Release.Manifest().SBOM != nil
	}
	return &Stock{inventory.New(c), latest, c.Boot}
}

// Action tells the device's software on the local socket; ward is the daemon's
// version, and describe describes the release.
func (s *Stock) Action(ward string, describe func() (localapi.Release, localapi.Verdict)) localapi.Action {
	return localapi.TellInventory(func() localapi.Inventory {
		st := s.Status()
		release, _ := describe()
		i := localapi.Inventory{
			Ward: ward, Kernel: kernelRelease(), Boot: s.boot, Release: release,
			Components: st.Components, Known: st.Known, Running: st.Ran,
		}
		if l, _ := s.latest(); l.Release != nil {
			if b := l.Release.Manifest().SBOM; b != nil {
				i.SBOM = &localapi.SBOM{Digest: b.Digest.String(), MediaType: b.MediaType, Path: b.Path}
			}
		}
		if !st.Known {
			i.Reason = "there is no trusted file baseline: look at the findings"
		}
		return i
	})
}

// kernelRelease is the kernel's release (proc(5)), empty where it cannot be read.
func kernelRelease() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
