package bootevent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
)

// Command is a command line that a boot loader measured: of GRUB its commands
// and the kernel's command line, of systemd, U-Boot and others the kernel's.
type Command struct {
	Label string // as GRUB writes it: "grub_cmd", "kernel_cmdline", "module_cmdline"
	Text  string
}

// Label names something that was measured and is not in the event: a variable
// of shim, a file that GRUB read, a section of a unified kernel image, an image
// that U-Boot or Trusted Firmware-A started.
type Label struct {
	What string // "shim-variable", "file", "section", "initrd", "firmware" and the like
	Name string
}

// Tag is a tagged event (Firmware Profile, TCG_PCClientTaggedEvent).
type Tag struct {
	ID   uint32
	Name string // of an id that is known
	Data []byte
}

// grubLabels begin what GRUB logs; the digest is of what follows, before 2.06
// with its NUL (grub-core/lib/efi and commands/tpm.c).
var grubLabels = []string{"grub_cmd", "grub_kernel_cmdline", "kernel_cmdline", "module_cmdline"}

// shimVariables are the names under which shim measures its variables into PCR
// 14 (mok.c); the digest is of the value.
var shimVariables = []string{
	"MokList", "MokListX", "MokSBState", "MokDBState", "MokIgnoreDB", "MokListTrusted", "MokPolicy", "SbatLevel", "HSIStatus",
}

// stubInitrds are what systemd-stub measures from beside the kernel image into
// PCR 12 and 13 (src/boot/stub.c); the digest is of the archive.
var stubInitrds = []string{
	"Credentials initrd", "Global credentials initrd", "System extension initrd", "Global system extension initrd",
	"Configuration extension initrd", "Global configuration extension initrd",
}

// Registers into which systemd's loader measures the kernel's command line, the
// former before version 252 (UAPI group, Linux TPM PCR Registry).
const oldKernelConfig, kernelConfig = 8, 12

const kernelCommand = "kernel_cmdline"

// loader reads EV_IPL, whose form each boot loader chose for itself.
func loader(e eventlog.Event) Decoded {
	if wide, ok := utf16Text(e.Data); ok {
		return systemd(e, wide)
	}
	if !isText(e.Data) {
		return byHash(e, plain(e.Type, e.Data))
	}
	text := content(e.Data)
	for _, label := range grubLabels {
		rest, ok := strings.CutPrefix(text, label)
		if ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, ": ")) {
			command := strings.TrimPrefix(strings.TrimPrefix(rest, ":"), " ")
			return Decoded{measured(e, e.Data, []byte(command), append([]byte(command), 0)), Command{label, command}}
		}
	}
	m := measured(e, e.Data, bytes.TrimRight(e.Data, "\x00"))
	switch {
	case m >= Part:
		return Decoded{Whole, Text{"text", text}}
	case slices.Contains(shimVariables, text):
		return Decoded{m, Label{"shim-variable", text}}
	}
	return Decoded{m, Label{"file", text}}
}

// utf16Text reads UTF-16; systemd-boot before 250 logs one byte less than it
// measures.
func utf16Text(b []byte) (string, bool) {
	if len(b)%2 == 1 && len(b) > 2 && b[1] == 0 {
		b = append(bytes.Clone(b), 0)
	}
	if !isUTF16(b) {
		return "", false
	}
	return efi.UTF16(b), true
}

// systemd reads what systemd-boot and systemd-stub write as EV_IPL.
func systemd(e eventlog.Event, text string) Decoded {
	switch {
	case strings.HasPrefix(text, "."): // the digest is of the name in ASCII, then in the next event of the content
		return Decoded{measuredAs(e, e.Data, append([]byte(text), 0)), Label{"section", text}}
	case slices.Contains(stubInitrds, text):
		return byHash(e, Label{"initrd", text})
	case e.PCR == oldKernelConfig || e.PCR == kernelConfig:
		m := measuredAs(e, e.Data, append(bytes.Clone(e.Data), 0))
		return Decoded{min(m, Part), Command{kernelCommand, text}} // that it is a command line, only the register says
	}
	return Decoded{measuredAs(e, e.Data, append(bytes.Clone(e.Data), 0)), Text{"text", text}}
}

// measuredAs tells whether the digests are of one of several forms of the whole
// statement.
func measuredAs(e eventlog.Event, forms ...[]byte) Measured {
	m := measured(e, forms[0], forms[1:]...)
	if m == Part {
		return Whole
	}
	return m
}

// uboot reads the types that U-Boot (boot/bootm.c) and other small loaders use:
// a name whose digest is of the image, and the kernel's command line itself.
func uboot(e eventlog.Event) Decoded {
	d := byHash(e, plain(e.Type, e.Data))
	text, ok := d.Value.(Text)
	switch {
	case !ok:
	case e.Type == eventlog.EVPlatformConfig && d.Measured == Whole && bytes.HasSuffix(e.Data, []byte{0}):
		return Decoded{Part, Command{kernelCommand, text.Text}}
	case d.Measured == Whole:
	case e.Type == eventlog.EVCompactHash:
		d.Value = Label{"loaded-image", text.Text}
	case e.Type == eventlog.EVTableOfDevices:
		d.Value = Label{"device-tree", text.Text}
	}
	return d
}

// tags are the ids of tagged events that the kernel's EFI stub and systemd write
// (drivers/firmware/efi/libstub/efistub.h, systemd's tpm2-pcr.h); the digest is
// of what the text names.
var tags = map[uint32]string{
	0x8f3b22ec: "initrd",
	0x8f3b22ed: "kernel command line",
	0xf5bc582a: "loader configuration",
	0x6c46f751: "device tree add-on",
	0x49dffe0f: "initrd add-on",
	0xdac08e1a: "microcode add-on",
	0x13aed6db: "profile of the kernel image",
}

// tagged reads EV_EVENT_TAG; Windows hashes all of it, others what the id says.
func tagged(e eventlog.Event) Decoded {
	const head = 8
	if len(e.Data) < head {
		return byHash(e, plain(e.Type, e.Data))
	}
	id, rest := binary.LittleEndian.Uint32(e.Data), e.Data[head:]
	if n := binary.LittleEndian.Uint32(e.Data[4:]); uint64(n) < uint64(len(rest)) {
		rest = rest[:n]
	}
	return Decoded{measured(e, e.Data, rest), Tag{id, tags[id], rest}}
}

// Kind is "command".
func (c Command) Kind() string      { return "command" }
func (c Command) statement() string { return c.Label + ": " + c.Text }
func (c Command) fields(m Measured) []Field {
	return []Field{m.label("label", c.Label), m.field("text", c.Text)}
}

// Kind is what the label is of.
func (l Label) Kind() string      { return l.What }
func (l Label) statement() string { return l.Name }
func (l Label) fields(m Measured) []Field {
	fields := []Field{m.field("name", l.Name)}
	if component := components[l.Name]; component != "" {
		fields = append(fields, m.field("component", component))
	}
	return fields
}

// Kind is "tag".
func (t Tag) Kind() string { return "tag" }
func (t Tag) statement() string {
	name := t.Name
	if name == "" {
		name = fmt.Sprintf("tag 0x%08x", t.ID)
	}
	return name + ": " + content(t.Data)
}
func (t Tag) fields(m Measured) []Field {
	fields := []Field{m.label("id", fmt.Sprintf("0x%08x", t.ID)), m.label("tag", t.Name), m.field("size", len(t.Data))}
	if isText(t.Data) || isUTF16(t.Data) {
		fields = append(fields, m.field("text", content(t.Data)))
	}
	return fields
}

// labelOf names what types mean whose event is a name alone.
func labelOf(kind eventlog.EventType) string {
	if kind == eventlog.EVCPUMicrocode {
		return "microcode"
	}
	return "h-crtm"
}

// components are the names under which Trusted Firmware-A measures what it
// starts (Arm Server Base Security Guide, DEN 0086; event_log.h), and those
// of U-Boot and EDK II.
var components = map[string]string{
	"BL_2":                       "trusted boot firmware",
	"SECURE_RT_EL3":              "EL3 runtime firmware (BL31)",
	"SECURE_RT_EL1_OPTEE":        "secure operating system, OP-TEE (BL32)",
	"SECURE_RT_EL1_OPTEE_EXTRA1": "secure operating system, OP-TEE, first part more (BL32)",
	"SECURE_RT_EL1_OPTEE_EXTRA2": "secure operating system, OP-TEE, second part more (BL32)",
	"SECURE_RT_EL1_TSPD":         "secure operating system, test payload (BL32)",
	"SECURE_RT_EL1_TLKD":         "secure operating system, Trusted Little Kernel (BL32)",
	"SECURE_RT_EL1_TRUSTY":       "secure operating system, Trusty (BL32)",
	"SECURE_RT_EL1_UNKNOWN":      "secure operating system (BL32)",
	"BL_33":                      "normal world's boot loader (BL33)",
	"RMM":                        "realm management monitor",
	"SYS_CTRL_2":                 "system control processor's firmware",
	"FW_CONFIG":                  "firmware configuration",
	"HW_CONFIG":                  "device tree",
	"NT_FW_CONFIG":               "configuration of the normal world's firmware",
	"SOC_FW_CONFIG":              "configuration of the EL3 runtime firmware",
	"TB_FW_CONFIG":               "configuration of the trusted boot firmware",
	"TOS_FW_CONFIG":              "configuration of the secure operating system",
	"ACPI DATA":                  "ACPI tables",
	"DTB DATA":                   "device tree",
	"POST CODE":                  "POST code",
	"SMM CODE":                   "system management mode code",
	"BIS CODE":                   "boot integrity services code",
	"Embedded Option ROM":        "embedded option ROM",
	"Embedded UEFI Driver":       "embedded driver",
}
