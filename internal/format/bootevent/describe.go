// Package bootevent says what the events of a firmware's log state: text for
// people and values for policies, by event type (TCG PC Client Platform Firmware
// Profile, section 10; UEFI; what shim, GRUB, systemd and the kernel add). What
// does not hash to its event's digest is untrusted, and marked so.
package bootevent

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

// untrusted begins every description that nothing vouches for.
const untrusted = "untrusted: "

// maxText bounds a description, in runes.
const maxText = 200

// Describe says in a few words, on one printable line, what an event states
// about itself. It begins with "untrusted: " where the data do not hash to the
// event's digest: of image loads, firmware blobs and the like the digest is of
// something else, and of events that extend nothing it is of nothing. Places in
// memory of image loads are left out, so that two boots read the same.
func Describe(e eventlog.Event) string {
	text := printable(event{e}.statement())
	if e.Type == eventlog.EVSeparator && e.Separator() != eventlog.SeparatorOther || e.Vouched() {
		return text
	}
	return untrusted + text
}

// event is an event with the words about it.
type event struct{ eventlog.Event }

func (e event) statement() string {
	switch e.Type {
	case eventlog.EVSeparator:
		return e.separator()
	case eventlog.EVNoAction:
		return e.noAction()
	case eventlog.EVEFIVariableConfig, eventlog.EVEFIVariableBoot, eventlog.EVEFIVariableBoot2, eventlog.EVEFIVariableAuth:
		return e.variable()
	case eventlog.EVEFIBootApplication, eventlog.EVEFIBootDriver, eventlog.EVEFIRuntimeDriver:
		return e.image()
	case eventlog.EVEFIFirmwareBlob, eventlog.EVSCRTMContents, eventlog.EVPostCode, eventlog.EVNonhostCode:
		return e.blob(false)
	case eventlog.EVEFIFirmwareBlob2, eventlog.EVPostCode2:
		return e.blob(true)
	case eventlog.EVEFIHandoffTables:
		return e.tables(false)
	case eventlog.EVEFIHandoffTables2:
		return e.tables(true)
	case eventlog.EVEFIGPT, eventlog.EVEFIGPT2:
		return e.partitions()
	case eventlog.EVEventTag:
		return e.tag()
	case eventlog.EVSCRTMVersion:
		if len(e.Data) == len(efi.GUID{}) && !isUTF16(e.Data) {
			return efi.GUID(e.Data).String()
		}
	}
	return content(e.Data)
}

func (e event) separator() string {
	switch e.Separator() {
	case eventlog.SeparatorFailure:
		return "separator: the firmware reports an error"
	case eventlog.SeparatorOther:
		return "separator by name only: " + content(e.Data)
	}
	return "separator"
}

// sp800155 begins the data of events that point to the firmware's reference
// values (Firmware Profile, 10.4.5.2).
const sp800155 = "SP800-155 Event"

func (e event) noAction() string {
	switch {
	case bytes.HasPrefix(e.Data, []byte("Spec ID Event")):
		return untilNUL(string(e.Data[:min(len(e.Data), len("Spec ID Event03\x00"))]))
	case bytes.HasPrefix(e.Data, []byte(eventlog.LocalitySignature)) && len(e.Data) > len(eventlog.LocalitySignature):
		return fmt.Sprintf("startup locality %d", e.Data[len(eventlog.LocalitySignature)])
	case bytes.HasPrefix(e.Data, []byte(sp800155)):
		return "firmware reference manifest (SP 800-155)"
	}
	return content(e.Data)
}

// signatureVariables hold signature lists.
var signatureVariables = map[string]bool{
	"PK": true, "KEK": true, "db": true, "dbx": true, "dbt": true, "dbr": true,
	"MokList": true, "MokListX": true, "MokListRT": true, "MokListXRT": true,
}

// switchVariables hold one byte, 1 for enabled.
var switchVariables = map[string]bool{
	"SecureBoot": true, "AuditMode": true, "DeployedMode": true, "SetupMode": true, "MokSBState": true, "MokListTrusted": true,
}

func (e event) variable() string {
	v, err := efi.ParseVariable(e.Data)
	if err != nil {
		return content(e.Data)
	}
	name := v.Name
	if v.Vendor != efi.GlobalVariable && v.Vendor != efi.ImageSecurity {
		name += " of " + v.Vendor.Name()
	}
	switch {
	case len(v.Data) == 0:
		return name + " is empty"
	case e.Type == eventlog.EVEFIVariableAuth && (v.Vendor == efi.ImageSecurity || signatureVariables[v.Name] || v.Name == "Shim" || v.Name == "vendor_db"):
		return "authority " + name + ": " + authority(v.Data)
	case signatureVariables[v.Name]:
		return name + ": " + signatures(v.Data)
	case switchVariables[v.Name] && len(v.Data) == 1:
		if v.Data[0] == 1 {
			return name + " enabled"
		}
		return name + " disabled"
	case v.Name == "BootOrder" || v.Name == "DriverOrder":
		return name + ": " + order(v.Data)
	case isLoadOption(v.Name):
		if o, err := efi.ParseLoadOption(v.Data); err == nil {
			return fmt.Sprintf("%s: %s, %s", name, o.Description, o.Path)
		}
	}
	return name + ": " + content(v.Data)
}

// isLoadOption tells names such as Boot0001.
func isLoadOption(name string) bool {
	number, ok := strings.CutPrefix(name, "Boot")
	if !ok {
		number, ok = strings.CutPrefix(name, "Driver")
	}
	return ok && len(number) == 4 && strings.Trim(number, "0123456789ABCDEFabcdef") == ""
}

func order(b []byte) string {
	var numbers []string
	for ; len(b) >= 2; b = b[2:] {
		numbers = append(numbers, fmt.Sprintf("%04X", binary.LittleEndian.Uint16(b)))
	}
	return strings.Join(numbers, ", ")
}

func signatures(b []byte) string {
	lists, err := efi.ParseSignatureLists(b)
	if err != nil {
		return content(b)
	}
	certificates, hashes := 0, 0
	for _, l := range lists {
		if l.Type == efi.CertX509 {
			certificates += len(l.Signatures)
		} else {
			hashes += len(l.Signatures)
		}
	}
	return fmt.Sprintf("certificates %d, hashes %d", certificates, hashes)
}

// authority names the certificate or hash that let an image start.
func authority(b []byte) string {
	s, err := efi.ParseSignature(b)
	if err != nil {
		return content(b)
	}
	if c, err := x509.ParseCertificate(s.Data); err == nil {
		return c.Subject.String()
	}
	if c, err := x509.ParseCertificate(b); err == nil { // shim measures its own without an owner
		return c.Subject.String()
	}
	if len(s.Data) == pcr.SHA256.Size() {
		return "hash " + pcr.Digest(s.Data).String()
	}
	return content(b)
}

func (e event) image() string {
	i, err := efi.ParseImage(e.Data)
	if err != nil {
		return content(e.Data)
	}
	if len(i.Path) == 0 {
		return fmt.Sprintf("image of %d bytes", i.Size)
	}
	return i.Path.String()
}

// blob describes firmware volumes and POST code, which have a place and a size,
// a name, or nine bytes of either.
func (e event) blob(described bool) string {
	b, err := efi.ParseBlob(e.Data, described)
	if err != nil || !described && isText(e.Data) {
		return content(e.Data)
	}
	text := fmt.Sprintf("firmware at 0x%x, 0x%x bytes", b.Base, b.Length)
	if b.Description != "" {
		text = untilNUL(b.Description) + ", " + text
	}
	return text
}

func (e event) tables(described bool) string {
	tables, err := efi.ParseTables(e.Data, described)
	if err != nil {
		return content(e.Data)
	}
	list := make([]string, 0, min(len(tables), maxText))
	for _, t := range tables[:min(len(tables), maxText)] {
		list = append(list, t.Name())
	}
	return "configuration tables: " + strings.Join(list, ", ")
}

func (e event) partitions() string {
	t, err := efi.ParsePartitionTable(e.Data)
	if err != nil {
		return content(e.Data)
	}
	return fmt.Sprintf("disk %s, partitions %d", t.Disk, len(t.Partitions))
}

// tags are the ids of tagged events that the kernel and systemd write
// (drivers/firmware/efi/libstub/efistub.h, systemd tpm2-pcr.h).
var tags = map[uint32]string{
	0x8f3b22ec: "initrd",
	0x8f3b22ed: "kernel command line",
	0xf5bc582a: "loader configuration",
	0x6c46f751: "device tree add-on",
	0x49dffe0f: "initrd add-on",
	0xdac08e1a: "microcode add-on",
}

func (e event) tag() string {
	const head = 8
	if len(e.Data) < head {
		return content(e.Data)
	}
	id := binary.LittleEndian.Uint32(e.Data)
	name, ok := tags[id]
	if !ok {
		name = fmt.Sprintf("tag 0x%08x", id)
	}
	return name + ": " + content(e.Data[head:])
}

// content shows data as text where they are text, else their size.
func content(b []byte) string {
	trimmed := bytes.TrimRight(b, "\x00")
	switch {
	case len(trimmed) == 0:
		return fmt.Sprintf("%d zero bytes", len(b))
	case isText(b):
		return string(trimmed)
	case isUTF16(b):
		return efi.UTF16(b)
	}
	return fmt.Sprintf("%d bytes", len(b))
}

func isText(b []byte) bool {
	b = bytes.TrimRight(b, "\x00")
	for _, c := range b {
		if (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			return false
		}
	}
	return len(b) > 0
}

func isUTF16(b []byte) bool {
	if len(b) < 4 || len(b)%2 != 0 {
		return false
	}
	for i := 0; i < len(b); i += 2 {
		if ascii := b[i] >= ' ' && b[i] <= '~' && b[i+1] == 0; !ascii {
			return i >= 4 && isZero(b[i:])
		}
	}
	return true
}

// printable makes one line of bounded length that no terminal takes for a command.
func printable(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxText {
			b.WriteString("...")
			break
		}
		switch {
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case r == utf8.RuneError || !unicode.IsPrint(r):
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

func untilNUL(s string) string {
	head, _, _ := strings.Cut(s, "\x00")
	return head
}
