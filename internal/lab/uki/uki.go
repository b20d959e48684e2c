// Package uki assembles unified kernel images: systemd's EFI stub with the
// kernel, the command line and the initramfs as further sections of the same
// PE file.
//
// Sources: UAPI Group specification "Unified Kernel Image"; Microsoft PE
// format, "COFF File Header", "Optional Header (PE32+)", "Section Table".
package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// A Section is added after those of the stub.
type Section struct {
	Name string // at most eight bytes, with the dot
	Data []byte
}

const (
	coffSize    = 20
	sectionSize = 40
	pageSize    = 4096       // sections are placed on page boundaries
	readOnly    = 0x40000040 // initialised data, readable

	// Offsets in the optional header of PE32+.
	optMagic         = 0
	optSectionAlign  = 32
	optFileAlign     = 36
	optSizeOfImage   = 56
	optSizeOfHeaders = 60
	optChecksum      = 64
	magicPE32Plus    = 0x20b

	// Offsets in the COFF header.
	coffSections     = 2
	coffTimestamp    = 4
	coffSymbols      = 8
	coffSymbolCount  = 12
	coffOptionalSize = 16
)

// Assemble adds the sections to the stub. The result depends on nothing but its
// arguments: the time stamp is zero, the symbol table is left out.
func Assemble(stub []byte, sections []Section) ([]byte, error) {
	le := binary.LittleEndian
	if len(stub) < 0x40 || string(stub[:2]) != "MZ" {
		return nil, errors.New("assemble kernel image: the stub is no PE file")
	}
	coff := int(le.Uint32(stub[0x3c:])) + 4
	if coff < 4 || coff+coffSize > len(stub) || string(stub[coff-4:coff]) != "PE\x00\x00" {
		return nil, errors.New("assemble kernel image: the stub has no PE header")
	}
	count := int(le.Uint16(stub[coff+coffSections:]))
	opt := coff + coffSize
	table := opt + int(le.Uint16(stub[coff+coffOptionalSize:]))
	if table+count*sectionSize > len(stub) || le.Uint16(stub[opt+optMagic:]) != magicPE32Plus {
		return nil, errors.New("assemble kernel image: the stub's headers are cut short")
	}
	fileAlign := int(le.Uint32(stub[opt+optFileAlign:]))
	headers := int(le.Uint32(stub[opt+optSizeOfHeaders:]))
	if fileAlign == 0 || fileAlign&(fileAlign-1) != 0 {
		return nil, fmt.Errorf("assemble kernel image: file alignment %d", fileAlign)
	}
	if need := table + (count+len(sections))*sectionSize; need > headers {
		return nil, fmt.Errorf("assemble kernel image: headers need %d bytes, the stub has room for %d", need, headers)
	}

	// Where the stub ends, in memory and in the file.
	memory, file := 0, headers
	for i := range count {
		s := stub[table+i*sectionSize:]
		memory = max(memory, int(le.Uint32(s[12:]))+max(int(le.Uint32(s[8:])), int(le.Uint32(s[16:]))))
		file = max(file, int(le.Uint32(s[20:]))+int(le.Uint32(s[16:])))
	}
	if file > len(stub) {
		return nil, errors.New("assemble kernel image: the stub's sections are cut short")
	}
	out := bytes.Clone(stub[:align(file, fileAlign)])
	memory = align(memory, pageSize)
	for i, s := range sections {
		if len(s.Name) > 8 || len(s.Data) == 0 {
			return nil, fmt.Errorf("assemble kernel image: section %q is empty or its name too long", s.Name)
		}
		h := out[table+(count+i)*sectionSize:][:sectionSize]
		clear(h)
		copy(h, s.Name)
		le.PutUint32(h[8:], uint32(len(s.Data)))
		le.PutUint32(h[12:], uint32(memory))
		le.PutUint32(h[16:], uint32(align(len(s.Data), fileAlign)))
		le.PutUint32(h[20:], uint32(len(out)))
		le.PutUint32(h[36:], readOnly)
		out = append(out, s.Data...)
		out = append(out, make([]byte, align(len(out), fileAlign)-len(out))...)
		memory = align(memory+len(s.Data), pageSize)
	}
	le.PutUint16(out[coff+coffSections:], uint16(count+len(sections)))
	le.PutUint32(out[coff+coffTimestamp:], 0)
	le.PutUint32(out[coff+coffSymbols:], 0)
	le.PutUint32(out[coff+coffSymbolCount:], 0)
	le.PutUint32(out[opt+optSizeOfImage:], uint32(memory))
	le.PutUint32(out[opt+optChecksum:], 0) // not checked for EFI applications
	return out, nil
}

func align(n, to int) int { return (n + to - 1) &^ (to - 1) }
