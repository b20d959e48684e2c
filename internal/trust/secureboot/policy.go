// Package secureboot tells from the firmware's event log how Secure Boot stood
// when the device was started, and judges it against what a release demands
// (UEFI, chapter 32; TCG PC Client Platform Firmware Profile, section 3.3.4.8,
// PCR 7). Only what hashes to the digests of its events counts.
package secureboot

import "ward/internal/format/pcr"

// Policy is what a release demands of Secure Boot. The zero value demands
// nothing.
type Policy struct {
	Required bool `json:"required"`           // Secure Boot must be enabled, neither in setup nor in audit mode
	Deployed bool `json:"deployed,omitempty"` // deployed mode must be on too

	// Keys that the variables may hold: SHA-256 of each certificate in DER, or
	// the hash itself where the list holds hashes. Empty: not judged.
	PK  []pcr.Digest `json:"pk,omitempty"`
	KEK []pcr.Digest `json:"kek,omitempty"`
	DB  []pcr.Digest `json:"db,omitempty"`

	MinimumDBX  []pcr.Digest `json:"minimumDbx,omitempty"`  // hashes that dbx must hold, sorted
	MinimumSBAT string       `json:"minimumSbat,omitempty"` // least SbatLevel date, "2022052400"
}
