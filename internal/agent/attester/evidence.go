package attester

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"slices"

	"ward/internal/device/securityfs"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/measured"
	"ward/internal/trust/release"
)

// MaxList bounds the IMA list in evidence that goes over the network, in bytes:
// some 20,000 entries of common length. A list that is longer when nobody holds
// any of it yet is marked as cut and cannot be verified there.
const MaxList = 3 << 20

// Question is what others want to know: evidence that answers a nonce. What they
// hold already of this boot need not be sent again; of another boot it is void.
type Question struct {
	Nonce    []byte         // empty: nobody asked
	Boot     string         // the boot that EventLog and List are of
	EventLog pcr.Digest     // SHA-256 of the event log that they hold; empty: none
	List     ima.Checkpoint // how far they have verified the IMA list
}

// shared is what others hold of this boot's logs, as their questions said.
type shared struct {
	eventLog pcr.Digest
	places   []place // where the list may be taken up, the newest last
}

// place is a checkpoint of the list with its position in the kernel's file.
type place struct {
	ima.Checkpoint
	at securityfs.Position
}

// maxPlaces bounds the places that are remembered: others may go on from an
// earlier one when an answer was lost on its way.
const maxPlaces = 8

// Evidence collects evidence and returns it as a document. The IMA list in it
// begins where the question says, if that is a place that an earlier answer has
// reached, else at its first entry. One answer is made at a time.
func (a *Attester) Evidence(ctx context.Context, q Question) ([]byte, error) {
	select {
	case a.answering <- struct{}{}:
		defer func() { <-a.answering }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c := a.collect(ctx, q.Nonce, a.release())
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	a.shareLog(&c.evidence, q)
	for round := 1; ; round++ {
		place, fits := a.shareList(&c.evidence, q)
		if fits {
			a.remember(place)
			break
		}
		if round == maxRounds || !a.requote(ctx, &c) {
			break
		}
	}
	if err := a.hide(&c.evidence); err != nil {
		return nil, err
	}
	return evidence.Encode(c.evidence)
}

// release is the verified release; before the first verdict it is loaded anew.
func (a *Attester) release() *release.Verified {
	if s, ok := a.Latest(); ok {
		return s.Release
	}
	r, _ := LoadRelease(a.config.Release, a.config.Trust, a.config.Threshold)
	return r
}

// shareLog leaves the event log out where the asker holds it: the newest question
// says so. A fleet that has forgotten the log no longer names it, and gets it.
func (a *Attester) shareLog(e *evidence.Evidence, q Question) {
	switch {
	case len(q.EventLog) > 0 && q.Boot == a.config.Boot:
		a.shared.eventLog = q.EventLog
	case len(q.Nonce) > 0:
		a.shared.eventLog = nil
	}
	if len(e.EventLog) == 0 || len(a.shared.eventLog) == 0 {
		return
	}
	if digest := sha256.Sum256(e.EventLog); slices.Equal(digest[:], a.shared.eventLog) {
		e.EventLog, e.EventLogDigest = nil, digest[:]
	}
}

// shareList puts the IMA list into the evidence, from where the asker stopped. It
// returns the place up to which it gives PCR 10; false when it does not.
func (a *Attester) shareList(e *evidence.Evidence, q Question) (place, bool) {
	from := a.from(q)
	part, err := securityfs.ReadIMAFrom(a.config.SecurityFS, from.at, a.config.MaxList)
	if err != nil && from.Entries > 0 && !errors.Is(err, fs.ErrPermission) {
		from = place{} // the kernel gave up entries, or the place is none any more
		part, err = securityfs.ReadIMAFrom(a.config.SecurityFS, from.at, a.config.MaxList)
	}
	e.IMAError, e.From, e.IMA, e.IMATruncated = reason(err), from.Checkpoint, part.List, part.Truncated
	if err != nil {
		e.From, e.IMA, e.IMATruncated = ima.Checkpoint{}, nil, false
		return place{}, true // there is nothing to wait for
	}
	return fit(from, part.List, e.PCRs[ima.Register])
}

// from finds the place at which the asker stopped.
func (a *Attester) from(q Question) place {
	if q.Boot != a.config.Boot || q.List.Entries == 0 {
		return place{}
	}
	for _, p := range slices.Backward(a.shared.places) {
		if p.Entries == q.List.Entries && slices.Equal(p.PCR, q.List.PCR) {
			return p
		}
	}
	return place{}
}

func (a *Attester) remember(p place) {
	if p.Entries == 0 || slices.ContainsFunc(a.shared.places, func(o place) bool { return o.at == p.at }) {
		return
	}
	if len(a.shared.places) == maxPlaces {
		a.shared.places = slices.Delete(a.shared.places, 0, 1)
	}
	a.shared.places = append(a.shared.places, p)
}

// fit replays a part of the list to the place at which it gives PCR 10.
func fit(from place, list []byte, held pcr.Digest) (place, bool) {
	if len(held) == 0 || slices.Equal(held, from.PCR) {
		return from, true
	}
	sum, _ := measured.Judge(bytes.NewReader(list), measured.Against{Bank: Bank, PCR10: held, From: from.Checkpoint})
	return place{sum.FitsAt, securityfs.Position{Entries: sum.FitsAt.Entries, Offset: from.at.Offset + sum.FitsOffset}}, sum.Fits
}
