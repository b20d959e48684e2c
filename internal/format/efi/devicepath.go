package efi

import (
	"fmt"
	"strings"
)

// DevicePath is the bytes of an EFI_DEVICE_PATH_PROTOCOL: nodes, each of a type,
// a subtype and a length (UEFI 10.2).
type DevicePath []byte

// Types of nodes (UEFI 10.3).
const (
	nodeHardware  = 0x01
	nodeACPI      = 0x02
	nodeMessaging = 0x03
	nodeMedia     = 0x04
	nodeBBS       = 0x05
	nodeEnd       = 0x7f
)

// maxNodes bounds the text of a path; firmware writes up to ten.
const maxNodes = 64

// String returns the path as text (UEFI 10.6.1). Nodes that this package does
// not know are written Path(type,subtype,bytes); where the bytes are no path,
// the text ends in "...".
func (p DevicePath) String() string {
	var nodes []string
	for r := (reader{b: p}); len(r.b) > 0; {
		kind, sub, size := r.u8(), r.u8(), r.u16()
		const head = 4
		if r.failed || size < head || len(nodes) == maxNodes {
			nodes = append(nodes, "...")
			break
		}
		body := r.take(uint64(size) - head)
		if r.failed {
			nodes = append(nodes, "...")
			break
		}
		if kind == nodeEnd {
			if sub == 0xff {
				break
			}
			nodes = append(nodes, ",")
			continue
		}
		nodes = append(nodes, nodeText(kind, sub, body))
	}
	return strings.Join(nodes, "/")
}

// File returns the last file path in a path, "" where there is none.
func (p DevicePath) File() string {
	var file string
	for r := (reader{b: p}); len(r.b) > 0 && !r.failed; {
		kind, sub, size := r.u8(), r.u8(), r.u16()
		if size < 4 {
			break
		}
		if body := r.take(uint64(size) - 4); kind == nodeMedia && sub == 4 {
			file = UTF16(body)
		}
	}
	return file
}

func nodeText(kind, sub uint8, body []byte) string {
	r := reader{b: body}
	var text string
	switch kind {
	case nodeHardware:
		text = hardwareText(sub, &r)
	case nodeACPI:
		text = acpiText(sub, &r)
	case nodeMessaging:
		text = messagingText(sub, &r)
	case nodeMedia:
		text = mediaText(sub, &r)
	case nodeBBS:
		if sub == 1 {
			kind := r.u16()
			r.u16()
			text = fmt.Sprintf("BBS(0x%x,%s)", kind, cString(r.b))
		}
	}
	if text == "" || r.failed {
		return fmt.Sprintf("Path(%d,%d,%x)", kind, sub, body)
	}
	return text
}

func hardwareText(sub uint8, r *reader) string {
	switch sub {
	case 1:
		function, device := r.u8(), r.u8()
		return fmt.Sprintf("Pci(0x%x,0x%x)", device, function)
	case 3:
		return fmt.Sprintf("MemoryMapped(0x%x,0x%x,0x%x)", r.u32(), r.u64(), r.u64())
	case 4:
		return vendorText("VenHw", r)
	case 5:
		return fmt.Sprintf("Ctrl(0x%x)", r.u32())
	}
	return ""
}

// pnpVendor is the compressed EISA id of "PNP" (ACPI 19.3.4).
const pnpVendor = 0x41d0

func acpiText(sub uint8, r *reader) string {
	if sub != 1 {
		return ""
	}
	hid, uid := r.u32(), r.u32()
	switch {
	case hid == 0x0a03<<16|pnpVendor:
		return fmt.Sprintf("PciRoot(0x%x)", uid)
	case hid == 0x0a08<<16|pnpVendor:
		return fmt.Sprintf("PcieRoot(0x%x)", uid)
	case hid&0xffff == pnpVendor:
		return fmt.Sprintf("Acpi(PNP%04X,0x%x)", hid>>16, uid)
	}
	return fmt.Sprintf("Acpi(0x%08x,0x%x)", hid, uid)
}

func messagingText(sub uint8, r *reader) string {
	switch sub {
	case 2:
		return fmt.Sprintf("Scsi(0x%x,0x%x)", r.u16(), r.u16())
	case 5:
		return fmt.Sprintf("USB(0x%x,0x%x)", r.u8(), r.u8())
	case 10:
		return vendorText("VenMsg", r)
	case 11:
		mac := r.take(6)
		r.take(26)
		return fmt.Sprintf("MAC(%x,0x%x)", mac, r.u8())
	case 12:
		r.take(4)
		return fmt.Sprintf("IPv4(%d.%d.%d.%d)", r.u8(), r.u8(), r.u8(), r.u8())
	case 13:
		r.take(16)
		return fmt.Sprintf("IPv6(%x)", r.take(16))
	case 18:
		return fmt.Sprintf("Sata(0x%x,0x%x,0x%x)", r.u16(), r.u16(), r.u16())
	case 23:
		namespace := r.u32()
		return fmt.Sprintf("NVMe(0x%x,%016x)", namespace, r.u64())
	case 24:
		return fmt.Sprintf("Uri(%s)", cString(r.b))
	case 26:
		return fmt.Sprintf("SD(0x%x)", r.u8())
	case 29:
		return fmt.Sprintf("eMMC(0x%x)", r.u8())
	}
	return ""
}

func mediaText(sub uint8, r *reader) string {
	switch sub {
	case 1:
		number, start, size := r.u32(), r.u64(), r.u64()
		signature, _, kind := r.guid(), r.u8(), r.u8()
		switch kind {
		case 1:
			return fmt.Sprintf("HD(%d,MBR,0x%02x%02x%02x%02x,0x%x,0x%x)", number, signature[3], signature[2], signature[1], signature[0], start, size)
		case 2:
			return fmt.Sprintf("HD(%d,GPT,%s,0x%x,0x%x)", number, signature, start, size)
		}
		return fmt.Sprintf("HD(%d,%d,0x%x,0x%x)", number, kind, start, size)
	case 2:
		return fmt.Sprintf("CDROM(0x%x,0x%x,0x%x)", r.u32(), r.u64(), r.u64())
	case 3:
		return vendorText("VenMedia", r)
	case 4:
		return UTF16(r.b)
	case 5:
		return fmt.Sprintf("Media(%s)", r.guid())
	case 6:
		return fmt.Sprintf("FvFile(%s)", r.guid())
	case 7:
		return fmt.Sprintf("Fv(%s)", r.guid())
	case 8:
		r.take(4)
		return fmt.Sprintf("Offset(0x%x,0x%x)", r.u64(), r.u64())
	}
	return ""
}

func vendorText(kind string, r *reader) string {
	g := r.guid()
	if len(r.b) == 0 {
		return fmt.Sprintf("%s(%s)", kind, g)
	}
	return fmt.Sprintf("%s(%s,%x)", kind, g, r.b)
}

func cString(b []byte) string {
	head, _, _ := strings.Cut(string(b), "\x00")
	return head
}
