package ingest

import (
	"context"
	"fmt"
	"slices"

	"ward/internal/device/mqtt"
	"ward/internal/format/dsse"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/rotation"
)

// Rotations are what the fleet has made of its keys, in order, by what they sign.
type Rotations struct{ Receipt, Challenge rotation.Line }

// checkKey names the receipt key as devices do, and refuses one that no device
// accepts after the rotations.
func (c Config) checkKey() (hint string, err error) {
	if c.ReceiptKey == nil {
		return "", nil
	}
	if err := c.Rotations.Receipt.Check(c.ReceiptKey.Public()); err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	id, err := dsse.KeyID(c.ReceiptKey.Public())
	if err != nil {
		return "", fmt.Errorf("listen: receipt key: %w", err)
	}
	return rotation.Hint(id), nil
}

// rotate sends a device that is there the rotations which it lacks, by the keys
// that it names, before anything that the new keys sign. As with receipts, it does
// not wait for the broker: a device that lacks one still says so in its next status.
func (i *Ingest) rotate(ctx context.Context, conn *mqtt.Client, received []Received) error {
	for _, r := range received {
		if r.Kind != KindStatus || r.Status.State != presence.Online {
			continue
		}
		receipts, then := i.config.Rotations.Receipt.For(r.Status.Keys)
		challenges, _ := i.config.Rotations.Challenge.For(r.Status.Keys)
		for kind, send := range map[presence.Kind][][]byte{presence.Receipt: receipts, presence.Challenge: challenges} {
			for _, envelope := range send {
				if _, err := conn.Send(presence.Topic(r.Tenant, r.Device, kind), false, envelope); err != nil {
					return err
				}
			}
		}
		if n := len(receipts) + len(challenges); n > 0 {
			i.config.Log.Info("key rotations sent", "tenant", r.Tenant, "device", r.Device, "rotations", n)
		}
		d := i.book.device(r.Tenant, r.Device)
		d.greeted = true
		i.emit(ctx, d.judgeKeys(r, then, i.hint))
	}
	return nil
}

// judgeKeys tells, once, that a device will not accept the fleet's receipts, and
// when it does again. Of a device that names no key nothing is known.
func (d *device) judgeKeys(r Received, accepts []string, hint string) []Received {
	if len(accepts) == 0 || hint == "" {
		return nil
	}
	estranged := !slices.Contains(accepts, hint)
	if estranged == d.estranged {
		return nil
	}
	d.estranged = estranged
	r = r.found(finding.LinkKeyUnknown, "the fleet signs with key %s, the device accepts %.200q", hint, accepts)
	r.Cleared = !estranged
	return []Received{r}
}

// ready says whether receipts may go to a device: where keys were rotated, not
// before its status was seen, for it might not know the new key yet.
func (i *Ingest) ready(d *device) bool {
	return d.greeted || i.config.Rotations.Receipt.Len() == 0
}
