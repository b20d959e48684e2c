package daemon

import (
	"path/filepath"

	"ward/internal/agent/integrity/scan"
	"ward/internal/daemon/filescan"
	"ward/internal/trust/baseline"
)

// assembleScan makes the role that compares all files with the release.
func (d *daemon) assembleScan(boot *bootState, therapy scan.Lease) *scan.Scanner {
	s := filescan.New(boot.attester, scan.Config{
		Lease: therapy, Hide: boot.names.Hide, Vouched: func(fs baseline.Device) bool {
			l, _ := boot.attester.Latest()
			return l.Release != nil && d.early.Proven(d.config.Paths.SysFS, fs, l.Release.Manifest().Files.VerityRootHash)
		},
		State: filepath.Join(d.config.Paths.State, "scan.json"), Boot: d.boot,
		Recorder: d.recorder, First: boot.told.First, Alive: d.alive("scan"), Log: d.log.With("role", "scan"),
	})
	d.add("scan", slowBound, s.Run)
	return s
}
