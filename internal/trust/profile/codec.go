package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ward/internal/format/dsse"
	"ward/internal/format/pcr"
	"ward/internal/trust/release"
)

// Bounds of a profile.
const (
	// MaxSize bounds a profile, in bytes: the data are Secure Boot variables, of
	// which dbx is the largest with some tens of KiB.
	MaxSize   = 4 << 20
	maxText   = 128
	maxEvents = 4096    // of one register, as in a manifest
	maxData   = 1 << 20 // bytes of one event
)

var (
	// ErrSchema: the profile is of a version that this package does not read.
	ErrSchema = errors.New("firmware profile of another schema")
	// ErrProfile: it is no profile or breaks one of its rules.
	ErrProfile = errors.New("not a firmware profile")
)

// Encode gives a profile's bytes: JSON in a fixed order, indented so that two
// of them can be compared line by line. A profile that Parse would refuse is an
// error.
func Encode(p Profile) ([]byte, error) {
	if p.Schema != SchemaVersion {
		return nil, fmt.Errorf("encode firmware profile: %w: schema %d, want %d", ErrSchema, p.Schema, SchemaVersion)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("encode firmware profile: %w: %w", ErrProfile, err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("encode firmware profile: %w", err)
	}
	return b.Bytes(), nil
}

// Parse reads a profile. It checks, in this order: the size; the schema number,
// else ErrSchema; strict JSON (dsse.DecodeJSON); names, bank, locality and
// registers; that the events of each register give its value; that data hash to
// the digest of their event.
func Parse(b []byte) (Profile, error) {
	if len(b) > MaxSize {
		return Profile{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrProfile, len(b), MaxSize)
	}
	var version struct {
		Schema   *int    `json:"schema"`
		Firmware *string `json:"firmware"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return Profile{}, fmt.Errorf("%w: parse JSON: %w", ErrProfile, err)
	}
	if version.Schema == nil || version.Firmware == nil {
		return Profile{}, fmt.Errorf("%w: the schema number or the firmware's name is missing", ErrProfile)
	}
	if *version.Schema != SchemaVersion {
		return Profile{}, fmt.Errorf("%w: schema %d, this version reads %d", ErrSchema, *version.Schema, SchemaVersion)
	}
	var p Profile
	if err := dsse.DecodeJSON(b, &p); err != nil {
		return Profile{}, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	if err := p.check(); err != nil {
		return Profile{}, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	return p, nil
}

func (p *Profile) check() error {
	for _, f := range []struct{ name, text string }{{"board", p.Board}, {"firmware", p.Firmware}, {"version", p.Version}} {
		if f.text == "" && f.name != "version" {
			return fmt.Errorf("%s: is missing", f.name)
		}
		if len(f.text) > maxText || f.text != printable(f.text) {
			return fmt.Errorf("%s: want at most %d printable bytes", f.name, maxText)
		}
	}
	if p.Bank != pcr.SHA256.String() {
		return fmt.Errorf("bank: %q, want %q", p.Bank, pcr.SHA256)
	}
	if p.Locality != 0 && p.Locality != 3 && p.Locality != 4 {
		return fmt.Errorf("locality: %d, want 0, 3 or 4", p.Locality)
	}
	if p.BootPhase < 0 {
		return fmt.Errorf("bootPhase: %d, want a place in the log", p.BootPhase)
	}
	if len(p.PCRs) == 0 {
		return errors.New("pcrs: names no register")
	}
	for _, n := range slices.Sorted(maps.Keys(p.PCRs)) {
		if n < 0 || n >= pcr.Count {
			return fmt.Errorf("pcrs.%d: want 0 to %d", n, pcr.Count-1)
		}
		if err := p.checkRegister(n, p.PCRs[n]); err != nil {
			return fmt.Errorf("pcrs.%d: %w", n, err)
		}
	}
	return nil
}

func (p *Profile) checkRegister(n int, r Register) error {
	if len(r.Events) > maxEvents {
		return fmt.Errorf("events: %d, at most %d", len(r.Events), maxEvents)
	}
	for i, e := range r.Events {
		if err := (release.ReferenceEvent{Type: e.Type, Digest: e.Digest, Text: e.Text}).Check(); err != nil {
			return fmt.Errorf("events[%d].%w", i, err)
		}
		if e.Index < predicted {
			return fmt.Errorf("events[%d].index: %d, want a place in the log", i, e.Index)
		}
		if len(e.Data) > maxData {
			return fmt.Errorf("events[%d].data: %d bytes, at most %d", i, len(e.Data), maxData)
		}
		if len(e.Data) > 0 && !bytes.Equal(pcr.SHA256.Sum(e.Data), e.Digest) {
			return fmt.Errorf("events[%d].data: they do not hash to the digest", i)
		}
	}
	want, err := p.value(n, r.Events)
	if err != nil {
		return err
	}
	if !bytes.Equal(r.Value, want) {
		return fmt.Errorf("value: %s, the events give %s", r.Value, want)
	}
	return nil
}
