package daemon

import (
	"os"
	"strconv"
	"strings"
	"time"

	"ward/internal/agent/health"
	"ward/internal/agent/identity"
	"ward/internal/agent/journal"
	"ward/internal/agent/localapi"
	"ward/internal/agent/uplink"
	"ward/internal/daemon/bedside"
	"ward/internal/daemon/keyuse"
	"ward/internal/trust/finding"
)

// status puts together what the local socket tells.
func (d *daemon) status(boot *bootState, who *identity.Role, link *uplink.Uplink, c *health.Conditions) localapi.Status {
	j, id := d.journal.Status(), who.Status()
	s := localapi.Status{
		Version: Version(), Started: d.started, UptimeMS: time.Since(d.started).Milliseconds(),
		Boot: d.boot, Tenant: d.source.Tenant, Device: d.source.Device, Mode: "enforcing",
		Journal: localapi.Journal{
			Epoch: j.Epoch, Sequence: j.Sequence, Durable: j.Durable, Acknowledged: j.Acknowledged, Head: j.Head.String(),
			Bytes: j.Bytes, MaxBytes: j.MaxBytes, Unconfirmed: j.Unconfirmed, Lost: j.Lost, Error: j.Error, Memory: d.unkept != nil,
			Flash: localapi.Flash{
				Today: int64(j.Flash.Today), ElapsedSeconds: j.Flash.Elapsed, Before: int64(j.Flash.Before), Total: int64(j.Flash.Total), Budget: journal.FlashBudget,
			},
		},
		Identity: keyuse.Describe(id),
		Volumes:  d.volumeStatus(),
		Link:     localapi.Link{State: "off", Session: d.session},
		Memory:   localapi.Memory{ResidentKiB: resident()},
	}
	if d.early != nil {
		s.Blind = d.early.Blind
	}
	if d.unkept != nil {
		s.Journal.Error = d.unkept.Error()
	}
	if d.config.BringUp {
		s.Mode = "bring-up"
	}
	s.Release, s.Verdict = boot.describe()
	if link != nil {
		l := link.Status()
		s.Link = localapi.Link{State: l.State, Broker: l.Broker, Since: l.Since, Session: d.session, LastReceipt: l.LastReceipt, LastEvidence: l.LastEvidence, Error: l.LastError, SentToday: l.SentToday, DailyBytes: l.DailyBytes}
	}
	for _, r := range d.health.Roles() {
		s.Roles = append(s.Roles, localapi.Role{Name: r.Name, State: r.State, Progress: r.Progress, Detail: r.Detail})
	}
	held, incidents := c.Active()
	s.Findings, s.Incidents = bedside.DescribeConditions(held), incidents
	if s.Incidents == nil {
		s.Incidents = []finding.Finding{}
	}
	return s
}

// resident is the process's resident memory in KiB (proc(5), statm), 0 where it
// cannot be read.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize()) >> 10
}
