package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ward/internal/agent/integrity/scan"
	"ward/internal/agent/localapi"
	"ward/internal/device/bootclock"
	"ward/internal/device/dm"
	"ward/internal/trust/baseline"
)

// scanParts are what the scan of the files asks of other parts of the daemon.
type scanParts struct {
	lease   scan.Lease                 // nil: nobody takes one
	hide    func(path string) string   // of a path that the release does not name
	vouched func(baseline.Device) bool // whether dm-verity proves a file system with the release's root hash; nil: none
}

// assembleScan makes the role that compares all files with the release.
func (d *daemon) assembleScan(boot *bootState, p scanParts) *scan.Scanner {
	s := scan.New(scan.Config{
		Files: boot.files, Policy: boot.watched, Lease: p.lease, Hide: p.hide, Vouched: p.vouched,
		State: filepath.Join(d.config.Paths.State, "scan.json"), Boot: d.boot, Now: bootclock.Now,
		Recorder: d.recorder, First: boot.told.First, Alive: d.alive("scan"), Log: d.log.With("role", "scan"),
	})
	d.add("scan", slowBound, s.Run)
	return s
}

// vouched says whether dm-verity proves a file system with the release's root hash:
// its block device is one whose table, as it was read before the privileges went,
// holds that hash.
func (d *daemon) vouched(boot *bootState) func(baseline.Device) bool {
	return func(dev baseline.Device) bool {
		s, _ := boot.attester.Latest()
		if s.Release == nil {
			return false
		}
		want := s.Release.Manifest().Files.VerityRootHash
		name, err := os.ReadFile(fmt.Sprintf("%s/dev/block/%d:%d/dm/name", d.config.Paths.SysFS, dev.Major, dev.Minor))
		if err != nil || want.IsZero() {
			return false
		}
		for _, t := range d.early.Tables {
			if t.Target != "verity" || t.Name != string(bytes.TrimSpace(name)) {
				continue
			}
			v, err := dm.ParseVerity(t.Params)
			return err == nil && bytes.Equal(v.RootHash, want[:])
		}
		return false
	}
}

// describeScan is the scan for the local socket.
func describeScan(s scan.Status) localapi.Scan {
	out := localapi.Scan{
		State: s.State, Detail: s.Detail, Reason: s.Reason, Full: s.Full, Percent: s.Percent(), Files: s.Counts.Files, Bytes: s.Counts.Bytes,
		Where: s.Where, NextSeconds: int64(s.Next / time.Second), Ended: s.Ended, Coming: s.Coming, Overdue: s.Overdue, LateHours: int64(s.Late / time.Hour),
	}
	if s.Last != nil {
		out.Last, _ = json.Marshal(s.Last) // counts and words: it always encodes
		at := s.LastAt
		out.LastAt = &at
	}
	return out
}
