// Package disk writes the disks of virtual devices without root: a GUID
// partition table by its own code, file systems with mtools, dosfstools and
// e2fsprogs on plain files, everything with fixed identifiers and times.
//
// Sources: UEFI 2.10, 5.3 (GPT disk layout).
package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"

	"ward/internal/lab/efistore"
)

const (
	sector     = 512
	entryCount = 128
	entrySize  = 128
	tableSize  = entryCount * entrySize / sector // sectors
	alignment  = 1 << 20 / sector                // partitions begin on 1 MiB
)

// A Partition is one entry of the table. Start and Size are in bytes; Layout
// sets Start.
type Partition struct {
	Label      string
	Type, GUID efistore.GUID
	Start      int64
	Size       int64
}

// Layout places the partitions one after the other and returns the size of the
// disk in bytes.
func Layout(parts []Partition) int64 {
	at := int64(alignment)
	for i := range parts {
		parts[i].Start = at * sector
		at += (parts[i].Size + alignment*sector - 1) / (alignment * sector) * alignment
	}
	return (at + alignment) * sector // room for the backup table
}

// WriteGPT writes protective MBR, primary and backup table for a disk of size
// bytes.
func WriteGPT(w io.WriterAt, size int64, diskGUID efistore.GUID, parts []Partition) error {
	if len(parts) > entryCount {
		return fmt.Errorf("write partition table: %d partitions", len(parts))
	}
	sectors := uint64(size / sector)
	entries := make([]byte, entryCount*entrySize)
	for i, p := range parts {
		e := entries[i*entrySize:]
		copy(e[0:], p.Type[:])
		copy(e[16:], p.GUID[:])
		binary.LittleEndian.PutUint64(e[32:], uint64(p.Start/sector))
		binary.LittleEndian.PutUint64(e[40:], uint64((p.Start+p.Size)/sector-1))
		name := utf16.Encode([]rune(p.Label))
		if len(name) > 36 {
			return fmt.Errorf("write partition table: label %q is too long", p.Label)
		}
		for j, u := range name {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
	}
	backup := sectors - 1
	writes := []struct {
		at   uint64
		data []byte
	}{
		{0, protectiveMBR(sectors)},
		{1, header(1, backup, 2, sectors, diskGUID, entries)},
		{2, entries},
		{backup - tableSize, entries},
		{backup, header(backup, 1, backup-tableSize, sectors, diskGUID, entries)},
	}
	for _, write := range writes {
		if _, err := w.WriteAt(write.data, int64(write.at)*sector); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
	}
	return nil
}

// protectiveMBR is UEFI 2.10, 5.2.3.
func protectiveMBR(sectors uint64) []byte {
	b := make([]byte, sector)
	copy(b[446:], []byte{0x00, 0x00, 0x02, 0x00, 0xEE, 0xFF, 0xFF, 0xFF})
	binary.LittleEndian.PutUint32(b[454:], 1)
	binary.LittleEndian.PutUint32(b[458:], uint32(min(sectors-1, 0xFFFFFFFF)))
	b[510], b[511] = 0x55, 0xAA
	return b
}

func header(own, other, table, sectors uint64, guid efistore.GUID, entries []byte) []byte {
	le := binary.LittleEndian
	h := []byte("EFI PART")
	h = le.AppendUint32(h, 0x00010000)
	h = le.AppendUint32(h, 92) // header size
	h = le.AppendUint32(h, 0)  // CRC, below
	h = le.AppendUint32(h, 0)
	h = le.AppendUint64(h, own)
	h = le.AppendUint64(h, other)
	h = le.AppendUint64(h, 2+tableSize)         // first usable
	h = le.AppendUint64(h, sectors-2-tableSize) // last usable
	h = append(h, guid[:]...)
	h = le.AppendUint64(h, table)
	h = le.AppendUint32(h, entryCount)
	h = le.AppendUint32(h, entrySize)
	h = le.AppendUint32(h, crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return append(h, make([]byte, sector-len(h))...)
}
