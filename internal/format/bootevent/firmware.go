package bootevent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
)

// Separator ends what the firmware measures before it hands over (Firmware
// Profile, 10.4.1, EV_SEPARATOR). It is judged by the digests.
type Separator struct {
	Class eventlog.SeparatorClass
	Text  string // what the data say
}

func separator(e eventlog.Event) Decoded {
	v := Separator{e.Separator(), content(e.Data)}
	switch {
	case !e.Extends():
		return Decoded{Nothing, v}
	case v.Class != eventlog.SeparatorOther:
		return Decoded{Whole, v}
	}
	return byHash(e, v)
}

// Kind is "separator".
func (s Separator) Kind() string { return "separator" }
func (s Separator) statement() string {
	switch s.Class {
	case eventlog.SeparatorFailure:
		return "separator: the firmware reports an error"
	case eventlog.SeparatorOther:
		return "separator by name only: " + s.Text
	}
	return "separator"
}
func (s Separator) fields(m Measured) []Field {
	class := map[eventlog.SeparatorClass]string{
		eventlog.SeparatorNormal: "normal", eventlog.SeparatorFailure: "error", eventlog.SeparatorOther: "none",
	}[s.Class]
	return []Field{m.field("class", class), {"text", s.Text, s.Class != eventlog.SeparatorOther || m < Whole}}
}

// Image is an image that was loaded: the digest is of the image (Authenticode),
// never of what the event says about it.
type Image struct{ efi.Image }

func image(b []byte) Value {
	i, err := efi.ParseImage(b)
	if err != nil {
		return plain(eventlog.EVEFIBootApplication, b)
	}
	return Image{i}
}

// Kind is "image".
func (i Image) Kind() string { return "image" }
func (i Image) statement() string {
	if len(i.Path) == 0 {
		return fmt.Sprintf("image of %d bytes", i.Size)
	}
	return i.Path.String()
}
func (i Image) fields(m Measured) []Field {
	return []Field{
		m.field("path", i.Path.String()), m.field("file", i.Path.File()), m.field("size", i.Size),
		m.field("location", i.Location), m.field("linkTime", i.LinkTime),
	}
}

// Firmware is a piece of the firmware: a volume, POST code, what an S-CRTM
// measured. The digest is of the code.
type Firmware struct {
	efi.Blob
	Named bool // the second form, or a name in the place of a size
}

// firmware reads pieces of firmware, which have a place and a size, a name and
// both, or a name alone ("ACPI DATA", nine bytes).
func firmware(b []byte, described bool) Value {
	blob, err := efi.ParseBlob(b, described)
	switch {
	case err == nil && (described || !isText(b)):
		return Firmware{blob, described}
	case isText(b) || isUTF16(b):
		return Label{What: "firmware", Name: content(b)}
	}
	return Bytes{b}
}

// Kind is "firmware".
func (f Firmware) Kind() string { return "firmware" }
func (f Firmware) statement() string {
	text := fmt.Sprintf("firmware at 0x%x, 0x%x bytes", f.Base, f.Length)
	if f.Description != "" {
		text = untilNUL(f.Description) + ", " + text
	}
	return text
}
func (f Firmware) fields(m Measured) []Field {
	fields := []Field{m.field("base", f.Base), m.field("length", f.Length)}
	if f.Named {
		fields = append(fields, m.field("description", untilNUL(f.Description)))
	}
	return fields
}

// Tables are the configuration tables that the firmware hands over.
type Tables struct{ GUIDs []efi.GUID }

func tables(b []byte, described bool) Value {
	t, err := efi.ParseTables(b, described)
	if err != nil {
		return plain(eventlog.EVEFIHandoffTables, b)
	}
	return Tables{t}
}

// Kind is "configuration-tables".
func (t Tables) Kind() string { return "configuration-tables" }
func (t Tables) statement() string {
	return "configuration tables: " + strings.Join(t.names(min(len(t.GUIDs), maxText)), ", ")
}
func (t Tables) names(n int) []string {
	list := make([]string, 0, n)
	for _, g := range t.GUIDs[:n] {
		list = append(list, g.Name())
	}
	return list
}
func (t Tables) fields(m Measured) []Field {
	return []Field{m.field("tables", t.names(len(t.GUIDs)))}
}

// Partitions is the partition table of the disk that was started from.
type Partitions struct{ efi.PartitionTable }

func partitions(b []byte) Value {
	t, err := efi.ParsePartitionTable(b)
	if err != nil {
		return plain(eventlog.EVEFIGPT, b)
	}
	return Partitions{t}
}

// partitionReport is one partition in a list of fields.
type partitionReport struct {
	Type  string `json:"type"`
	ID    string `json:"id"`
	First uint64 `json:"first"` // block
	Last  uint64 `json:"last"`  // block
	Name  string `json:"name"`
}

// Kind is "partitions".
func (p Partitions) Kind() string { return "partitions" }
func (p Partitions) statement() string {
	return fmt.Sprintf("disk %s, partitions %d", p.Disk, len(p.PartitionTable.Partitions))
}
func (p Partitions) fields(m Measured) []Field {
	list := make([]partitionReport, 0, len(p.PartitionTable.Partitions))
	for _, e := range p.PartitionTable.Partitions {
		list = append(list, partitionReport{e.Type.Name(), e.ID.String(), e.First, e.Last, e.Name})
	}
	return []Field{m.field("disk", p.Disk.String()), m.field("partitions", list)}
}

// Device is what a device said of itself over SPDM (Firmware Profile,
// TCG_DEVICE_SECURITY_EVENT_DATA): its header alone.
type Device struct {
	Signature      string // "SPDM Device Sec" or "SPDM Device Sec2"
	Version        uint16
	Type           uint32 // 0 none, 1 PCI, 2 USB
	Authentication *uint8 // of the second form: 0 succeeded, 1 none, 2 no binding, 3 no signature, 4 failed, 255 no SPDM
}

func device(b []byte) Value {
	const (
		signature = "SPDM Device Sec"
		header    = 28 // Signature, Version, Length, SpdmHashAlgo, DeviceType; of the second form up to DeviceType
	)
	if len(b) < header || !bytes.HasPrefix(b, []byte(signature)) {
		return plain(eventlog.EVEFISPDMBlob, b)
	}
	d := Device{Signature: untilNUL(string(b[:16])), Version: binary.LittleEndian.Uint16(b[16:]), Type: binary.LittleEndian.Uint32(b[24:])}
	if b[len(signature)] == '2' {
		d.Authentication = &b[18]
	}
	return d
}

// Kind is "spdm-device".
func (d Device) Kind() string { return "spdm-device" }
func (d Device) statement() string {
	kind := map[uint32]string{0: "device", 1: "PCI device", 2: "USB device"}[d.Type]
	if kind == "" {
		kind = fmt.Sprintf("device of type %d", d.Type)
	}
	return "SPDM measurement of a " + kind
}
func (d Device) fields(m Measured) []Field {
	fields := []Field{m.field("signature", d.Signature), m.field("version", d.Version), m.field("deviceType", d.Type)}
	if d.Authentication != nil {
		fields = append(fields, m.field("authentication", *d.Authentication))
	}
	return fields
}
