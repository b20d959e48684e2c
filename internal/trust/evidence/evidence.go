// Package evidence is what a device says about its boot and about what ran
// since then: Evidence in the words of RFC 9334, section 8.1. It holds raw bytes
// as the TPM and the kernel gave them and states for each part that could not
// be read why not, so that a failed read is itself a claim.
package evidence

import "ward/internal/format/pcr"

// Absent is how the error of a part begins that is not there at all, as
// opposed to one that is there and cannot be read.
const Absent = "not there"

// Evidence is one device's evidence at one moment. The PCRs are read before the
// IMA list: a list that is longer than PCR 10 covers is honest, a shorter one is
// not.
type Evidence struct {
	Device string        // the device's name
	Boot   string        // the kernel's boot id
	Bank   pcr.Algorithm // the bank that PCRs was read from
	PCRs   pcr.Values    // as read from the TPM, nil when it could not be read

	// Why a part could not be read, one line; empty when it was read.
	PCRError, EventLogError, IMAError string

	EventLog []byte // the firmware's log, TCG PC Client Platform Firmware Profile, section 10
	IMA      []byte // the kernel's list from its first entry on, binary or ASCII

	// IMATruncated says that the list was longer than its reader's bound.
	IMATruncated bool
}
