// Package release holds the release manifest: the one signed statement of what
// a released device is. It names the product and version, the reference values
// (RFC 9334, section 2.1) of each platform configuration register, and the file
// baseline. It travels as a DSSE envelope (package dsse) of the payload type
// below, as JSON that is encoded deterministically: the same manifest always
// gives the same bytes, and thus the same digest, by which fleet and device
// speak of it. Open is the only maker of Verified, and what acts on a manifest
// asks for a Verified; a plain Manifest is what a build host works on.
package release

import (
	"encoding/hex"
	"fmt"
	"time"

	"ward/internal/trust/posture"
	"ward/internal/trust/watch"
)

const (
	// PayloadType is the envelope's payload type.
	PayloadType = "application/vnd.ward.release.v1+json"
	// SchemaVersion is the version of the manifest that this package reads.
	SchemaVersion = 1
)

// Manifest is what a release says. Its JSON is the payload.
type Manifest struct {
	Schema        int       `json:"schema"`
	Product       string    `json:"product"`
	Board         string    `json:"board"`
	Version       string    `json:"version"`
	RollbackIndex uint64    `json:"rollbackIndex"`
	BuildTime     time.Time `json:"buildTime"` // UTC, whole seconds
	Boot          Boot      `json:"boot"`
	Files         Files     `json:"files"`

	IdentityPolicy *IdentityPolicy `json:"identityPolicy,omitempty"` // nil: nothing is bound to the boot state

	Posture *posture.Policy `json:"posture,omitempty"` // nil: what the device says of its state is recorded, not judged
	Watch   *watch.Policy   `json:"watch,omitempty"`   // nil: watch.Default
	SBOM    *SBOM           `json:"sbom,omitempty"`    // nil: the file baseline names no components

	Update *Update `json:"update,omitempty"` // nil: may be installed from every release that is not newer
}

// Files names what lies in the root file system.
type Files struct {
	Digest         Digest `json:"digest"`                  // of the file baseline
	Path           string `json:"path"`                    // of the file baseline on the device
	VerityRootHash Digest `json:"verityRootHash,omitzero"` // of dm-verity; zero: the release has none
}

// SBOM names the software bill of materials of the image.
type SBOM struct {
	Digest    Digest `json:"digest"`         // of its bytes
	MediaType string `json:"mediaType"`      // "application/spdx+json", "application/vnd.cyclonedx+json"
	Path      string `json:"path,omitempty"` // on the device, absolute; empty: it is not there
}

// Digest is a SHA-256, in JSON lower-case hexadecimal.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero tells a digest that was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes 64 lower-case hexadecimal digits.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (d *Digest) UnmarshalText(b []byte) error {
	var read Digest
	if len(b) != 2*len(read) {
		return fmt.Errorf("parse digest: %d characters, want %d hexadecimal digits", len(b), 2*len(read))
	}
	if _, err := hex.Decode(read[:], b); err != nil {
		return fmt.Errorf("parse digest: %w", err)
	}
	if read.String() != string(b) {
		return fmt.Errorf("parse digest: want lower-case hexadecimal digits")
	}
	*d = read
	return nil
}
