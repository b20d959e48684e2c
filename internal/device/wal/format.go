package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Sizes in bytes; README.md shows them as rulers.
const (
	headerSize       = 28
	recordHeaderSize = 28
	// MaxPayload bounds one record: an event has at most 64 KiB.
	MaxPayload = 128 << 10
	stubSize   = 32
)

// The magic's last character is the version of the format.
const (
	family = "WARDWAL"
	magic  = family + "1"
)

// maxNumber bounds sequences, epochs and the numbers of segments: no device
// counts so far, and what claims more is damaged or hostile, and must not make a
// number run over.
const maxNumber = 1 << 62

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Kind of a record.
type Kind uint32

const (
	Full Kind = 1 // the payload as it was appended
	Stub Kind = 2 // the payload was shed; its 32-byte hash is left
)

// Record is one record of the log.
type Record struct {
	Sequence uint64
	Kind     Kind
	Payload  []byte // of a stub: the hash
}

// sum tells records with one sequence apart; 0 is that of one that lost its
// payload, which cannot be compared.
func (r Record) sum() uint32 {
	if r.Kind == Stub {
		return 0
	}
	return max(1, crc32.Checksum(r.Payload, castagnoli))
}

type header struct{ epoch, first uint64 }

func (h header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, h.epoch)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// errVersion: the segment is of another version of the format, and not for this
// program to judge.
var errVersion = errors.New("segment of another format")

func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize {
		return header{}, errors.New("segment header is cut short")
	}
	if string(b[:len(family)]) != family {
		return header{}, errors.New("not a segment of a Ward journal")
	}
	fits := binary.LittleEndian.Uint32(b[24:]) == crc32.Update(crc32.Checksum([]byte(magic), castagnoli), castagnoli, b[8:24])
	h := header{epoch: binary.LittleEndian.Uint64(b[8:]), first: binary.LittleEndian.Uint64(b[16:])}
	switch {
	case (string(b[:8]) == magic) != fits: // also one of ours with the version's character damaged
		return header{}, errors.New("segment header does not fit its checksum")
	case !fits:
		return header{}, fmt.Errorf("%w: %q, this program reads %q", errVersion, b[:8], magic)
	case h.epoch == 0 || h.epoch > maxNumber || h.first == 0 || h.first > maxNumber:
		return header{}, errors.New("segment header has numbers that are never given")
	}
	return h, nil
}

func appendRecord(b []byte, r Record, durable uint64) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Payload)))
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, r.Sequence)
	b = binary.LittleEndian.AppendUint64(b, durable)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Kind))
	b = append(b, r.Payload...)
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], castagnoli))
	return b
}

// parseRecord reads the record at the begin of b, which ends where the segment
// ends. The payload aliases b. On an error size is the number of bytes that went
// through the checksum.
func parseRecord(b []byte) (r Record, durable uint64, size int, err error) {
	if len(b) < recordHeaderSize {
		return Record{}, 0, 0, errors.New("record is cut short")
	}
	n := binary.LittleEndian.Uint32(b)
	if n > MaxPayload {
		return Record{}, 0, 0, fmt.Errorf("record claims %d bytes, at most %d are written", n, MaxPayload)
	}
	size = recordHeaderSize + int(n)
	if len(b) < size {
		return Record{}, 0, 0, errors.New("record is cut short")
	}
	if binary.LittleEndian.Uint32(b[4:]) != crc32.Checksum(b[8:size], castagnoli) {
		return Record{}, 0, size, errors.New("record does not fit its checksum")
	}
	r = Record{Sequence: binary.LittleEndian.Uint64(b[8:]), Kind: Kind(binary.LittleEndian.Uint32(b[24:])), Payload: b[recordHeaderSize:size]}
	if r.Kind != Full && r.Kind != Stub || r.Kind == Stub && n != stubSize {
		return Record{}, 0, size, fmt.Errorf("record of unknown kind %d", r.Kind)
	}
	if durable = binary.LittleEndian.Uint64(b[16:]); r.Sequence > maxNumber || durable >= r.Sequence {
		return Record{}, 0, size, errors.New("record has numbers that are never given")
	}
	return r, durable, size, nil
}

// looksLikeRecord says, without the checksum, whether a record behind a sequence
// could begin at b, which is as long as a record's header at least.
func looksLikeRecord(b []byte, last uint64) bool {
	length, kind := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[24:])
	sequence, durable := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	return length <= MaxPayload && (kind == uint32(Full) || kind == uint32(Stub)) && sequence > last && durable < sequence
}

const (
	suffix     = ".wal"
	nameLength = 16 + len(suffix)
	// temporary marks a segment that is being rewritten; one that is found was
	// left by a power cut.
	temporary = ".new"
	// aside marks a damaged segment that was kept when its turn to go had come.
	aside = ".damaged"
)

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, suffix) }

func parseSegmentName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, suffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil && segmentName(n) == name
}
