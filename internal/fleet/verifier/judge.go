package verifier

import (
	"crypto/ecdsa"
	"fmt"
	"time"

	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/verdict"
)

// judge gives the verdict on a document. What it does, in this order:
//
//  1. evidence with a nonce answers the question that waits for it, in time and
//     once; else it is not appraised;
//  2. an event log that is named by its digest is put back;
//  3. appraisal against the release that the evidence names, with the device's
//     registered key and what earlier evidence has established;
//  4. the head of the record that the quotes sign is the one that the fleet holds
//     of that record, if it holds it;
//  5. which components have run is named from the release's baseline;
//  6. what a quote vouches for is kept.
func (v *Verifier) judge(now time.Time, d *device, e evidence.Evidence, known func(epoch, sequence uint64) (chain.Hash, bool)) []verdict.Statement {
	var say []verdict.Statement
	if d.Question != nil && now.After(d.Question.Expires) {
		say = v.expired(now, d)
	}
	asked, partial := len(e.Nonce) > 0, d.Question != nil && d.Question.Partial
	if f := v.answers(d, e); f != nil {
		return append(say, d.refused(e, *f))
	}
	log := v.restore(&e, d)
	key, keyFinding := v.key(now, d)
	r := v.config.Releases[string(e.Release)]
	res := appraisal.Appraise(e, r.Verified, appraisal.Policy{
		Baseline: r.Baseline, AK: key, Device: &appraisal.Name{Tenant: d.tenant, Device: d.name}, Nonce: e.Nonce, Since: d.Since,
	}, now)
	out := verdict.Of(res)
	out.Boot, out.Asked, out.Release, out.Version = e.Boot, asked, e.Release, r.Version
	if keyFinding != nil {
		out.Verdict = appraisal.Contraindicated
		out.Findings = append(out.Findings, *keyFinding)
	}
	if f := forked(e.Record, known); f != nil {
		out.Verdict = appraisal.Contraindicated
		out.Findings = append(out.Findings, *f)
	}
	var f *finding.Finding
	if out.Components, f = r.components(res.Running); f != nil {
		out.Findings = append(out.Findings, *f)
	}
	v.keep(now, d, e.EventLog, log, res)
	v.keepRunning(now, d, e, res.Running, f == nil)
	say = append(say, verdict.Statement{Tenant: d.tenant, Device: d.name, Verdict: &out})
	if !asked {
		return say
	}
	d.next, d.misses = now.Add(v.config.Every), 0
	if partial && out.Verdict != appraisal.Affirming {
		d.whole, d.next = true, now // what was left out may explain it
	}
	if d.Missing {
		d.Missing = false
		f := finding.New(finding.LinkEvidenceMissing, "the device has answered")
		cleared := d.state(&f)
		cleared.Cleared = true
		say = append(say, cleared)
	}
	return say
}

// refused is the verdict on evidence that is not appraised: none when it came too
// late, and contraindicated when it answers what was not asked.
func (d *device) refused(e evidence.Evidence, f finding.Finding) verdict.Statement {
	out := verdict.Verdict{Findings: []finding.Finding{f}, Boot: e.Boot, Asked: true, Release: e.Release, Claims: map[appraisal.Claim]appraisal.Tier{}}
	if f.Code == finding.QuoteNonce {
		out.Verdict = appraisal.Contraindicated
	}
	return verdict.Statement{Tenant: d.tenant, Device: d.name, Verdict: &out}
}

// restore puts back the event log that the fleet holds, and returns its digest.
func (v *Verifier) restore(e *evidence.Evidence, d *device) pcr.Digest {
	if len(e.EventLog) > 0 || len(e.EventLogDigest) == 0 {
		return nil
	}
	digest := e.EventLogDigest
	if log := v.logs.held(digest); log != nil {
		e.EventLog, e.EventLogDigest = log, nil
		return digest
	}
	if e.EventLogError == "" {
		e.EventLogError = "the evidence names the log by a digest that is not known here"
	}
	d.whole, d.next = true, time.Time{}
	return nil
}

// forked compares the head of the record with what the fleet holds.
func forked(r evidence.Record, known func(epoch, sequence uint64) (chain.Hash, bool)) *finding.Finding {
	if known == nil || r.Sequence == 0 {
		return nil
	}
	hash, ok := known(r.Epoch, r.Sequence)
	if !ok || hash == r.Head {
		return nil
	}
	f := finding.New(finding.LinkSequenceGap, fmt.Sprintf("the quotes sign another record %d of epoch %d than the one that came here", r.Sequence, r.Epoch)).
		Want(hash.String(), r.Head.String())
	return &f
}

// keep takes over what the quotes vouch for. The event log, of this digest where
// it is held already, is kept when it explains the registers.
func (v *Verifier) keep(now time.Time, d *device, log []byte, digest pcr.Digest, res appraisal.Result) {
	if res.Next == nil {
		return
	}
	d.Since, d.Accepted, v.changed = res.Next, now, true
	d.log = nil
	if len(log) > 0 && res.Claims[appraisal.ClaimPCRs] == appraisal.Affirming {
		if digest == nil {
			digest = v.logs.keep(log)
		}
		d.log = digest
	}
}

// key is the device's attestation key. The first key that is registered for a
// device stays its key: another file in its place counts only with a recorded
// act. Until then the evidence is held against the first, and the other key is a
// finding.
func (v *Verifier) key(now time.Time, d *device) (*ecdsa.PublicKey, *finding.Finding) {
	registered, err := v.config.Keys.Lookup(now, d.tenant, d.name)
	if err != nil {
		v.config.Log.Warn("look up attestation key", "tenant", d.tenant, "device", d.name, "error", err)
	}
	if err != nil || registered == nil {
		return nil, nil
	}
	switch {
	case d.Key == nil:
	case d.Key.ID == registered.ID:
		return registered.Public, nil
	default:
		ok, err := v.config.Keys.Replaced(d.tenant, d.name, registered.ID)
		if err != nil || !ok {
			f := finding.New(finding.QuoteOtherKey, "another attestation key stands under the device's name, and no recorded act put it there").
				Want(d.Key.ID, registered.ID)
			return d.Key.Public, &f
		}
		v.config.Log.Info("attestation key replaced", "tenant", d.tenant, "device", d.name, "was", d.Key.ID, "is", registered.ID)
		d.Since, d.log = nil, nil // of another TPM, whose clock says nothing about this one's
	}
	d.Key, v.changed = registered, true
	return registered.Public, nil
}

// logs are event logs by their SHA-256: devices of one kind often share theirs.
type logs struct {
	byDigest map[string][]byte
	size     int
}

// maxLogs bounds the event logs that are held, in bytes. What has to go is asked
// for again.
const maxLogs = 256 << 20

func (l *logs) held(digest pcr.Digest) []byte { return l.byDigest[string(digest)] }

func (l *logs) keep(log []byte) pcr.Digest {
	digest := pcr.SHA256.Sum(log)
	if l.held(digest) != nil {
		return digest
	}
	for other, b := range l.byDigest {
		if l.size+len(log) <= maxLogs {
			break
		}
		delete(l.byDigest, other)
		l.size -= len(b)
	}
	if l.byDigest == nil {
		l.byDigest = make(map[string][]byte)
	}
	l.byDigest[string(digest)] = log
	l.size += len(log)
	return digest
}
