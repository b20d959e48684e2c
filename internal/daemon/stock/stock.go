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
	"ward/internal/trust/baseline"
)

// New makes the role. latest gives the last appraisal of the boot, and is not called
// before something is told to the role or asked of it.
func New(latest func() (attester.Snapshot, bool), c inventory.Config) *inventory.Role {
	c.Release = func() (*baseline.Index, bool) {
		s, _ := latest()
		return s.Baseline, s.Release != nil && s.Release.Manifest().SBOM != nil
	}
	return inventory.New(c)
}

// Tell is the device's software as the local socket tells it; i says what the daemon
// knows of itself and of the release.
func Tell(r *inventory.Role, latest func() (attester.Snapshot, bool), i localapi.Inventory) localapi.Inventory {
	i.Kernel = kernelRelease()
	i.Components, i.Running, i.Known = r.Status()
	if l, _ := latest(); l.Release != nil {
		if b := l.Release.Manifest().SBOM; b != nil {
			i.SBOM = &localapi.SBOM{Digest: b.Digest.String(), MediaType: b.MediaType, Path: b.Path}
		}
	}
	if !i.Known {
		i.Reason = "there is no trusted file baseline: look at the findings"
	}
	return i
}

// kernelRelease is the kernel's release (proc(5)), empty where it cannot be read.
func kernelRelease() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
