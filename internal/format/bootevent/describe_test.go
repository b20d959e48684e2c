package bootevent_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"

	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

func utf16le(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// Vendor GUIDs as they are stored.
const (
	global        = "61dfe48bca93d211aa0d00e098032b8c"
	imageSecurity = "cbb219d73a3d9645a3bcdad00e67656f"
	shim          = "50ab5d6046e00043abb63dd810dd8b23"
	x509List      = "a159c0a5e494a74a87b5ab155c2bf072"
	sha256List    = "2616c4c14c509240aca941f936934328"
)

func variable(vendor, name string, data []byte) []byte {
	b := unhex(vendor)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(utf16le(name))/2))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	return append(append(b, utf16le(name)...), data...)
}

func signatureList(kind string, size, n int) []byte {
	b := unhex(kind)
	for _, v := range []int{28 + size*n, 0, size} {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return append(b, make([]byte, size*n)...)
}

// diskPath is a device path: an NVMe disk's first partition and a file on it.
func diskPath(file string) []byte {
	name := append(utf16le(file), 0, 0)
	b := unhex("02010c00 d041030a 00000000" + "01010600 00 01" + "03171000 01000000 0000000000000000" +
		"04012a00 01000000 0008000000000000 0000030000000000 4e1f6c0a527f394a9d0e5741524c4401 02 02")
	b = append(b, 4, 4, byte(4+len(name)), 0)
	return append(append(b, name...), 0x7f, 0xff, 4, 0)
}

func image(place uint64, path []byte) []byte {
	var b []byte
	for _, v := range []uint64{place, 0x1000, 0, uint64(len(path))} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return append(b, path...)
}

func blob(base, length uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, base), length)
}

// corpus holds logs of real machines, captures those of the virtual device.
const (
	corpus   = "../../../../shared/corpus/eventlog"
	captures = "../eventlog/testdata"
)

// made is an event whose digest is of its data, or of something else.
func made(index int, kind eventlog.EventType, data, of []byte) eventlog.Event {
	if of == nil {
		of = data
	}
	e := eventlog.Event{Index: 1, PCR: index, Type: kind, Data: data}
	for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256} {
		e.Digests = append(e.Digests, eventlog.TaggedDigest{Algorithm: a, Digest: a.Sum(of)})
	}
	return e
}

func readLog(t *testing.T, file string) []eventlog.Event {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return log.Events
}

func TestDescribe(t *testing.T) {
	const path = `PciRoot(0x0)/Pci(0x1,0x0)/NVMe(0x1,0000000000000000)/HD(1,GPT,0a6c1f4e-7f52-4a39-9d0e-5741524c4401,0x800,0x30000)/\EFI\BOOT\BOOTX64.EFI`
	option := append(unhex("01000000"), byte(len(diskPath(`\EFI\BOOT\BOOTX64.EFI`))), 0)
	option = append(append(append(option, utf16le("Ward")...), 0, 0), diskPath(`\EFI\BOOT\BOOTX64.EFI`)...)
	partitions := append(make([]byte, 56), unhex("4e1f6c0a527f394a9d0e5741524c4400")...)
	partitions = append(append(partitions, make([]byte, 12)...), unhex("80000000 00000000 0100000000000000")...)
	partitions = append(partitions, make([]byte, 128)...)
	tables := append(unhex("0100000000000000"), append(unhex("4415fdf294972c4a992ee5bbcf20e394"), make([]byte, 8)...)...)
	for _, c := range []struct {
		name string
		kind eventlog.EventType
		data []byte
		of   []byte // nil: the data
		want string
	}{
		{"text", eventlog.EVSCRTMVersion, utf16le("Firmware 2\x00"), nil, "Firmware 2"},
		{"version as GUID", eventlog.EVSCRTMVersion, unhex(global), nil, "8be4df61-93ca-11d2-aa0d-00e098032b8c"},
		{"Secure Boot on", eventlog.EVEFIVariableConfig, variable(global, "SecureBoot", []byte{1}), nil, "SecureBoot enabled"},
		{"Secure Boot off", eventlog.EVEFIVariableConfig, variable(global, "SecureBoot", []byte{0}), nil, "SecureBoot disabled"},
		{"no keys", eventlog.EVEFIVariableConfig, variable(global, "PK", nil), nil, "PK is empty"},
		{"keys", eventlog.EVEFIVariableConfig, variable(imageSecurity, "dbx", append(signatureList(x509List, 100, 1), signatureList(sha256List, 48, 3)...)), nil, "dbx: certificates 1, hashes 3"},
		{"broken keys", eventlog.EVEFIVariableConfig, variable(imageSecurity, "dbx", []byte{1, 2, 3}), nil, "dbx: 3 bytes"},
		{"authority by hash", eventlog.EVEFIVariableAuth, variable(imageSecurity, "db", append(unhex(shim), unhex(strings.Repeat("ab", 32))...)), nil, "authority db: hash " + strings.Repeat("ab", 32)},
		{"SBAT level", eventlog.EVEFIVariableAuth, variable(shim, "SbatLevel", []byte("sbat,1,2022052400\n")), nil, "SbatLevel of shim: sbat,1,2022052400"},
		{"boot order", eventlog.EVEFIVariableBoot, variable(global, "BootOrder", []byte{1, 0, 0x0a, 0}), nil, "BootOrder: 0001, 000A"},
		{"boot option", eventlog.EVEFIVariableBoot2, variable(global, "Boot0001", option), nil, "Boot0001: Ward, " + path},
		{"false variable", eventlog.EVEFIVariableBoot, variable(global, "BootOrder", []byte{1, 0}), []byte("else"), "untrusted: BootOrder: 0001"},
		{"no variable", eventlog.EVEFIVariableConfig, []byte("text"), nil, "text"},
		{"image", eventlog.EVEFIBootApplication, image(0x7e1c000, diskPath(`\EFI\BOOT\BOOTX64.EFI`)), []byte("PE"), "untrusted: " + path},
		{"image elsewhere", eventlog.EVEFIBootApplication, image(0x1234000, diskPath(`\EFI\BOOT\BOOTX64.EFI`)), []byte("PE"), "untrusted: " + path},
		{"image without path", eventlog.EVEFIBootDriver, image(1, nil), []byte("PE"), "untrusted: image of 4096 bytes"},
		{"firmware", eventlog.EVEFIFirmwareBlob, blob(0x820000, 0xe0000), []byte("FV"), "untrusted: firmware at 0x820000, 0xe0000 bytes"},
		{"named firmware", eventlog.EVEFIFirmwareBlob2, append([]byte("\x04DXE\x00"), blob(0x10, 0x20)...), []byte("FV"), "untrusted: DXE, firmware at 0x10, 0x20 bytes"},
		{"POST code of 9 bytes", eventlog.EVPostCode, []byte("ACPI DATA"), []byte("tables"), "untrusted: ACPI DATA"},
		{"tables", eventlog.EVEFIHandoffTables, tables, nil, "configuration tables: SMBIOS 3"},
		{"partitions", eventlog.EVEFIGPT, partitions, nil, "disk 0a6c1f4e-7f52-4a39-9d0e-5741524c4400, partitions 1"},
		{"tag", eventlog.EVEventTag, append(unhex("ec223b8f 0d000000"), "Linux initrd\x00"...), []byte("initrd"), "untrusted: initrd: Linux initrd"},
		{"other tag", eventlog.EVEventTag, unhex("01000000 00000000"), nil, "tag 0x00000001: 0 zero bytes"},
		{"IPL", eventlog.EVIPL, []byte("grub_cmd: linux /vmlinuz\x00"), []byte("linux /vmlinuz"), "untrusted label grub_cmd: linux /vmlinuz"},
		{"IPL with NUL", eventlog.EVIPL, []byte("grub_cmd linux /vmlinuz\x00"), []byte("linux /vmlinuz\x00"), "untrusted label grub_cmd: linux /vmlinuz"},
		{"false IPL", eventlog.EVIPL, []byte("grub_cmd: linux /vmlinuz\x00"), []byte("linux /other"), "untrusted: grub_cmd: linux /vmlinuz"},
		{"section's name", eventlog.EVIPL, utf16le(".linux\x00"), []byte(".linux\x00"), ".linux"},
		{"boot option by its value", eventlog.EVEFIVariableBoot, variable(global, "BootOrder", []byte{1, 0}), []byte{1, 0}, "untrusted label BootOrder: 0001"},
		{"configuration by its value", eventlog.EVEFIVariableConfig, variable(global, "SecureBoot", []byte{1}), []byte{1}, "untrusted: SecureBoot enabled"},
		{"shim verifies nothing", eventlog.EVEFIVariableAuth, variable(shim, "MokSBState", []byte{1}), nil, "MokSBState of shim: shim verifies nothing"},
		{"image that is its own label", eventlog.EVEFIBootApplication, image(1, nil), nil, "untrusted: image of 4096 bytes"},
		{"section", eventlog.EVIPL, utf16le(".linux\x00"), []byte("kernel"), "untrusted: .linux"},
		{"separator", eventlog.EVSeparator, []byte{0, 0, 0, 0}, nil, "separator"},
		{"failed separator", eventlog.EVSeparator, []byte("reason"), []byte{1, 0, 0, 0}, "separator: the firmware reports an error"},
		{"no action", eventlog.EVNoAction, []byte("SP800-155 Event3 and more"), nil, "untrusted: firmware reference manifest (SP 800-155)"},
		{"terminal commands", eventlog.EVAction, []byte("\x1b[2Jred\x07"), nil, "8 bytes"},
		{"terminal commands in UTF-16", eventlog.EVEFIVariableBoot, variable(global, "Boot\x1b[2J", []byte{1}), nil, "Boot?[2J: 1 bytes"},
		{"two lines", eventlog.EVAction, []byte("one\ntwo\n"), nil, "one two"},
		{"long", eventlog.EVAction, []byte(strings.Repeat("x", 1000)), nil, strings.Repeat("x", 200) + "..."},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := made(4, c.kind, c.data, c.of)
			if got := bootevent.Describe(e); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Whatever a log holds, a description is one printable line of bounded length.
func TestDescriptionsOfCorpus(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(corpus, "*.bin"))
	captured, _ := filepath.Glob(filepath.Join(captures, "*.bin"))
	if files = append(files, captured...); len(captured) == 0 {
		t.Fatalf("no captured logs in %s", captures)
	}
	for _, file := range files {
		for _, e := range readLog(t, file) {
			text := bootevent.Describe(e)
			if text == "" || len([]rune(text)) > 250 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s event %d, %s: %q", filepath.Base(file), e.Index, e.Type, text)
			}
		}
	}
}

// A UEFI machine with Secure Boot, in the words that people read.
func TestDescriptionsOfMachine(t *testing.T) {
	file := filepath.Join(corpus, "rhel8-uefi.bin")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no event log %s", file)
	}
	events := readLog(t, file)
	for i, want := range map[int]string{
		0:  "untrusted: Spec ID Event03",
		3:  "SecureBoot enabled",
		7:  "dbx: certificates 3, hashes 183",
		10: `untrusted label Boot0002: Red Hat Enterprise Linux, HD(1,GPT,ef72374c-2630-46a1-88d6-082693781140,0x800,0x64000)/\EFI\redhat\shimx64.efi`,
		13: "Calling EFI Application from Boot Option",
		18: "separator",
		21: "authority db: CN=Microsoft Corporation UEFI CA 2011,O=Microsoft Corporation,L=Redmond,ST=Washington,C=US",
		22: "disk 2aeb90b6-e13c-4197-8ee2-59e9ed2959dc, partitions 2",
		26: `untrusted: \EFI\redhat\grubx64.efi`,
		29: "untrusted label grub_cmd: [ -f (hd0,gpt1)/EFI/redhat/grubenv ]",
	} {
		if got := bootevent.Describe(events[i]); got != want {
			t.Errorf("event %d: %s, want %s", i, got, want)
		}
	}
}
