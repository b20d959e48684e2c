package daemon

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"ward/internal/agent/anchor"
	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/journal"
	"ward/internal/agent/localapi"
	"ward/internal/daemon/chip"
	"ward/internal/device/bootclock"
	"ward/internal/device/tpm"
	"ward/internal/format/pcr"
	"ward/internal/trust/event"
)

// assembleAnchor makes the role that ties the record to the TPM.
func (d *daemon) assembleAnchor(lazy *tpm.Lazy, boot *bootState) *anchor.Anchor {
	a := anchor.New(anchor.Config{
		Source: d.source, Boot: d.boot, Monotonic: bootclock.Now,
		Counter: counters{chip.Counters{Chip: lazy, Store: idstore.Open(d.config.Paths.State)}, d.unkept},
		Journal: durable{d.journal}, Recorder: d.recorder, Replaced: d.replaced,
		Judged: func(ctx context.Context) (pcr.Digest, error) {
			s, err := boot.attester.Judged(ctx)
			return s.Quoted, err
		},
		Alive: d.alive("anchor"), Log: d.log.With("role", "anchor"),
	})
	d.add("anchor", slowBound, a.Run)
	return a
}

// durable is the journal as far as no power cut takes it away.
type durable struct{ journal *journal.Journal }

func (d durable) Read(ctx context.Context, after uint64, limit int) ([]event.Record, error) {
	return d.journal.Read(ctx, after, limit)
}

func (d durable) Wait(ctx context.Context, after uint64) error { return d.journal.Wait(ctx, after) }

func (d durable) Durable() (epoch, sequence uint64) {
	s := d.journal.Status()
	return s.Epoch, s.Durable
}

// counters are those of a journal that is kept.
type counters struct {
	chip.Counters
	unkept error
}

// Key is the attestation key. A journal in memory is none to anchor: what its
// checkpoints would use up of the counters would be missing in the next one.
func (c counters) Key(ctx context.Context) (*ecdsa.PublicKey, error) {
	if c.unkept != nil {
		return nil, fmt.Errorf("the journal is in memory only: %w", c.unkept)
	}
	return c.Counters.Key(ctx)
}

// takeCheckpoint is the role as the local socket asks it.
func takeCheckpoint(a *anchor.Anchor) localapi.Action {
	return localapi.TakeCheckpoint(func(ctx context.Context) (json.RawMessage, error) {
		record, err := a.Take(ctx)
		switch {
		case errors.Is(err, anchor.ErrTooSoon):
			err = localapi.Refuse(http.StatusTooManyRequests, "%v", err)
		case err != nil:
			err = localapi.Refuse(http.StatusServiceUnavailable, "no checkpoint could be taken: %v", err)
		}
		return record, err
	})
}

func describeAnchor(s anchor.Status) *localapi.Anchor {
	out := &localapi.Anchor{Anchored: s.Anchored, Missing: s.Missing}
	if l := s.Last; l != nil {
		out.Counter, out.Value, out.Record = string(l.Counter), l.Value, l.Record
		out.AgeMS = (bootclock.Now() - l.At).Milliseconds()
	}
	return out
}
