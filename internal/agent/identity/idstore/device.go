package idstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ward/internal/device/tpm/object"
	"ward/internal/format/dsse"
	"ward/internal/trust/event"
)

const (
	deviceFile = Folder + "/device.json"
	// deviceVersion is the version of device.json.
	deviceVersion = 1
	// maxDevice bounds device.json: a public area has some 90 bytes.
	maxDevice = 4 << 10
)

// Device is what manufacture fixed (device.json).
type Device struct {
	Version int       `json:"version"`
	Tenant  string    `json:"tenant"`
	Serial  string    `json:"serial"` // the device id
	SRK     []byte    `json:"srk"`    // TPMT_PUBLIC of the storage root key, to pin the TPM by
	Made    time.Time `json:"made"`
}

// Device reads device.json. ErrNone: the device was not manufactured yet.
func (s *Store) Device() (Device, error) {
	var d Device
	err := s.read(deviceFile, maxDevice, func(b []byte) (err error) {
		d, err = ParseDevice(b)
		return err
	})
	return d, err
}

// SetDevice writes device.json, with its version and the time in UTC.
func (s *Store) SetDevice(d Device) error {
	d.Version, d.Made = deviceVersion, d.Made.UTC()
	if err := d.check(); err != nil {
		return fmt.Errorf("write %s: %w", deviceFile, err)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", deviceFile, err)
	}
	return s.write(Folder, "device.json", append(b, '\n'), modePublic)
}

// ParseDevice reads the content of device.json: strict JSON, and nothing in it
// that could not be.
func ParseDevice(b []byte) (Device, error) {
	if len(b) > maxDevice {
		return Device{}, fmt.Errorf("parse device: %d bytes, want at most %d", len(b), maxDevice)
	}
	var v Device
	if err := dsse.DecodeJSON(b, &v); err != nil {
		return Device{}, fmt.Errorf("parse device: %w", err)
	}
	if err := v.check(); err != nil {
		return Device{}, fmt.Errorf("parse device: %w", err)
	}
	return v, nil
}

func (d Device) check() error {
	if d.Version != deviceVersion {
		return fmt.Errorf("version %d, want %d", d.Version, deviceVersion)
	}
	if err := event.CheckName(d.Tenant); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	if err := event.CheckName(d.Serial); err != nil {
		return fmt.Errorf("serial number: %w", err)
	}
	if _, err := (object.Blob{Public: d.SRK}).Key(); err != nil {
		return fmt.Errorf("storage root key: %w", err)
	}
	if d.Made.IsZero() {
		return errors.New("no time of manufacture")
	}
	return nil
}
