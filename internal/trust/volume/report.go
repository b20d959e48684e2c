package volume

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"ward/internal/trust/finding"
)

// Names of the device's volumes.
const (
	State = "state" // Ward's own: identity, record
	Data  = "data"  // the medical application's
)

// Cause says why a volume did not open.
type Cause string

const (
	BootState Cause = "boot-state"  // no approval fits the registers of this boot
	Rollback  Cause = "rollback"    // the release is older than the counter admits
	OtherTPM  Cause = "other-tpm"   // the key was sealed by another TPM
	Cleared   Cause = "tpm-cleared" // the TPM has lost its keys
	NoTPM     Cause = "no-tpm"
	Failing   Cause = "tpm-failing"  // busy, hanging, in lockout, failing
	Policy    Cause = "other-policy" // the key is bound to another policy, or to none
	Release   Cause = "release"      // no approvals: manifest missing, unreadable, by another key
	Plain     Cause = "not-encrypted"
	Header    Cause = "header"  // damaged, or not one of Ward's
	Mapping   Cause = "mapping" // the key was there, and the volume did not open or mount
	Unknown   Cause = "unknown"
)

// Outcome is what became of one volume at this start. One is a line of JSON in
// the report; of two with the same name the later one counts.
type Outcome struct {
	Name   string `json:"name"`
	Opened bool   `json:"opened"`
	Cause  Cause  `json:"cause,omitempty"`
	Detail string `json:"detail,omitempty"`
	TookMS int64  `json:"tookMs,omitempty"` // until the key was there
}

// Bounds of a report: a line for each step of each volume.
const (
	MaxReport = 64 << 10 // bytes
	maxName   = 32
	maxDetail = 1 << 10
)

// Line writes the outcome as a line of the report.
func (o Outcome) Line() []byte {
	if len(o.Detail) > maxDetail {
		o.Detail = o.Detail[:maxDetail]
	}
	b, err := json.Marshal(o)
	if err != nil { // strings, a number and a truth value always encode
		panic("volume: encode outcome: " + err.Error())
	}
	return append(b, '\n')
}

// ParseReport reads a report: the outcome of each volume, in the order in which
// they were first named. A line that cannot be read spoils the report.
func ParseReport(text []byte) ([]Outcome, error) {
	if len(text) > MaxReport {
		return nil, fmt.Errorf("parse report on volumes: %d bytes, at most %d are read", len(text), MaxReport)
	}
	var all []Outcome
	n := 0
	for line := range bytes.Lines(text) {
		n++
		var o Outcome
		if err := json.Unmarshal(line, &o); err != nil {
			return nil, fmt.Errorf("parse report on volumes, line %d: %w", n, err)
		}
		if o.Name == "" || len(o.Name) > maxName || o.Opened != (o.Cause == "") || len(o.Detail) > 4*maxDetail {
			return nil, fmt.Errorf("parse report on volumes, line %d: want a name, and a cause where it did not open", n)
		}
		if i := slices.IndexFunc(all, func(a Outcome) bool { return a.Name == o.Name }); i >= 0 {
			all[i] = o
			continue
		}
		all = append(all, o)
	}
	return all, nil
}

// Finding is what a volume that did not open means. A volume that opened, and one
// that is none of the device's, gives none.
func (o Outcome) Finding() (finding.Finding, bool) {
	code, ours := map[string]finding.Code{State: finding.IdentityStateClosed, Data: finding.IdentityDataClosed}[o.Name]
	if o.Opened || !ours {
		return finding.Finding{}, false
	}
	about, known := abouts[o.Cause]
	if !known {
		about = abouts[Unknown]
	}
	detail := about.words
	if o.Detail != "" {
		detail += ": " + o.Detail
	}
	f := finding.New(code, detail)
	f.Remedy = about.remedy
	return f, true
}

// abouts say for each cause what it is and what to do.
var abouts = map[Cause]struct{ words, remedy string }{
	BootState: {"the boot state is none that the manufacturer approved",
		"Boot the release that the manufacturer signed; the findings about the boot name what differs. The volume opens by itself then."},
	Rollback: {"the release is older than this device admits",
		"Install the newest release. An older one opens nothing once a newer one was confirmed."},
	OtherTPM: {"its key was sealed by another TPM, or was changed",
		"If the main board or TPM was replaced: read the volume with the recovery key and manufacture the device anew. If not, treat the disk as foreign and report it to the manufacturer."},
	Cleared: {"the TPM was cleared",
		"Find out who cleared the TPM. Read the volume with the recovery key and manufacture the device anew."},
	NoTPM: {"there is no TPM",
		"Enable the TPM in the firmware set-up; if it is enabled, replace the main board and use the recovery key."},
	Failing: {"the TPM does not answer as it should",
		"Power the device off and on; if it stays, replace the main board and use the recovery key."},
	Policy: {"its key is not bound as it must be",
		"Treat the volume as altered: take the device out of use for connected services and report it to the manufacturer."},
	Release: {"the release manifest approves no boot state",
		"Put the manifest that belongs to the installed release back beside the kernel image: reinstall the release."},
	Plain: {"it is not encrypted, and was not mounted",
		"Treat the volume as altered: somebody put a plain file system in its place. Report it to the manufacturer; manufacture the device anew."},
	Header: {"its header is damaged, or not one that manufacture made",
		"Treat the volume as altered or damaged. Try the recovery key on a copy of the disk; else manufacture the device anew."},
	Mapping: {"its key was there, and it could not be opened or mounted",
		"Power the device off and on; if it stays, check the disk: the volume or its file system is damaged."},
	Unknown: {"it did not open",
		"Power the device off and on; if it stays, report it to the manufacturer with the detail."},
}
