// Package evidence is what a device says about its boot and about what ran
// since then: Evidence in the words of RFC 9334, section 8.1. It holds raw bytes
// as the TPM and the kernel gave them and states for each part that could not
// be read why not, so that a failed read is itself a claim. On the way to the
// fleet it is one document of deterministically encoded CBOR (RFC 8949, section
// 4.2.1), in numbered parts where it is long.
package evidence

import (
	"time"

	"ward/internal/format/chain"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/posture"
)

// Absent is how the error of a part begins that is not there at all, as
// opposed to one that is there and cannot be read.
const Absent = "not there"

// BootRegisters are the registers of the boot quote: those that firmware, boot
// loader, kernel and early user space extend (Linux TPM PCR registry). PCR 10,
// which grows while the device runs, is quoted apart, so that asking for it again
// is cheap; 16 to 23 belong to other users of the TPM.
var BootRegisters = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}

// Evidence is one device's evidence at one moment. The quotes are made before
// the IMA list is read: a list that is longer than PCR 10 covers is honest, a
// shorter one is not.
type Evidence struct {
	Tenant, Device string     // as in the certificate
	Boot           string     // the kernel's boot id
	Time           time.Time  // of the device's clock, for people
	Nonce          []byte     // the question that the quotes answer; empty: nobody asked
	Record         Record     // the journal's head, which the quotes sign with the nonce
	Release        pcr.Digest // SHA-256 of the verified manifest; empty: there is none
	SBOM           pcr.Digest // SHA-256 of the image's SBOM as the release names it; empty: it names none

	Bank pcr.Algorithm // the bank of PCRs and quotes
	PCRs pcr.Values    // as read from the TPM, nil when it could not be read

	// BootQuote is over BootRegisters, ListQuote over PCR 10. Empty: there is none.
	BootQuote, ListQuote Quote

	// Why a part could not be read, one line; empty when it was read.
	PCRError, QuoteError, EventLogError, UserLogError, IMAError string

	EventLog       []byte     // the firmware's log, TCG PC Client Platform Firmware Profile, section 10
	EventLogDigest pcr.Digest // SHA-256 of the log where it was sent before in this boot, and EventLog is empty
	UserLog        []byte     // systemd's log of what user space measured; empty: it wrote none
	IMA            []byte     // the kernel's list from From on, binary or ASCII

	// From is where IMA begins: after that many entries, which gave that PCR 10.
	// The zero value is the list's first entry.
	From ima.Checkpoint
	// IMATruncated says that the list was longer than its reader's bound.
	IMATruncated bool

	// Posture is what the device says of its state beside its files, by name, and
	// Running the set of the release's components that have run since boot, in the
	// form that the release's SBOM gives it. The quotes sign Claims, a digest of both.
	// Empty: nobody has looked.
	Posture []posture.Claim
	Running []byte
}

// Record is the head of the device's journal at the moment of the quotes.
type Record struct {
	Epoch    uint64     // the number of the journal's life, 0: there is no journal
	Sequence uint64     // of the last record
	Head     chain.Hash // its hash
}

// Quote is a quote as the TPM gives it (TPM 2.0 Library, Part 2: TPMS_ATTEST,
// section 10.12.12, and TPMT_SIGNATURE, section 11.3.4).
type Quote struct{ Attest, Signature []byte }

// Empty says that there is no quote.
func (q Quote) Empty() bool { return len(q.Attest) == 0 && len(q.Signature) == 0 }
