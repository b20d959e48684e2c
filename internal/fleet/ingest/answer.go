package ingest

import (
	"context"
	"fmt"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
)

// answer makes durable what has been accepted and sends the receipts that are
// due. It does not wait for the broker's acknowledgements: a receipt that is
// lost is sent again when the device repeats itself.
func (i *Ingest) answer(ctx context.Context, conn *mqtt.Client) error {
	if !i.book.dirty() {
		return nil
	}
	if err := i.store.sync(i.book.devices); err != nil {
		return err
	}
	for _, d := range i.book.devices {
		if !i.ready(d) {
			continue // it does not accept the key yet
		}
		for _, l := range d.strands() {
			if err := i.receipt(ctx, conn, d, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// receipt sends that of one line of a device, if it is due.
func (i *Ingest) receipt(ctx context.Context, conn *mqtt.Client, d *device, l *strand) error {
	if !l.due {
		return nil
	}
	l.due = false
	if i.config.ReceiptKey == nil || l.Sequence == 0 {
		return nil
	}
	now := time.Now().UTC()
	envelope, err := receipt.Sign(receipt.Receipt{
		Tenant: d.tenant, Device: d.name, Epoch: l.Epoch, Sequence: l.Sequence, Head: l.Head, Time: now,
	}, i.config.ReceiptKey)
	if err != nil {
		return fmt.Errorf("answer %s: %w", d.name, err)
	}
	topic := presence.Topic(d.tenant, d.name, presence.Receipt)
	if _, err := conn.Send(topic, false, envelope); err != nil {
		l.due = true
		return err
	}
	i.emit(ctx, []Received{{At: now, Kind: KindReceipt, Topic: topic, Tenant: d.tenant, Device: d.name, Sequence: l.Sequence}})
	return nil
}
