package efi

import (
	"fmt"
	"strings"
)

// Variable is a measured variable (Firmware Profile, 10.2.6, UEFI_VARIABLE_DATA).
type Variable struct {
	Vendor GUID
	Name   string
	Data   []byte // a part of the parsed bytes
}

// ParseVariable reads a measured variable. Bytes behind it are an error: what
// was hashed would then be more than what is shown. Some firmware counts a NUL
// to the name; it is taken off, and one inside the name is kept, so that no
// other name passes for a known one.
func ParseVariable(b []byte) (Variable, error) {
	v, rest, err := CutVariable(b)
	if err == nil && len(rest) != 0 {
		return Variable{}, fmt.Errorf("parse EFI variable %s: %d bytes behind it", v.Name, len(rest))
	}
	return v, err
}

// CutVariable reads a measured variable and returns what stands behind it: some
// loaders measure more than the variable.
func CutVariable(b []byte) (v Variable, rest []byte, err error) {
	r := reader{b: b}
	v.Vendor = r.guid()
	units, size := r.u64(), r.u64()
	if units > uint64(len(b)) {
		return Variable{}, nil, fmt.Errorf("parse EFI variable: %w", errShort)
	}
	v.Name = strings.TrimRight(wholeUTF16(r.take(2*units)), "\x00")
	v.Data = r.take(size)
	if r.failed {
		return Variable{}, nil, fmt.Errorf("parse EFI variable: %w", errShort)
	}
	return v, r.b, nil
}

// SignatureList is a list of keys or hashes of one kind (UEFI 32.4.1,
// EFI_SIGNATURE_LIST).
type SignatureList struct {
	Type       GUID // CertX509, CertSHA256, …
	Signatures []Signature
}

// Signature is one entry with its owner (EFI_SIGNATURE_DATA).
type Signature struct {
	Owner GUID
	Data  []byte // a certificate or hash, a part of the parsed bytes
}

// ParseSignatureLists reads the value of db, dbx, KEK, PK and their like.
func ParseSignatureLists(b []byte) ([]SignatureList, error) {
	var lists []SignatureList
	for r := (reader{b: b}); len(r.b) > 0; {
		list := SignatureList{Type: r.guid()}
		total, header, size := r.u32(), r.u32(), r.u32()
		const head = 28
		if r.failed || uint64(total) < head+uint64(header) || size < uint32(len(GUID{})) {
			return nil, fmt.Errorf("parse EFI signature list %d: %w", len(lists), errShort)
		}
		body := reader{b: r.take(uint64(total) - head)}
		body.take(uint64(header))
		if r.failed || len(body.b)%int(size) != 0 {
			return nil, fmt.Errorf("parse EFI signature list %d: %w", len(lists), errShort)
		}
		for len(body.b) > 0 {
			list.Signatures = append(list.Signatures, Signature{body.guid(), body.take(uint64(size) - uint64(len(GUID{})))})
		}
		lists = append(lists, list)
	}
	return lists, nil
}

// ParseSignature reads one entry without its list: how the authority that let an
// image start is measured (Firmware Profile, 10.4.1, EV_EFI_VARIABLE_AUTHORITY).
func ParseSignature(b []byte) (Signature, error) {
	r := reader{b: b}
	s := Signature{Owner: r.guid(), Data: r.b}
	if r.failed {
		return Signature{}, fmt.Errorf("parse EFI signature: %w", errShort)
	}
	return s, nil
}

// LoadOption is a boot entry (UEFI 3.1.3, EFI_LOAD_OPTION).
type LoadOption struct {
	Active      bool
	Description string
	Path        DevicePath
	Optional    []byte
}

// ParseLoadOption reads the value of Boot#### and their like.
func ParseLoadOption(b []byte) (LoadOption, error) {
	r := reader{b: b}
	attributes, size := r.u32(), r.u16()
	o := LoadOption{Active: attributes&1 != 0, Description: r.utf16z()}
	path := r.take(uint64(size))
	if r.failed {
		return LoadOption{}, fmt.Errorf("parse EFI load option: %w", errShort)
	}
	o.Path, o.Optional = DevicePath(path), r.b
	return o, nil
}

// Image is a measured image load (Firmware Profile, 10.2.3,
// UEFI_IMAGE_LOAD_EVENT). Its place in memory differs between boots.
type Image struct {
	Location uint64 // in memory
	Size     uint64 // in memory, bytes
	LinkTime uint64 // ImageLinkTimeAddress
	Path     DevicePath
}

// ParseImage reads a measured image load.
func ParseImage(b []byte) (Image, error) {
	r := reader{b: b}
	i := Image{Location: r.u64(), Size: r.u64(), LinkTime: r.u64()}
	i.Path = DevicePath(r.take(r.u64()))
	if r.failed {
		return Image{}, fmt.Errorf("parse EFI image load: %w", errShort)
	}
	return i, nil
}

// Blob is a measured piece of firmware (Firmware Profile, 10.2.4,
// UEFI_PLATFORM_FIRMWARE_BLOB and _BLOB2).
type Blob struct {
	Description  string // of the second form
	Base, Length uint64 // bytes
}

// ParseBlob reads a measured piece of firmware; described tells the second form.
func ParseBlob(b []byte, described bool) (Blob, error) {
	r := reader{b: b}
	var blob Blob
	if described {
		blob.Description = string(r.take(uint64(r.u8())))
	}
	blob.Base, blob.Length = r.u64(), r.u64()
	if r.failed || len(r.b) != 0 {
		return Blob{}, fmt.Errorf("parse EFI firmware blob: %d bytes are not its size", len(b))
	}
	return blob, nil
}

// ParseTables reads the vendor GUIDs of measured configuration tables (Firmware
// Profile, 10.2.5, UEFI_HANDOFF_TABLE_POINTERS and _POINTERS2); described tells
// the second form.
func ParseTables(b []byte, described bool) ([]GUID, error) {
	r := reader{b: b}
	if described {
		r.take(uint64(r.u8()))
	}
	n := r.u64()
	if r.failed || n > uint64(len(r.b))/24 {
		return nil, fmt.Errorf("parse EFI configuration tables: %w", errShort)
	}
	tables := make([]GUID, 0, n)
	for range n {
		tables = append(tables, r.guid())
		r.u64()
	}
	return tables, nil
}

// PartitionTable is a measured GPT (Firmware Profile, 10.2.7, UEFI_GPT_DATA).
type PartitionTable struct {
	Disk       GUID
	Partitions []Partition
}

// Partition is one entry (UEFI 5.3.3, EFI_PARTITION_ENTRY).
type Partition struct {
	Type, ID    GUID
	First, Last uint64 // blocks
	Name        string
}

// partitionEntry is the least size of an entry.
const partitionEntry = 128

// ParsePartitionTable reads a measured GPT.
func ParsePartitionTable(b []byte) (PartitionTable, error) {
	r := reader{b: b}
	r.take(56) // signature to LastUsableLBA
	t := PartitionTable{Disk: r.guid()}
	r.take(8 + 4) // PartitionEntryLBA, NumberOfPartitionEntries
	size := uint64(r.u32())
	r.take(4) // CRC
	n := r.u64()
	if r.failed || size < partitionEntry || n > uint64(len(r.b))/size {
		return PartitionTable{}, fmt.Errorf("parse GPT: %w", errShort)
	}
	for range n {
		e := reader{b: r.take(size)}
		p := Partition{Type: e.guid(), ID: e.guid(), First: e.u64(), Last: e.u64()}
		e.u64() // attributes
		p.Name = UTF16(e.take(72))
		t.Partitions = append(t.Partitions, p)
	}
	return t, nil
}
