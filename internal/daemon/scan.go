package daemon

import (
	"encoding/json"
	"path/filepath"
	"time"

	"ward/internal/agent/integrity/scan"
	"ward/internal/agent/localapi"
	"ward/internal/device/bootclock"
	"ward/internal/trust/baseline"
	rules "ward/internal/trust/watch"
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
		Files: boot.files, Policy: boot.watchPolicy, Lease: p.lease, Hide: p.hide, Vouched: p.vouched,
		State: filepath.Join(d.config.Paths.State, "scan.json"), Boot: d.boot, Now: bootclock.Now,
		Recorder: d.recorder, First: boot.told.First, Alive: d.alive("scan"), Log: d.log.With("role", "scan"),
	})
	d.add("scan", slowBound, s.Run)
	return s
}

// files is the baseline of the verified release, nil while there is none.
func (b *bootState) files() *baseline.Index {
	s, _ := b.attester.Latest()
	return s.Baseline
}

// watchPolicy is how the verified release wants the device to be watched.
func (b *bootState) watchPolicy() rules.Policy {
	if s, _ := b.attester.Latest(); s.Release != nil {
		return s.Release.Manifest().Watch.Complete()
	}
	return rules.Default()
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
