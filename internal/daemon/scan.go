package daemon

import (
	"path/filepath"

	"ward/internal/agent/integrity/scan"
	"ward/internal/daemon/filescan"
)

// assembleScan makes the role that compares all files with the release.
func (d *daemon) assembleScan(boot *bootState) *scan.Scanner {
	s := filescan.New(boot.attester, scan.Config{
		State: filepath.Join(d.config.Paths.State, "scan.json"), Boot: d.boot,
		Recorder: d.recorder, First: boot.told.First, Alive: d.alive("scan"), Log: d.log.With("role", "scan"),
	})
	d.add("scan", slowBound, s.Run)
	return s
}
