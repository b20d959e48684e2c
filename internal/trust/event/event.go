// Package event is the security event: what a device records in its journal
// and sends to its fleet, byte for byte the same. It takes CloudEvents 1.0
// attribute names (specversion, id, source, type, time, subject) and adds the
// record's place in the journal's chain. The schema is
// docs/schema/event.v1.schema.json; within v1 it only grows.
package event

import (
	"encoding/json"
	"time"

	"ward/internal/format/chain"
	"ward/internal/trust/finding"
)

// Types of events.
const (
	FindingRaised   = "ward.finding.raised"   // a condition holds from now on
	FindingCleared  = "ward.finding.cleared"  // a condition no longer holds
	FindingIncident = "ward.finding.incident" // something happened
	BootVerdict     = "ward.boot.verdict"     // the boot was appraised
	DaemonStarted   = "ward.daemon.started"
	DaemonStopped   = "ward.daemon.stopped"
	LinkConnected   = "ward.link.connected"
	LinkKeyRotated  = "ward.link.key-rotated"      // a key of the fleet has its successor, and is accepted no more
	ClockStepped    = "ward.clock.stepped"         // somebody set the wall clock
	IdentityUsed    = "ward.identity.used"         // another program signs with a key of the device, for the first time in this boot
	Checkpoint      = "ward.journal.checkpoint"    // the TPM certified the record up to a place (package checkpoint)
	IntegrityScan   = "ward.integrity.scan"        // a full scan of the files has ended
	UpdateConfirmed = "ward.update.confirmed"      // the running release was marked good
	UpdateCommitted = "ward.update.committed"      // the anti-rollback counter stands at it: older releases are locked out
	PostureChanged  = "ward.posture.changed"       // a claim about the device's own state is another one than before
	AccessSession   = "ward.access.session"        // somebody logged in or out, or failed to
	AccessPrivilege = "ward.access.privilege"      // somebody took other rights, or changed accounts
	ServiceMode     = "ward.access.service-mode"   // service mode begins or ends
	BreakGlass      = "ward.access.break-glass"    // emergency access, as a host application reports it
	TherapyLease    = "ward.therapy.lease"         // heavy work waits for therapy from now on, or no longer
	DeviceAttached  = "ward.device.attached"       // something was plugged in
	DeviceDetached  = "ward.device.detached"       // something was taken away
	IntegrityUpdate = "ward.integrity.update"      // a program of the release wrote where it may, by rule (package live)
	Decommissioned  = "ward.device.decommissioned" // the last of a device's life
)

// Event is what a role records. Time is the wall clock's, zero for the moment
// of recording; it never decides an order.
type Event struct {
	Type     string
	Time     time.Time
	Subject  string // what it is about, within the device; the key of a condition beside its code
	Severity finding.Severity
	Finding  *finding.Finding // of the finding types
	Report   json.RawMessage  // of the other types: a JSON object, by type
	Repeated *Repeated        // of one that stands for repetitions of an earlier event
}

// Repeated says that an event stands for several that were not recorded one by
// one: the same thing again, or what exceeded a limit. The event's own fields
// are those of the last of them.
type Repeated struct {
	Count int       `json:"count"` // how many, from 1
	First time.Time `json:"first"` // by the wall clock, when the first of them happened
	Last  time.Time `json:"last"`
}

// Epochs of a journal that is kept in memory, because its disk cannot be used,
// lie between these bounds, the first included; those of a journal on a disk
// are counted from 1 and stay below. A fleet follows such a life as a line of
// its own beside the one on the disk.
const (
	FirstVolatile = 1 << 32
	EndVolatile   = 1 << 52 // a JSON number holds it exactly
)

// Volatile says whether an epoch is that of a journal in memory.
func Volatile(epoch uint64) bool { return epoch >= FirstVolatile }

// Stamp is an event's place: whose, in which boot, where in the chain.
type Stamp struct {
	Source    Source
	Epoch     uint64        // the number of the journal's life, from 1
	Sequence  uint64        // from 1 in every epoch
	Boot      string        // the kernel's boot id
	Monotonic time.Duration // since the kernel started, suspend included
	Prev      chain.Hash    // hash of the record before this one
}

// Decoded is an event that was read from its bytes, with its place.
type Decoded struct {
	Event
	Stamp
	ID string
}

// Link is the event's place in the chain.
func (d Decoded) Link() chain.Link {
	return chain.Link{Epoch: d.Epoch, Sequence: d.Sequence, Prev: d.Prev}
}

// Record is an event as the journal keeps it. One whose content was shed for
// want of space has no Bytes; its hash still holds the chain together.
type Record struct {
	Epoch    uint64
	Sequence uint64
	Hash     chain.Hash // chain.Next of the bytes
	Bytes    []byte
}
