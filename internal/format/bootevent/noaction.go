package bootevent

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
)

// Header is the event that names the log's form; the log's reader has its fields.
type Header struct{ Signature string }

// Locality is the locality at which the TPM was started.
type Locality struct{ Locality uint8 }

// Manifest points to the firmware's reference values (NIST SP 800-155; Firmware
// Profile, 10.4.5.2, three forms). Nothing vouches for it.
type Manifest struct {
	Form                   int    // 1 to 3
	Vendor                 uint32 // IANA enterprise number
	GUID                   efi.GUID
	PlatformManufacturer   string // from form 2 on
	PlatformModel          string
	PlatformVersion        string
	FirmwareManufacturer   string
	FirmwareManufacturerID uint32
	FirmwareVersion        string
	RIM                    Locator // in form 3
	PlatformCertificate    Locator // in form 3
	Whole                  bool    // the event ends where its form does
}

// Locator says where something is found.
type Locator struct {
	Type uint32 // 0 the data themselves, 1 URI, 2 device path, 3 UEFI variable
	Data []byte
}

// sp800155 begins the data of events that point to reference values; the
// sixteenth byte tells the form: NUL, "2" or "3".
const sp800155 = "SP800-155 Event"

// Signatures of records about SPDM devices that stand in NV indexes, not in PCRs
// (Firmware Profile 1.06).
const spdmInstance, spdmDynamic = "NvIndexInstance", "NvIndexDynamic "

func noAction(b []byte) Value {
	switch {
	case bytes.HasPrefix(b, []byte("Spec ID Event")):
		return Header{untilNUL(string(b[:min(len(b), len("Spec ID Event03\x00"))]))}
	case bytes.HasPrefix(b, []byte(eventlog.LocalitySignature)) && len(b) > len(eventlog.LocalitySignature):
		return Locality{b[len(eventlog.LocalitySignature)]}
	case bytes.HasPrefix(b, []byte(sp800155)):
		return manifest(b)
	case bytes.HasPrefix(b, []byte(spdmInstance)), bytes.HasPrefix(b, []byte(spdmDynamic)):
		return Label{"spdm-record", untilNUL(string(b[:min(len(b), len(spdmInstance)+1)]))}
	}
	return plain(eventlog.EVNoAction, b)
}

func manifest(b []byte) Manifest {
	r := reader{b: b}
	r.take(len(sp800155))
	m := Manifest{Form: 1}
	if n := r.u8(); n == '2' || n == '3' {
		m.Form = int(n - '0')
	}
	m.Vendor = r.u32()
	copy(m.GUID[:], r.take(len(m.GUID)))
	if m.Form > 1 {
		m.PlatformManufacturer, m.PlatformModel, m.PlatformVersion = r.short(), r.short(), r.short()
		m.FirmwareManufacturer, m.FirmwareManufacturerID, m.FirmwareVersion = r.short(), r.u32(), r.short()
	}
	if m.Form > 2 {
		m.RIM, m.PlatformCertificate = r.locator(), r.locator()
	}
	m.Whole = !r.failed && isZero(r.b)
	return m
}

// reader takes little-endian fields from bytes; failed turns true for good when
// they run out.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.b) {
		r.failed = true
		return nil
	}
	field := r.b[:n:n]
	r.b = r.b[n:]
	return field
}

func (r *reader) u8() uint8 {
	if f := r.take(1); f != nil {
		return f[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if f := r.take(4); f != nil {
		return binary.LittleEndian.Uint32(f)
	}
	return 0
}

// short takes a text with its length in one byte, NUL included.
func (r *reader) short() string { return untilNUL(string(r.take(int(r.u8())))) }

func (r *reader) locator() Locator {
	l := Locator{Type: r.u32()}
	n := r.u32()
	if uint64(n) > uint64(len(r.b)) {
		r.failed = true
		return l
	}
	l.Data = r.take(int(n))
	return l
}

// String says where it is.
func (l Locator) String() string {
	switch {
	case len(l.Data) == 0:
		return ""
	case l.Type == 1:
		return untilNUL(string(l.Data))
	case l.Type == 2:
		return efi.DevicePath(l.Data).String()
	case l.Type == 3 && len(l.Data) > len(efi.GUID{}):
		g := efi.GUID(l.Data[:len(efi.GUID{})])
		return efi.UTF16(l.Data[len(g):]) + " of " + g.Name()
	}
	return fmt.Sprintf("%d bytes", len(l.Data))
}

// Kind is "header".
func (h Header) Kind() string      { return "header" }
func (h Header) statement() string { return h.Signature }
func (h Header) fields(m Measured) []Field {
	return []Field{m.field("signature", h.Signature)}
}

// Kind is "startup-locality".
func (l Locality) Kind() string      { return "startup-locality" }
func (l Locality) statement() string { return fmt.Sprintf("startup locality %d", l.Locality) }
func (l Locality) fields(m Measured) []Field {
	return []Field{m.field("locality", l.Locality)}
}

// Kind is "reference-manifest".
func (f Manifest) Kind() string { return "reference-manifest" }
func (f Manifest) statement() string {
	text := "firmware reference manifest (SP 800-155)"
	if f.Form > 1 && f.Whole {
		text += fmt.Sprintf(": %s %s, firmware %s %s", f.PlatformManufacturer, f.PlatformModel, f.FirmwareManufacturer, f.FirmwareVersion)
	}
	if where := f.RIM.String(); where != "" {
		text += ", at " + where
	}
	return text
}
func (f Manifest) fields(m Measured) []Field {
	fields := []Field{m.field("form", f.Form), m.field("whole", f.Whole), m.field("vendor", f.Vendor), m.field("guid", f.GUID.String())}
	if f.Form > 1 {
		fields = append(fields,
			m.field("platformManufacturer", f.PlatformManufacturer), m.field("platformModel", f.PlatformModel),
			m.field("platformVersion", f.PlatformVersion), m.field("firmwareManufacturer", f.FirmwareManufacturer),
			m.field("firmwareManufacturerId", f.FirmwareManufacturerID), m.field("firmwareVersion", f.FirmwareVersion))
	}
	if f.Form > 2 {
		fields = append(fields,
			m.field("rimLocatorType", f.RIM.Type), m.field("rimLocator", f.RIM.String()),
			m.field("platformCertificateLocatorType", f.PlatformCertificate.Type),
			m.field("platformCertificateLocator", f.PlatformCertificate.String()))
	}
	return fields
}
