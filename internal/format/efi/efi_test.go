package efi_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf16"

	"ward/internal/format/efi"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func utf16le(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

const global, sha256Kind = "61dfe48b ca93 d211 aa0d 00e098032b8c", "2616c4c1 4c50 9240 aca9 41f936934328"

var secureBoot = join(unhex(global), unhex("0a00000000000000 0100000000000000"), utf16le("SecureBoot"), []byte{1})

// list is a signature list with a header of 4 bytes and two hashes.
var list = join(unhex(sha256Kind), unhex("80000000 04000000 30000000 aabbccdd"),
	unhex(global), bytes.Repeat([]byte{1}, 32), unhex(global), bytes.Repeat([]byte{2}, 32))

func TestGUID(t *testing.T) {
	for text, g := range map[string]efi.GUID{
		"8be4df61-93ca-11d2-aa0d-00e098032b8c": efi.GlobalVariable,
		"d719b2cb-3d3a-4596-a3bc-dad00e67656f": efi.ImageSecurity,
	} {
		if g.String() != text {
			t.Errorf("%s, want %s", g, text)
		}
	}
	if n := efi.GlobalVariable.Name(); n != "global" {
		t.Errorf("name %s", n)
	}
	if n := (efi.GUID{}).Name(); n != "00000000-0000-0000-0000-000000000000" {
		t.Errorf("name %s", n)
	}
}

func TestVariable(t *testing.T) {
	v, err := efi.ParseVariable(secureBoot)
	if err != nil || v.Vendor != efi.GlobalVariable || v.Name != "SecureBoot" || !bytes.Equal(v.Data, []byte{1}) {
		t.Errorf("%+v, error %v", v, err)
	}
	huge := bytes.Clone(secureBoot)
	binary.LittleEndian.PutUint64(huge[16:], 1<<63)
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"a byte less":    secureBoot[:len(secureBoot)-1],
		"a byte more":    append(bytes.Clone(secureBoot), 0),
		"a name of 2^63": huge,
	} {
		if v, err := efi.ParseVariable(b); err == nil {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestSignatureLists(t *testing.T) {
	lists, err := efi.ParseSignatureLists(join(list, list))
	if err != nil || len(lists) != 2 {
		t.Fatalf("%+v, error %v", lists, err)
	}
	l := lists[1]
	if l.Type != efi.CertSHA256 || len(l.Signatures) != 2 || l.Signatures[1].Owner != efi.GlobalVariable || !bytes.Equal(l.Signatures[1].Data, bytes.Repeat([]byte{2}, 32)) {
		t.Errorf("%+v", l)
	}
	if lists, err := efi.ParseSignatureLists(nil); err != nil || lists != nil {
		t.Errorf("no lists: %v, error %v", lists, err)
	}
	for offset, value := range map[int]uint32{16: 1 << 31, 20: 1 << 31, 24: 15, 28: 0} {
		b := bytes.Clone(list)
		if offset == 28 { // one signature is cut
			b = b[:len(b)-1]
		} else {
			binary.LittleEndian.PutUint32(b[offset:], value)
		}
		if lists, err := efi.ParseSignatureLists(b); err == nil {
			t.Errorf("field at %d is %d: %+v", offset, value, lists)
		}
	}
}

func TestDevicePaths(t *testing.T) {
	file := append(utf16le(`\EFI\A.EFI`), 0, 0)
	for want, path := range map[string]string{
		"":                                  "7fff0400",
		"PciRoot(0x1)":                      "02010c00 d041030a 01000000",
		"PcieRoot(0x0)":                     "02010c00 d041080a 00000000",
		"Acpi(PNP0604,0x0)":                 "02010c00 d0410406 00000000",
		"Pci(0x1f,0x2)":                     "01010600 02 1f",
		"Scsi(0x1,0x2)":                     "03020800 0100 0200",
		"USB(0x1,0x0)":                      "03050600 01 00",
		"Sata(0x0,0xffff,0x0)":              "03120a00 0000 ffff 0000",
		"NVMe(0x1,1122334455667788)":        "03171000 01000000 8877665544332211",
		"MAC(525400123456,0x1)":             "030b2500 525400123456" + strings.Repeat("00", 26) + "01",
		"IPv4(192.168.0.1)":                 "030c1b00 00000000 c0a80001" + strings.Repeat("00", 15),
		"Uri(http://x/)":                    "03180d00 687474703a2f2f782f",
		"eMMC(0x0)":                         "031d0500 00",
		"HD(2,MBR,0x12345678,0x800,0x1000)": "04012a00 02000000 0008000000000000 0010000000000000 78563412" + strings.Repeat("00", 12) + "01 01",
		"HD(1,GPT,8be4df61-93ca-11d2-aa0d-00e098032b8c,0x800,0x1000)": "04012a00 01000000 0008000000000000 0010000000000000" + global + "02 02",
		"Fv(8be4df61-93ca-11d2-aa0d-00e098032b8c)":                    "04071400" + global,
		"FvFile(8be4df61-93ca-11d2-aa0d-00e098032b8c)":                "04061400" + global,
		"VenHw(8be4df61-93ca-11d2-aa0d-00e098032b8c,ab)":              "01041500" + global + "ab",
		"Offset(0xf600,0x207ff)":                                      "04081800 00000000 00f6000000000000 ff07020000000000",
		"BBS(0x2,Disk)":                                               "05010d00 0200 0000 4469736b00",
		"Path(9,9,aabb)":                                              "09090600 aabb",
		"Path(1,1,)":                                                  "01010400",
		"Pci(0x0,0x0)/...":                                            "01010600 0000 0101",
		`Pci(0x0,0x0)/\EFI\A.EFI`:                                     "01010600 0000 04041a00" + hex.EncodeToString(file) + "7fff0400",
		"Pci(0x0,0x0)/,/Pci(0x1,0x0)":                                 "01010600 0000 7f010400 01010600 0001 7fff0400",
		"...":                                                         "01010300",
	} {
		if got := efi.DevicePath(unhex(path)).String(); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := efi.DevicePath(unhex("01010600 0000 04041a00" + hex.EncodeToString(file))).File(); got != `\EFI\A.EFI` {
		t.Errorf("file %s", got)
	}
}

func TestLoadOption(t *testing.T) {
	b := join(unhex("01000000 0600"), utf16le("Ward"), []byte{0, 0}, unhex("01010600 0001"), []byte("optional"))
	o, err := efi.ParseLoadOption(b)
	if err != nil || !o.Active || o.Description != "Ward" || o.Path.String() != "Pci(0x1,0x0)" || string(o.Optional) != "optional" {
		t.Errorf("%+v, error %v", o, err)
	}
	for _, n := range []int{0, 5, 10, 18} {
		if o, err := efi.ParseLoadOption(b[:n]); err == nil {
			t.Errorf("%d bytes: %+v", n, o)
		}
	}
}

func TestImage(t *testing.T) {
	b := join(unhex("00e0c10700000000 0010000000000000 0000000000000000 0600000000000000 01010600 0001"))
	i, err := efi.ParseImage(b)
	if err != nil || i.Size != 0x1000 || i.Path.String() != "Pci(0x1,0x0)" {
		t.Errorf("%+v, error %v", i, err)
	}
	binary.LittleEndian.PutUint64(b[24:], 1<<40)
	if i, err := efi.ParseImage(b); err == nil {
		t.Errorf("%+v", i)
	}
}

func TestBlob(t *testing.T) {
	b := unhex("0000820000000000 00000e0000000000")
	if blob, err := efi.ParseBlob(b, false); err != nil || blob != (efi.Blob{Base: 0x820000, Length: 0xe0000}) {
		t.Errorf("%+v, error %v", blob, err)
	}
	if blob, err := efi.ParseBlob(join([]byte("\x03DXE"), b), true); err != nil || blob.Description != "DXE" || blob.Length != 0xe0000 {
		t.Errorf("%+v, error %v", blob, err)
	}
	for _, bad := range [][]byte{nil, b[:9], append(bytes.Clone(b), 0)} {
		if blob, err := efi.ParseBlob(bad, false); err == nil {
			t.Errorf("%x: %+v", bad, blob)
		}
	}
}

func TestTables(t *testing.T) {
	b := join(unhex("0100000000000000"), unhex(global), make([]byte, 8))
	if tables, err := efi.ParseTables(b, false); err != nil || len(tables) != 1 || tables[0] != efi.GlobalVariable {
		t.Errorf("%v, error %v", tables, err)
	}
	b[7] = 0x80
	if tables, err := efi.ParseTables(b, false); err == nil {
		t.Errorf("%v", tables)
	}
}

func TestPartitionTable(t *testing.T) {
	entry := join(unhex("28732ac1 1ff8 d211 ba4b 00a0c93ec93b"), unhex(global), unhex("0008000000000000 ff27000000000000 0000000000000000"), utf16le("boot"), make([]byte, 64))
	b := join([]byte("EFI PART"), make([]byte, 48), unhex(global), make([]byte, 12), unhex("80000000 00000000 0100000000000000"), entry)
	table, err := efi.ParsePartitionTable(b)
	if err != nil || table.Disk != efi.GlobalVariable || len(table.Partitions) != 1 {
		t.Fatalf("%+v, error %v", table, err)
	}
	if p := table.Partitions[0]; p.Name != "boot" || p.Type.Name() != "EFI system partition" || p.First != 0x800 || p.Last != 0x27ff {
		t.Errorf("%+v", p)
	}
	for offset, value := range map[int]uint32{84: 0, 92: 2, 99: 0x80} {
		bad := bytes.Clone(b)
		binary.LittleEndian.PutUint32(bad[offset:], value)
		if table, err := efi.ParsePartitionTable(bad); err == nil {
			t.Errorf("field at %d is %d: %+v", offset, value, table)
		}
	}
}

// A NUL that some firmware counts to the name is taken off; a name that hides
// more behind a NUL is another name.
func TestVariableNames(t *testing.T) {
	for name, want := range map[string]string{"db": "db", "db\x00": "db", "db\x00?": "db\x00?", "\x00db": "\x00db"} {
		units := utf16le(name)
		b := join(unhex(global), binary.LittleEndian.AppendUint64(nil, uint64(len(units)/2)), binary.LittleEndian.AppendUint64(nil, 1), units, []byte{1})
		if v, err := efi.ParseVariable(b); err != nil || v.Name != want {
			t.Errorf("%q reads as %q, error %v", name, v.Name, err)
		}
		v, rest, err := efi.CutVariable(append(b, 7, 8))
		if err != nil || v.Name != want || !bytes.Equal(rest, []byte{7, 8}) {
			t.Errorf("%q and two bytes: %q, rest %x, error %v", name, v.Name, rest, err)
		}
		if v, err := efi.ParseVariable(append(b, 7)); err == nil {
			t.Errorf("a byte behind %q passes: %+v", name, v)
		}
	}
}
