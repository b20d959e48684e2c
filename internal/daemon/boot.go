package daemon

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"ward/internal/agent/attester"
	"ward/internal/agent/integrity"
	"ward/internal/agent/inventory"
	"ward/internal/agent/localapi"
	"ward/internal/agent/names"
	"ward/internal/agent/once"
	"ward/internal/daemon/posture"
	"ward/internal/daemon/stock"
	"ward/internal/device/posture/system"
	"ward/internal/device/tpm"
	"ward/internal/format/pcr"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	claims "ward/internal/trust/posture"
)

// bootState is what the daemon knows of its boot.
type bootState struct {
	attester *attester.Attester
	told     *once.Incidents // in this boot
	stock    *inventory.Role
	boot     string        // the kernel's boot id
	posture  *posture.Part // nil before it is assembled
	names    *names.Names
}

// assembleBoot makes the roles that judge the boot and what runs.
func (d *daemon) assembleBoot(chip *tpm.Lazy) *bootState {
	securityFS := os.DirFS(d.config.Paths.SecurityFS())
	p := d.config.Paths
	told := once.New(d.journal, d.boot, d.log)
	b := &bootState{told: told, boot: d.boot}
	d.assembleNames(b)
	ran := stock.New(func() (attester.Snapshot, bool) { return b.attester.Latest() }, inventory.Config{
		Boot: d.boot, State: filepath.Join(p.State, inventory.File), Hide: b.names.Hide, Recorder: d.recorder, First: told.First, Alive: d.alive("inventory"), Log: d.log.With("role", "inventory"),
	})
	d.add("inventory", slowBound, ran.Run)
	a := attester.New(attester.Config{
		Release: p.Release, Baseline: p.Baseline, Trust: p.Trust, Threshold: d.config.ReleaseThreshold, BringUp: d.config.BringUp,
		Tenant: d.source.Tenant, Device: d.source.Device, Boot: d.boot, SecurityFS: securityFS, SysFS: os.DirFS(p.SysFS),
		UserLogFS: os.DirFS(attester.UserLogFolder), TPM: chip, Started: d.started, Head: d.head, State: filepath.Join(p.State, "attester.json"),
		Running: ran.Running, Posture: func() []claims.Claim { return b.posture.Claims() }, Recorder: d.recorder, First: told.First, Hide: b.names.Hide, Alive: d.alive("attester"), Log: d.log.With("role", "attester"),
	})
	b.attester = a
	d.add("attester", slowBound, a.Run)
	watch := integrity.New(integrity.Config{
		SecurityFS: securityFS, Poll: d.config.Integrity.IMAPoll, Start: covered{a},
		Ran: ran.Ran, Through: ran.Through, Recorder: d.recorder, First: told.First, Hide: b.names.Hide, Alive: d.alive("integrity"), Log: d.log.With("role", "integrity"),
	})
	d.add("integrity", slowBound, watch.Run)
	b.stock = ran
	return b
}

// head is the head of the journal as far as it is kept. Evidence without one is
// evidence all the same.
func (d *daemon) head() evidence.Record {
	if d.unkept != nil {
		return evidence.Record{} // a journal in memory has no place among the device's journals
	}
	sequence, h, err := d.journal.Head()
	if err != nil {
		d.log.Warn("the journal's head is not in the evidence", "error", err)
	}
	return evidence.Record{Epoch: d.journal.Epoch(), Sequence: sequence, Head: h}
}

// covered tells the watch over the measurement list where the appraisal of the
// boot has stopped.
type covered struct{ *attester.Attester }

func (c covered) Judged(ctx context.Context) (*baseline.Index, int, error) {
	s, err := c.Attester.Judged(ctx)
	return s.Baseline, s.Covered(), err
}

// assemblePosture makes the role that watches the device's state beside its files.
func (d *daemon) assemblePosture(chip *tpm.Lazy, boot *bootState) {
	boot.posture = posture.New(posture.Config{
		Root: os.DirFS("/"), Boot: boot.attester, TPM: chip, System: system.Config{Tables: d.early.Tables, TablesError: d.early.Mapper},
		Hide: boot.names.Hide, Mark: boot.names.Mark, Recorder: d.recorder, Alive: d.alive("posture"), Log: d.log.With("role", "posture"),
	})
	d.add("posture", slowBound, boot.posture.Run)
}

// wait returns when the boot was judged, at the latest after limit.
func (b *bootState) wait(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, _ = b.attester.Judged(ctx)
}

func (b *bootState) releaseVersion() string {
	if s, _ := b.attester.Latest(); s.Release != nil {
		return s.Release.Manifest().Version
	}
	return ""
}

// builtAt is when the release was built: no clock is believed to be earlier.
// Zero while no release is verified.
func (b *bootState) builtAt() time.Time {
	if s, _ := b.attester.Latest(); s.Release != nil {
		return s.Release.Manifest().BuildTime
	}
	return time.Time{}
}

// software is what the device holds and what of it ran, for the local socket.
func (b *bootState) software() localapi.Inventory {
	r, _ := b.describe()
	return stock.Tell(b.stock, b.attester.Latest, localapi.Inventory{Ward: Version(), Boot: b.boot, Release: r})
}

// describe is release and verdict for the local socket.
func (b *bootState) describe() (localapi.Release, localapi.Verdict) {
	l, done := b.attester.Latest()
	if !done {
		return localapi.Release{Reason: "not looked at yet"}, localapi.Verdict{Tier: "none", Reason: "the boot is being appraised"}
	}
	r := localapi.Release{Reason: "see the findings"}
	if l.Release != nil {
		m, digest := l.Release.Manifest(), l.Release.Digest()
		r = localapi.Release{Product: m.Product, Board: m.Board, Version: m.Version, Digest: pcr.Digest(digest[:]).String(), Verified: true}
	}
	v := localapi.Verdict{
		Tier: l.Result.Verdict.String(), Claims: make(map[string]string), Events: l.Result.Events, IMAEntries: l.Result.IMAEntries,
		TookMS: float64(l.Took.Microseconds()) / 1000, TPMMS: float64(l.TPM.Microseconds()) / 1000,
	}
	for c, t := range l.Result.Claims {
		v.Claims[string(c)] = t.String()
	}
	if b, err := json.Marshal(l.Result.PCRs); err == nil {
		v.PCRs = b
	}
	return r, v
}
