package ingest

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/format/dsse"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

// anchors is what the fleet knows of a device's checkpoints; it is kept in the state
// file.
type anchors struct {
	Key     string             `json:"key"` // the attestation key's id, as dsse.KeyID names it
	History checkpoint.History `json:"history"`
	Foreign bool               `json:"foreign,omitempty"` // that another key signs was told
}

// anchored judges the checkpoint in a record that was accepted, with the device's
// registered key, behind those before it. Where no key is registered nothing is
// judged, and nothing said.
func (i *Ingest) anchored(now time.Time, m mqtt.Message, accepted []byte) []Received {
	if i.config.AK == nil || accepted == nil {
		return nil
	}
	tenant, name, kind, err := presence.ParseTopic(m.Topic)
	if err != nil {
		return nil
	}
	d := i.book.devices[tenant+"/"+name]
	if kind == presence.ShedEvent {
		d.Anchors.History.Lose(1)
		return nil
	}
	if !bytes.Contains(accepted, []byte(event.Checkpoint)) {
		return nil
	}
	e, err := event.Parse(accepted)
	if err != nil || e.Type != event.Checkpoint {
		return nil
	}
	ak, err := i.config.AK(now, tenant, name)
	if err != nil || ak == nil {
		i.config.Log.Warn("checkpoint not verified: no attestation key", "tenant", tenant, "device", name, "error", err)
		return nil
	}
	var out []Received
	for _, f := range d.Anchors.judge(e, ak, i.book) {
		out = append(out, Received{At: now, Kind: KindFinding, Tenant: tenant, Device: name, Finding: &f})
	}
	return out
}

// judge verifies one checkpoint event. A device that was given another key begins
// anew: the counters are another TPM's.
func (a *anchors) judge(e event.Decoded, ak *ecdsa.PublicKey, b *book) []finding.Finding {
	id, err := dsse.KeyID(ak)
	if err != nil {
		return []finding.Finding{finding.New(finding.JournalAnchorInvalid, err.Error())}
	}
	if a.Key != id {
		*a = anchors{Key: id}
	}
	r, err := checkpoint.Parse(e.Report)
	var v checkpoint.Verified
	if err == nil {
		v, err = checkpoint.Verify(r, e.Source, e.Epoch, ak)
	}
	switch {
	case errors.Is(err, checkpoint.ErrSignature):
		if a.Foreign {
			return nil
		}
		a.Foreign = true
		return []finding.Finding{finding.New(finding.JournalForeign, "record "+e.ID+": "+err.Error())}
	case err != nil:
		return []finding.Finding{finding.New(finding.JournalAnchorInvalid, "record "+e.ID+": "+err.Error())}
	}
	a.Foreign = false
	known, _ := b.hash(e.Source.Tenant, e.Source.Device, e.Epoch, v.Place().Sequence)
	return a.History.Add(checkpoint.Entry{Verified: v, Record: e.Sequence, Known: known})
}
