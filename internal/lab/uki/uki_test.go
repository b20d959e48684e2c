package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"os"
	"testing"
)

// tinyStub is a PE32+ file with one section and room for four more headers.
func tinyStub(sections int) []byte {
	const coff, opt = 0x84, 0x98
	b := make([]byte, 0x600)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	le.PutUint16(b[coff:], 0x8664)
	le.PutUint16(b[coff+coffSections:], 1)
	le.PutUint32(b[coff+coffTimestamp:], 12345)
	le.PutUint16(b[coff+coffOptionalSize:], 240)
	le.PutUint16(b[opt:], magicPE32Plus)
	le.PutUint32(b[opt+optSectionAlign:], 0x200)
	le.PutUint32(b[opt+optFileAlign:], 0x200)
	le.PutUint32(b[opt+108:], 16) // data directories
	table := opt + 240
	le.PutUint32(b[opt+optSizeOfHeaders:], uint32(table+sections*sectionSize))
	copy(b[table:], ".text")
	le.PutUint32(b[table+8:], 0x1234) // larger in memory than in the file
	le.PutUint32(b[table+12:], 0x1000)
	le.PutUint32(b[table+16:], 0x200)
	le.PutUint32(b[table+20:], 0x400)
	return b
}

var parts = []Section{
	{".osrel", []byte("ID=x\n")},
	{".cmdline", []byte("console=ttyS0")},
	{".linux", bytes.Repeat([]byte{7}, 10000)},
	{".initrd", bytes.Repeat([]byte{8}, 5000)},
}

func TestAssembleTiny(t *testing.T) { testAssemble(t, tinyStub(5)) }
func TestAssembleStub(t *testing.T) {
	stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if err != nil {
		t.Skip("systemd-boot-efi is not installed")
	}
	testAssemble(t, stub)
}

// testAssemble reads the image back with the standard library's parser.
func testAssemble(t *testing.T, stub []byte) {
	image, err := Assemble(stub, parts)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Assemble(stub, parts)
	if err != nil || !bytes.Equal(image, again) {
		t.Errorf("assembled twice: bytes differ, %v", err)
	}
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	if f.TimeDateStamp != 0 || f.NumberOfSymbols != 0 {
		t.Errorf("time %d, %d symbols: want 0", f.TimeDateStamp, f.NumberOfSymbols)
	}
	end := uint32(0)
	for _, s := range f.Sections {
		if s.VirtualAddress < end {
			t.Errorf("section %s at %#x overlaps the one before, which ends at %#x", s.Name, s.VirtualAddress, end)
		}
		end = s.VirtualAddress + s.VirtualSize
	}
	if size := f.OptionalHeader.(*pe.OptionalHeader64).SizeOfImage; size < end {
		t.Errorf("image size %#x is below the last section's end %#x", size, end)
	}
	for _, p := range parts {
		s := f.Section(p.Name)
		if s == nil {
			t.Errorf("section %s is missing", p.Name)
			continue
		}
		data, err := s.Data()
		if err != nil || int(s.VirtualSize) != len(p.Data) || !bytes.Equal(data[:len(p.Data)], p.Data) {
			t.Errorf("section %s: content differs, %v", p.Name, err)
		}
	}
}

func TestAssembleRefuses(t *testing.T) {
	cut := tinyStub(5)[:0x300]
	for name, c := range map[string]struct {
		stub     []byte
		sections []Section
	}{
		"nothing":            {nil, parts},
		"no PE":              {make([]byte, 4096), parts},
		"cut headers":        {tinyStub(5)[:0x100], parts},
		"cut sections":       {cut, parts},
		"no room in headers": {tinyStub(3), parts},
		"long name":          {tinyStub(5), []Section{{".muchtoolong", []byte{1}}}},
		"empty section":      {tinyStub(5), []Section{{".cmdline", nil}}},
	} {
		if _, err := Assemble(c.stub, c.sections); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
