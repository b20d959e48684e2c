// Package software holds those verbs of wardctl that tell the owner what software
// the device holds and what of it ran (IEC 62443-4-2, CR 7.8; FDA, section 524B):
// from the daemon, and where it does not answer from the same files.
package software

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/cmd/wardctl/onsite"
	"ward/internal/agent/attester"
	"ward/internal/agent/inventory"
	"ward/internal/agent/localapi"
	"ward/internal/config"
	"ward/internal/device/bootclock"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// told is what is known of the software; its JSON is the verbs' output.
type told struct {
	localapi.Inventory
	Offline  bool              `json:"offline"` // the daemon did not answer
	Findings []finding.Finding `json:"findings"`
}

// source says where to ask.
type source struct{ socket, config string }

func (s *source) flags(cmd *cobra.Command, socket string) {
	cmd.Flags().StringVar(&s.socket, "socket", socket, "the daemon's local `socket`")
	onsite.Flag(cmd, &s.config)
}

// ask asks the daemon, else the files.
func (s *source) ask(cmd *cobra.Command) (told, error) {
	i, err := localapi.NewClient(s.socket).Inventory(cmd.Context())
	if err == nil {
		return told{Inventory: i, Findings: []finding.Finding{}}, nil
	}
	if !errors.Is(err, localapi.ErrDown) {
		return told{}, console.Down(err, s.socket)
	}
	device, err := onsite.Open(cmd, s.config)
	if err != nil {
		return told{}, err
	}
	return offline(device.Settings), nil
}

// offline reads what the daemon reads, and what it has kept of this boot.
func offline(c config.Config) told {
	t := told{Offline: true, Findings: []finding.Finding{}}
	t.Running = []string{}
	t.Kernel = firstLine("/proc/sys/kernel/osrelease")
	t.Boot, _ = bootclock.ID(os.DirFS("/proc"))
	r, found := attester.LoadRelease(c.Paths.Release, c.Paths.Trust, c.ReleaseThreshold)
	t.Findings = append(t.Findings, found...)
	if r == nil {
		t.Release.Reason, t.Reason = "see the findings", "the release cannot be verified"
		return t
	}
	m := r.Manifest()
	t.Release = localapi.Release{Product: m.Product, Board: m.Board, Version: m.Version, Digest: release.Digest(r.Digest()).String(), Verified: true}
	if m.SBOM != nil {
		t.SBOM = &localapi.SBOM{Digest: m.SBOM.Digest.String(), MediaType: m.SBOM.MediaType, Path: m.SBOM.Path}
	}
	index, found := attester.LoadBaseline(c.Paths.Baseline, r)
	t.Findings = append(t.Findings, found...)
	if index == nil {
		t.Reason = "there is no trusted file baseline"
		return t
	}
	components := index.Components()
	t.Components = len(components)
	boot, set, err := inventory.Read(filepath.Join(c.Paths.State, inventory.File))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.Reason = "wardd has kept nothing"
	case err != nil:
		t.Reason = err.Error()
	case boot != t.Boot:
		t.Reason = "wardd has not run in this boot, or not for a minute"
	case set.Baseline() != index.Digest():
		t.Reason = "what wardd kept is of another release"
	default:
		if t.Running, err = set.Names(components); err != nil {
			t.Running, t.Reason = []string{}, err.Error()
			break
		}
		t.Known = true
	}
	return t
}

func firstLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
