package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"ward/internal/agent/attester"
	"ward/internal/agent/inventory"
	"ward/internal/agent/localapi"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// assembleInventory makes the role that notes which components have run; a is set
// before any role runs.
func (d *daemon) assembleInventory(a **attester.Attester, first func(context.Context, string, finding.Finding) bool) *inventory.Role {
	stock := inventory.New(inventory.Config{
		Release: func() (inventory.Baseline, bool) {
			s, _ := (*a).Latest()
			if s.Release == nil || s.Baseline == nil {
				return nil, false
			}
			return s.Baseline, s.Release.Manifest().SBOM != nil
		},
		SecurityFS: os.DirFS(d.config.Paths.SecurityFS()), Boot: d.boot, State: filepath.Join(d.config.Paths.State, inventory.File),
		Recorder: d.recorder, First: first, Alive: d.alive("inventory"), Log: d.log.With("role", "inventory"),
	})
	d.add("inventory", slowBound, stock.Run)
	return stock
}

// tellInventory is the device's software as the local socket tells it.
func (d *daemon) tellInventory(boot *bootState) localapi.Action {
	return localapi.TellInventory(func() localapi.Inventory {
		s := boot.stock.Status()
		i := localapi.Inventory{Ward: Version(), Kernel: kernelRelease(), Boot: d.boot, Components: s.Components, Known: s.Known, Running: s.Ran}
		i.Release, _ = boot.describe()
		if l, _ := boot.attester.Latest(); l.Release != nil {
			if b := l.Release.Manifest().SBOM; b != nil {
				i.SBOM = describeSBOM(*b)
			}
		}
		if !s.Known {
			i.Reason = "there is no trusted file baseline: look at the findings"
		}
		return i
	})
}

func describeSBOM(b release.SBOM) *localapi.SBOM {
	return &localapi.SBOM{Digest: b.Digest.String(), MediaType: b.MediaType, Path: b.Path}
}

// kernelRelease is the kernel's release (proc(5)), empty where it cannot be read.
func kernelRelease() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
