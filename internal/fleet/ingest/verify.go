package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/trust/presence"
	"ward/internal/trust/verdict"
)

// Verifier asks devices for evidence and judges what they send. It is called by
// one goroutine.
type Verifier interface {
	// Heard takes a device's status.
	Heard(now time.Time, s presence.Status)
	// Take takes one message of evidence. known tells the hash of a record of that
	// device; false when it is not known.
	Take(now time.Time, tenant, device string, message []byte, known func(epoch, sequence uint64) (chain.Hash, bool)) []verdict.Statement
	// Look tells whom to ask, and what there is to say; it is called every second.
	// Its error is a failure to make questions or to keep what is known, and ends
	// listening.
	Look(now time.Time) (ask []verdict.Question, say []verdict.Statement, err error)
}

// errVerifier: questions cannot be made or kept; listening ends with it, as with
// files that cannot be written.
var errVerifier = errors.New("the verifier cannot go on")

// verify hands the verifier what it is about: statuses that were accepted, and
// evidence.
func (i *Ingest) verify(ctx context.Context, now time.Time, m mqtt.Message, received []Received) {
	if i.config.Verifier == nil {
		return
	}
	for _, r := range received {
		if r.Kind == KindStatus {
			i.config.Verifier.Heard(now, r.Status)
		}
	}
	tenant, device, kind, err := presence.ParseTopic(m.Topic)
	if err != nil || kind != presence.Evidence {
		return
	}
	known := func(epoch, sequence uint64) (chain.Hash, bool) { return i.book.hash(tenant, device, epoch, sequence) }
	i.emit(ctx, statements(now, i.config.Verifier.Take(now, tenant, device, m.Payload, known)))
}

// ask sends the questions that are due. As with receipts, it does not wait for the
// broker: a question that is lost expires, and another one is asked.
func (i *Ingest) ask(ctx context.Context, now time.Time, conn *mqtt.Client) error {
	if i.config.Verifier == nil {
		return nil
	}
	ask, say, err := i.config.Verifier.Look(now)
	i.emit(ctx, statements(now, say))
	if err != nil {
		return fmt.Errorf("%w: %w", errVerifier, err)
	}
	for _, q := range ask {
		if _, err := conn.Send(presence.Topic(q.Tenant, q.Device, presence.Challenge), false, q.Envelope); err != nil {
			return err
		}
	}
	return nil
}

// lost tells the verifier that no device can be heard: the fleet's own connection
// has ended, and with it answers that were on their way. The statuses that the
// broker keeps tell who is there when it stands again.
func (i *Ingest) lost(now time.Time) {
	if i.config.Verifier == nil {
		return
	}
	for _, d := range i.book.devices {
		if d.state == presence.Online {
			i.config.Verifier.Heard(now, presence.Status{State: presence.Lost, Tenant: d.tenant, Device: d.name})
		}
	}
}

func statements(now time.Time, say []verdict.Statement) []Received {
	var out []Received
	for _, s := range say {
		r := Received{At: now, Kind: KindFinding, Tenant: s.Tenant, Device: s.Device, Finding: s.Finding, Cleared: s.Cleared}
		if s.Verdict != nil {
			r.Kind, r.Verdict = KindVerdict, s.Verdict
		}
		out = append(out, r)
	}
	return out
}
