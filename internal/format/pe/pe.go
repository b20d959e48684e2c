// Package pe reads PE images as UEFI loads them (Microsoft PE format): their
// sections, and the digest over what Authenticode protects (Windows
// Authenticode Portable Executable Signature Format, "Calculating the PE Image
// Hash"), which is what the firmware measures of a boot application.
package pe

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
)

// Offsets in the optional header of PE32+, and sizes, in bytes.
const (
	peOffset       = 0x3c // where the offset of the PE signature stands
	signatureSize  = 4
	coffSize       = 20
	checksumAt     = 64
	certificatesAt = 144 // data directory 4
	directorySize  = 8
	certificates   = 4
	// maxSections bounds the sections that are looked at; the format allows 96.
	maxSections = 96
)

// Image is a parsed PE32+ image.
type Image struct {
	bytes    []byte
	file     *pe.File
	optional int // offset of the optional header
	header   *pe.OptionalHeader64
}

// Parse reads a PE32+ image. It keeps b.
func Parse(b []byte) (*Image, error) {
	f, err := pe.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("parse PE image: %w", err)
	}
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return nil, errors.New("parse PE image: not PE32+: want an image for a 64-bit machine")
	}
	if len(b) < peOffset+4 || len(f.Sections) > maxSections {
		return nil, fmt.Errorf("parse PE image: %d sections, want at most %d", len(f.Sections), maxSections)
	}
	i := &Image{bytes: b, file: f, header: h, optional: int(binary.LittleEndian.Uint32(b[peOffset:])) + signatureSize + coffSize}
	if h.NumberOfRvaAndSizes <= certificates {
		return nil, errors.New("parse PE image: it has no place for signatures")
	}
	if i.optional < 0 || i.optional+certificatesAt+directorySize > int(h.SizeOfHeaders) || int(h.SizeOfHeaders) > len(b) {
		return nil, errors.New("parse PE image: the headers are cut short")
	}
	return i, nil
}

// Count tells how many sections of a name the image has.
func (i *Image) Count(name string) int {
	n := 0
	for _, s := range i.file.Sections {
		if s.Name == name {
			n++
		}
	}
	return n
}

// Section returns the content of a section, as long as it is in memory; nil
// when there is none of that name. Content that the file does not hold is zero.
func (i *Image) Section(name string) ([]byte, error) {
	for _, s := range i.file.Sections {
		if s.Name != name {
			continue
		}
		data, err := s.Data()
		if err != nil {
			return nil, fmt.Errorf("read section %s: %w", name, err)
		}
		if int(s.VirtualSize) <= len(data) {
			return data[:s.VirtualSize], nil
		}
		if s.VirtualSize > uint32(len(i.bytes)) {
			return nil, fmt.Errorf("read section %s: %d bytes in memory, the image has %d", name, s.VirtualSize, len(i.bytes))
		}
		return append(slices.Clone(data), make([]byte, int(s.VirtualSize)-len(data))...), nil
	}
	return nil, nil
}

// Authenticode writes what a signature protects to h, in this order: the
// headers without checksum and the place of the signatures, the sections in the
// order of the file, what stands behind them without the signatures.
func (i *Image) Authenticode(h hash.Hash) error {
	headers := int(i.header.SizeOfHeaders)
	checksum, directory := i.optional+checksumAt, i.optional+certificatesAt
	h.Write(i.bytes[:checksum])
	h.Write(i.bytes[checksum+4 : directory])
	h.Write(i.bytes[directory+directorySize : headers])

	sections := slices.Clone(i.file.Sections)
	slices.SortFunc(sections, func(a, b *pe.Section) int { return int(int64(a.Offset) - int64(b.Offset)) })
	end := uint64(headers)
	for _, s := range sections {
		if s.Size == 0 {
			continue
		}
		from, to := uint64(s.Offset), uint64(s.Offset)+uint64(s.Size)
		if from < end || to > uint64(len(i.bytes)) {
			return fmt.Errorf("hash PE image: section %q from %d to %d overlaps another one or the end", s.Name, from, to)
		}
		h.Write(i.bytes[from:to])
		end = to
	}
	signatures := uint64(i.header.DataDirectory[certificates].Size)
	if end+signatures > uint64(len(i.bytes)) {
		return fmt.Errorf("hash PE image: signatures of %d bytes do not fit behind offset %d", signatures, end)
	}
	h.Write(i.bytes[end : uint64(len(i.bytes))-signatures])
	return nil
}
