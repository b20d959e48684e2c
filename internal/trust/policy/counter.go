package policy

import "encoding/binary"

// Attributes of an NV index (TPMA_NV, Part 2, section 13.4).
const (
	OwnerWrite  uint32 = 1 << 1
	AuthWrite   uint32 = 1 << 2
	PolicyWrite uint32 = 1 << 3
	Counter     uint32 = 1 << 4 // TPM_NT_COUNTER
	OwnerRead   uint32 = 1 << 17
	AuthRead    uint32 = 1 << 18
	NoDA        uint32 = 1 << 25
	Orderly     uint32 = 1 << 26
	Written     uint32 = 1 << 29
)

// CounterSize is the size of a counter in bytes.
const CounterSize = 8

// NV indexes of Ward's counters (docs/tpm.md): against rollback, and the journal's.
const (
	HandleRollback       uint32 = 0x01801000
	HandleJournal        uint32 = 0x01801001
	HandleJournalDurable uint32 = 0x01801002
)

// Index is the public area of an NV index with SHA-256 names.
type Index struct {
	Handle     uint32
	Attributes uint32 // without Written
	Policy     []byte // authorisation policy, 0 or 32 bytes
	Size       uint16
}

// Area is the TPMS_NV_PUBLIC (Part 2, section 13.5), before or after the first
// writing.
func (x Index) Area(written bool) []byte {
	attributes := x.Attributes &^ Written
	if written {
		attributes |= Written
	}
	b := binary.BigEndian.AppendUint32(nil, x.Handle)
	b = binary.BigEndian.AppendUint16(b, algSHA256)
	b = binary.BigEndian.AppendUint32(b, attributes)
	b = append(append(b, numbers(uint16(len(x.Policy)))...), x.Policy...)
	return append(b, numbers(x.Size)...)
}

// Name is the Name of the index, before or after the first writing.
func (x Index) Name(written bool) []byte { return name(x.Area(written)) }

// RollbackCounter is the anti-rollback counter of devices whose policy key this
// is. Everybody may read it. The owner steps it to its base at manufacture;
// later it moves only as far as a Raise that the policy key has signed.
func RollbackCounter(key Key) Index {
	write := Authorize(key.Name, []byte(raiseReference))
	return Index{
		Handle:     HandleRollback,
		Attributes: OwnerWrite | PolicyWrite | Counter | OwnerRead | AuthRead | NoDA,
		Policy:     write[:],
		Size:       CounterSize,
	}
}

// JournalCounter is one of the journal's two counters. The everyday one is
// orderly: the TPM keeps it in memory and writes it at shutdown, so it does not
// wear, and jumps ahead after a power cut; the durable one is written at every
// step. Both take their own authorisation value for reading and stepping.
func JournalCounter(durable bool) Index {
	index := Index{
		Handle: HandleJournal, Size: CounterSize,
		Attributes: AuthWrite | AuthRead | OwnerRead | Counter | NoDA | Orderly,
	}
	if durable {
		index.Handle, index.Attributes = HandleJournalDurable, index.Attributes&^Orderly
	}
	return index
}
