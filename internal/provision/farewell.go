package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/journal"
	"ward/internal/device/bootclock"
	"ward/internal/device/tpm"
	"ward/internal/format/dsse"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// FarewellType is the payload type of a farewell: a DSSE envelope by the
// reporting key, whose payload is the event as it stands in the journal.
const FarewellType = "application/vnd.ward.farewell.v1+json"

// JournalFolder is the journal's folder in the state directory.
const JournalFolder = "journal"

// sayFarewell appends the last event to the journal, and returns it signed.
func sayFarewell(ctx context.Context, chip *tpm.TPM, store *idstore.Store, o Parting) ([]byte, error) {
	d, err := pinned(chip, store)
	if err != nil {
		return nil, err
	}
	g, err := newest(store, enrolment.Reporting)
	if err != nil {
		return nil, err
	}
	key, err := signer(ctx, chip, g, nil)
	if err != nil {
		return nil, err
	}
	last, err := lastRecord(ctx, d, o)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	envelope, err := dsse.Sign(FarewellType, last, key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return envelope, nil
}

// lastRecord records the event and returns its bytes.
func lastRecord(ctx context.Context, d idstore.Device, o Parting) (bytes []byte, err error) {
	dir := filepath.Join(o.State, JournalFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	boot, err := bootclock.ID(os.DirFS("/proc"))
	if err != nil {
		boot = "unknown"
	}
	j, err := journal.Open(journal.Config{
		Dir: dir, Source: event.Source{Tenant: d.Tenant, Device: d.Serial}, Boot: boot, Monotonic: bootclock.Now,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	report, err := json.Marshal(map[string]any{"made": d.Made.UTC().Format(time.RFC3339)})
	if err != nil {
		return nil, err
	}
	// High: Record returns after the sync, and the newest record is this one.
	if err := j.Record(ctx, event.Event{Type: event.Decommissioned, Time: o.Now, Subject: d.Serial, Severity: finding.High, Report: report}); err != nil {
		return nil, err
	}
	newest, _, err := j.Head()
	if err != nil {
		return nil, err
	}
	records, err := j.Read(ctx, newest-1, 1)
	if err != nil {
		return nil, err
	}
	if len(records) != 1 || records[0].Bytes == nil {
		return nil, errors.New("the event cannot be read again")
	}
	return records[0].Bytes, nil
}

// VerifyFarewell opens a farewell with the device's reporting key, and returns
// the event.
func VerifyFarewell(envelope []byte, keys *dsse.Keyring) (event.Decoded, error) {
	payload, _, err := keys.Open(envelope, FarewellType, 1)
	if err != nil {
		return event.Decoded{}, fmt.Errorf("open farewell: %w", err)
	}
	e, err := event.Parse(payload)
	if err == nil && e.Type != event.Decommissioned {
		err = fmt.Errorf("it is of type %s", e.Type)
	}
	if err != nil {
		return event.Decoded{}, fmt.Errorf("read farewell: %w", err)
	}
	return e, nil
}
