// Package petest makes small PE32+ images for tests of what reads them.
package petest

import "encoding/binary"

// Offsets of the images that Build makes.
const (
	HeaderEnd   = 0x400
	peAt        = 0x40
	optionalAt  = peAt + 4 + 20
	ChecksumAt  = optionalAt + 64
	DirectoryAt = optionalAt + 144 // of the signatures
	TableAt     = optionalAt + 240 // of the sections
	fileAlign   = 0x200
)

// Section is a section's name and content.
type Section struct {
	Name string
	Data string
}

// Build makes an unsigned image. The sections' headers stand in the opposite
// order of their content.
func Build(sections ...Section) []byte {
	b := make([]byte, HeaderEnd)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], peAt)
	copy(b[peAt:], "PE\x00\x00")
	le.PutUint16(b[peAt+4:], 0x8664) // machine
	le.PutUint16(b[peAt+6:], uint16(len(sections)))
	le.PutUint16(b[peAt+20:], 240) // size of the optional header
	le.PutUint16(b[optionalAt:], 0x20b)
	le.PutUint32(b[optionalAt+60:], HeaderEnd)
	le.PutUint32(b[optionalAt+108:], 16) // data directories
	for i, s := range sections {
		room := (len(s.Data) + fileAlign - 1) / fileAlign * fileAlign
		h := b[TableAt+40*(len(sections)-1-i):]
		copy(h, s.Name)
		le.PutUint32(h[8:], uint32(len(s.Data)))
		le.PutUint32(h[16:], uint32(room))
		le.PutUint32(h[20:], uint32(len(b)))
		b = append(b, s.Data...)
		b = append(b, make([]byte, room-len(s.Data))...)
	}
	return b
}
