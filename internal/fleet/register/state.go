package register

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"ward/internal/trust/presence"
)

// Acts.
const (
	actAdd     = "add"     // an operator registered a key
	actEnrol   = "enrol"   // a device proved its TPM
	actOpen    = "open"    // an operator opened the device for one other TPM
	actReplace = "replace" // another key took the place, by an operator or through an opening
	actRevoke  = "revoke"  // an operator revoked the device
)

// Act is one line of the record of acts.
type Act struct {
	Time   time.Time `json:"time"`
	Act    string    `json:"act"` // "add", "enrol", "open", "replace" or "revoke"
	Tenant string    `json:"tenant"`
	Device string    `json:"device"`
	Key    string    `json:"key"`              // id of the attestation key; of an opening, the one so far
	EK     string    `json:"ek,omitempty"`     // SHA-256 of the endorsement key's SubjectPublicKeyInfo, hex; of an opening, the only one admitted
	Was    string    `json:"was,omitempty"`    // id of the attestation key before it
	Reason string    `json:"reason,omitempty"` // an operator's
}

// Device is what the record says of a device.
type Device struct {
	Tenant string `json:"tenant"`
	Device string `json:"device"`
	AK     string `json:"ak"`           // id of its attestation key
	EK     string `json:"ek,omitempty"` // SHA-256 of its endorsement key's SubjectPublicKeyInfo; empty: it has not enrolled yet
	// Life counts the TPMs, from 1 on: what was issued in an earlier life is revoked.
	Life    int        `json:"life"`
	Since   time.Time  `json:"since"`             // begin of this life
	Open    bool       `json:"open,omitempty"`    // another TPM is let in, once
	OpenEK  string     `json:"openEK,omitempty"`  // only this one
	Revoked *time.Time `json:"revoked,omitempty"` // since when
	Reason  string     `json:"reason,omitempty"`  // of the last opening, replacement or revocation

	replaced bool        // the attestation key came by a replacement
	ends     []time.Time // of earlier lives: when what was issued in them lost its worth
}

// place names a device in maps.
func place(tenant, device string) string { return tenant + "/" + device }

func (d *Device) place() string { return place(d.Tenant, d.Device) }

// state is what the record of acts says, and key files that no act speaks of.
type state struct {
	devices  map[string]*Device // by place
	byEK     map[string]string  // place of the device that an endorsement key belongs to, for ever
	byAK     map[string]string  // place of the device that has an attestation key now
	barred   map[string]bool    // endorsement keys of revoked devices
	adopted  bool               // the folder was looked through
	unrecord map[string]string  // id of an attestation key that no act put there: its place
}

func (s *state) reset() {
	*s = state{
		devices: make(map[string]*Device), byEK: make(map[string]string), byAK: make(map[string]string),
		barred: make(map[string]bool), unrecord: make(map[string]string),
	}
}

// take lets one act count.
func (s *state) take(line []byte) error {
	var a Act
	if err := json.Unmarshal(line, &a); err != nil {
		return err
	}
	if err := presence.CheckNames(a.Tenant, a.Device); err != nil {
		return err
	}
	name := place(a.Tenant, a.Device)
	d := s.devices[name]
	if d == nil {
		d = &Device{Tenant: a.Tenant, Device: a.Device}
		s.devices[name] = d
	}
	switch a.Act {
	case actAdd, actEnrol:
		if d.Life == 0 {
			d.Life, d.Since = 1, a.Time
		}
		s.own(d, a.Key, a.EK, a.EK != "")
	case actReplace:
		end := a.Time
		if d.Revoked != nil {
			end = *d.Revoked
		}
		if d.Life > 0 {
			d.ends = append(d.ends, end)
		}
		d.Life++
		d.Since, d.Open, d.OpenEK, d.Revoked, d.replaced = a.Time, false, "", nil, true
		if a.Reason != "" {
			d.Reason = a.Reason
		}
		s.own(d, a.Key, a.EK, true)
		delete(s.barred, a.EK)
	case actOpen:
		d.Open, d.OpenEK, d.Reason = true, a.EK, a.Reason
	case actRevoke:
		if when := a.Time; d.Revoked == nil {
			d.Revoked = &when
		}
		d.Reason, d.Open, d.OpenEK = a.Reason, false, ""
		if d.EK != "" {
			s.barred[d.EK] = true
		}
	default:
		return fmt.Errorf("act %.40q is not known", a.Act)
	}
	return nil
}

func (s *state) own(d *Device, ak, ek string, known bool) {
	if s.byAK[d.AK] == d.place() {
		delete(s.byAK, d.AK)
	}
	d.AK, s.byAK[ak] = ak, d.place()
	if known {
		d.EK = ek
		if ek != "" {
			s.byEK[ek] = d.place()
		}
	}
}

// adopt looks once for key files that no act speaks of.
func (s *state) adopt(dir string) error {
	if s.adopted {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"+keySuffix))
	if err != nil {
		return fmt.Errorf("list keys of devices: %w", err)
	}
	for _, f := range files {
		name := place(filepath.Base(filepath.Dir(f)), strings.TrimSuffix(filepath.Base(f), keySuffix))
		if s.devices[name] != nil {
			continue
		}
		k, err := readKey(f)
		if err != nil {
			return err
		}
		s.unrecord[k.ID] = name
	}
	s.adopted = true
	return nil
}

// owner names the device that has an attestation key, "" when nobody but this
// one has.
func (s *state) owner(ak, but string) string {
	for _, name := range []string{s.byAK[ak], s.unrecord[ak]} {
		if name != "" && name != but {
			tenant, device, _ := strings.Cut(name, "/")
			return device + " of " + tenant
		}
	}
	return ""
}
