package bootevent_test

import (
	"encoding/binary"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/bootevent"
	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

// in puts an event into a register.
func in(register int, e eventlog.Event) eventlog.Event {
	e.PCR = register
	return e
}

// short is a text behind its length in one byte, its NUL included.
func short(s string) []byte { return append([]byte{byte(len(s) + 1)}, s+"\x00"...) }

func locator(kind uint32, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, kind)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
}

func tag(id uint32, data []byte) []byte { return locator(id, data) }

// manifest is an SP 800-155 event of a form.
func manifest(form int) []byte {
	signature := []string{"", "SP800-155 Event\x00", "SP800-155 Event2", "SP800-155 Event3"}[form]
	b := append([]byte(signature), unhex("79 2b 00 00"+global)...)
	if form > 1 {
		b = slices.Concat(b, short("Maker"), short("Board"), short("1"), short("Firm"), unhex("57 01 00 00"), short("2.7"))
	}
	if form > 2 {
		b = slices.Concat(b, locator(1, []byte("https://rim.example/2.7\x00")), locator(3, append(unhex(shim), utf16le("Cert\x00")...)))
	}
	return b
}

// Each kind of event, all its fields, and what vouches for each: fields marked
// ! are untrusted.
//
// Verifies: SR-003
func TestDecode(t *testing.T) {
	option := append(unhex("01000000"), byte(len(diskPath(`\a.efi`))), 0)
	option = append(append(append(option, utf16le("Ward")...), 0, 0), diskPath(`\a.efi`)...)
	const path = `PciRoot(0x0)/Pci(0x1,0x0)/NVMe(0x1,0000000000000000)/HD(1,GPT,0a6c1f4e-7f52-4a39-9d0e-5741524c4401,0x800,0x30000)/\a.efi`
	const named = `vendor=8be4df61-93ca-11d2-aa0d-00e098032b8c vendorName=global`
	spdm := append([]byte("SPDM Device Sec\x00"), unhex("0100 2000 02000000 01000000 00")...)
	for _, c := range []struct {
		name  string
		event eventlog.Event
		want  string
	}{
		{"switch", made(7, eventlog.EVEFIVariableConfig, variable(global, "SecureBoot", []byte{1}), nil), `variable whole name=SecureBoot ` + named + ` size=1 value=true`},
		{"switch of no truth value", made(7, eventlog.EVEFIVariableConfig, variable(global, "SecureBoot", []byte{2}), nil), `variable whole name=SecureBoot ` + named + ` size=1`},
		{"configuration whose value alone was measured", made(7, eventlog.EVEFIVariableConfig, variable(global, "SecureBoot", []byte{1}), []byte{1}), `variable elsewhere !name=SecureBoot !` + strings.ReplaceAll(named, " ", " !") + ` !size=1 !value=true`},
		{"order", made(1, eventlog.EVEFIVariableBoot2, variable(global, "BootOrder", []byte{1, 0, 10, 0}), nil), `variable whole name=BootOrder ` + named + ` size=4 order=["0001","000A"]`},
		{"order by its value", made(1, eventlog.EVEFIVariableBoot, variable(global, "BootOrder", []byte{1, 0}), []byte{1, 0}), `variable part !name=BootOrder !` + strings.ReplaceAll(named, " ", " !") + ` size=2 order=["0001"]`},
		{"option", made(1, eventlog.EVEFIVariableBoot2, variable(global, "Boot0001", option), nil), `variable whole name=Boot0001 ` + named + ` size=114 active=true description=Ward path=` + path + ` file=\a.efi optionalSize=0`},
		{"keys", made(7, eventlog.EVEFIVariableConfig, variable(imageSecurity, "dbx", signatureList(sha256List, 48, 1)), nil), `variable whole name=dbx vendor=d719b2cb-3d3a-4596-a3bc-dad00e67656f vendorName=image-security size=76 keys=[{"type":"sha256","digest":"` + strings.Repeat("00", 32) + `","hash":true}]`},
		{"authority", made(7, eventlog.EVEFIVariableAuth, variable(imageSecurity, "db", append(unhex(shim), make([]byte, 32)...)), nil), `authority whole name=db vendor=d719b2cb-3d3a-4596-a3bc-dad00e67656f vendorName=image-security size=48 key={"type":"sha256","owner":"605dab50-e046-4300-abb6-3dd810dd8b23","digest":"` + strings.Repeat("00", 32) + `","hash":true}`},
		{"authority of old shim", made(7, eventlog.EVEFIVariableAuth, append(variable(shim, "Shim", make([]byte, 32)), 0, 0, 0, 0, 0, 9), append(variable(shim, "Shim", make([]byte, 32)), 0, 0, 0, 0, 0)), `authority whole name=Shim vendor=605dab50-e046-4300-abb6-3dd810dd8b23 vendorName=shim size=32 key={"type":"sha256","digest":"` + strings.Repeat("00", 32) + `","hash":true}`},
		{"authority with other bytes behind", made(7, eventlog.EVEFIVariableAuth, append(variable(shim, "Shim", make([]byte, 32)), 0, 0, 1, 0, 0, 9), append(variable(shim, "Shim", make([]byte, 32)), 0, 0, 1, 0, 0)), `bytes elsewhere !size=78 !sha256=` + pcr.SHA256.Sum(append(variable(shim, "Shim", make([]byte, 32)), 0, 0, 1, 0, 0, 9)).String()},
		{"vendor variable", made(1, eventlog.EVEFIVariableConfig, variable(x509List, "Setup", []byte("text")), nil), `variable whole name=Setup vendor=a5c059a1-94e4-4aa7-87b5-ab155c2bf072 vendorName=x509 size=4 text=text`},
		{"SPDM policy", made(7, eventlog.EVEFISPDMPolicy, variable(x509List, "devdb", signatureList(sha256List, 48, 1)), nil), `variable whole name=devdb vendor=a5c059a1-94e4-4aa7-87b5-ab155c2bf072 vendorName=x509 size=76 keys=[{"type":"sha256","digest":"` + strings.Repeat("00", 32) + `","hash":true}]`},
		{"image", made(4, eventlog.EVEFIBootApplication, image(16, diskPath(`\a.efi`)), []byte("PE")), `image elsewhere !path=` + path + ` !file=\a.efi !size=4096 !location=16 !linkTime=0`},
		{"image that hashes to its own label", made(4, eventlog.EVEFIBootApplication, image(16, nil), nil), `image elsewhere !path= !file= !size=4096 !location=16 !linkTime=0`},
		{"firmware", made(0, eventlog.EVEFIFirmwareBlob, blob(1, 2), []byte("FV")), `firmware elsewhere !base=1 !length=2`},
		{"named firmware", made(0, eventlog.EVEFIFirmwareBlob2, append([]byte("\x04DXE\x00"), blob(1, 2)...), []byte("FV")), `firmware elsewhere !base=1 !length=2 !description=DXE`},
		{"POST code by name", made(0, eventlog.EVPostCode, []byte("ACPI DATA"), []byte("x")), `firmware elsewhere !name=ACPI DATA !component=ACPI tables`},
		{"image of Trusted Firmware-A", made(0, eventlog.EVPostCode, []byte("SECURE_RT_EL3\x00"), []byte("BL31")), `firmware elsewhere !name=SECURE_RT_EL3 !component=EL3 runtime firmware (BL31)`},
		{"S-CRTM contents", made(0, eventlog.EVSCRTMContents, []byte("Boot Guard Measured S-CRTM\x00"), []byte("x")), `firmware elsewhere !name=Boot Guard Measured S-CRTM`},
		{"S-CRTM version", made(0, eventlog.EVSCRTMVersion, utf16le("2.7\x00"), nil), `firmware-version whole text=2.7`},
		{"S-CRTM version as GUID", made(0, eventlog.EVSCRTMVersion, unhex(global), nil), `firmware-version whole text=8be4df61-93ca-11d2-aa0d-00e098032b8c`},
		{"H-CRTM", made(0, eventlog.EVEFIHCRTM, []byte("HCRTM"), []byte("x")), `h-crtm elsewhere !name=HCRTM`},
		{"microcode", made(1, eventlog.EVCPUMicrocode, []byte("revision 1\x00"), []byte("x")), `microcode elsewhere !name=revision 1`},
		{"SPDM", made(2, eventlog.EVEFISPDMBlob, spdm, nil), `spdm-device whole signature=SPDM Device Sec version=1 deviceType=1`},
		{"SPDM, second form", made(2, eventlog.EVEFISPDMConfig, slices.Concat([]byte("SPDM Device Sec2"), unhex("0200 05 00 10000000 02000000 00000000")), nil), `spdm-device whole signature=SPDM Device Sec2 version=2 deviceType=2 authentication=5`},
		{"SPDM record", made(0, eventlog.EVNoAction, []byte("NvIndexDynamic \x00\x01"), nil), `spdm-record nothing !name=NvIndexDynamic `},
		{"SPDM cut short", made(2, eventlog.EVEFISPDMBlob, spdm[:20], nil), `bytes whole size=20 sha256=` + pcr.SHA256.Sum(spdm[:20]).String()},
		{"action", made(4, eventlog.EVEFIAction, []byte("Exit"), nil), `action whole text=Exit`},
		{"separator", made(4, eventlog.EVSeparator, make([]byte, 4), nil), `separator whole class=normal !text=4 zero bytes`},
		{"error separator", made(4, eventlog.EVSeparator, []byte("why"), []byte{1, 0, 0, 0}), `separator whole class=error !text=why`},
		{"false separator", made(4, eventlog.EVSeparator, make([]byte, 4), []byte("x")), `separator elsewhere !class=none !text=4 zero bytes`},
		{"GRUB command", in(8, made(8, eventlog.EVIPL, []byte("grub_cmd: set a=b\x00"), []byte("set a=b"))), `command part !label=grub_cmd text=set a=b`},
		{"GRUB command before 2.06", in(8, made(8, eventlog.EVIPL, []byte("grub_cmd set a=b\x00"), []byte("set a=b\x00"))), `command part !label=grub_cmd text=set a=b`},
		{"GRUB's kernel command line", in(8, made(8, eventlog.EVIPL, []byte("kernel_cmdline: /vmlinuz ro\x00"), []byte("/vmlinuz ro"))), `command part !label=kernel_cmdline text=/vmlinuz ro`},
		{"GRUB's module", in(8, made(8, eventlog.EVIPL, []byte("module_cmdline: /m\x00"), []byte("/m"))), `command part !label=module_cmdline text=/m`},
		{"GRUB command by another digest", in(8, made(8, eventlog.EVIPL, []byte("grub_cmd: set a=b\x00"), []byte("set a=c"))), `command elsewhere !label=grub_cmd !text=set a=b`},
		{"GRUB's file", in(9, made(9, eventlog.EVIPL, []byte("(hd0,gpt1)/grub.cfg\x00"), []byte("content"))), `file elsewhere !name=(hd0,gpt1)/grub.cfg`},
		{"variable of shim", in(14, made(14, eventlog.EVIPL, []byte("MokList\x00"), []byte("lists"))), `shim-variable elsewhere !name=MokList`},
		{"section's name", in(11, made(11, eventlog.EVIPL, utf16le(".linux\x00"), []byte(".linux\x00"))), `section whole name=.linux`},
		{"section's content", in(11, made(11, eventlog.EVIPL, utf16le(".linux\x00"), []byte("kernel"))), `section elsewhere !name=.linux`},
		{"systemd-stub's command line", in(12, made(12, eventlog.EVIPL, utf16le("ro quiet\x00"), nil)), `command part !label=kernel_cmdline text=ro quiet`},
		{"old systemd-boot's command line, one byte short", in(8, made(8, eventlog.EVIPL, utf16le("ro quiet\x00")[:17], utf16le("ro quiet\x00"))), `command part !label=kernel_cmdline text=ro quiet`},
		{"credentials", in(12, made(12, eventlog.EVIPL, utf16le("Credentials initrd\x00"), []byte("cpio"))), `initrd elsewhere !name=Credentials initrd`},
		{"system extension", in(13, made(13, eventlog.EVIPL, utf16le("System extension initrd\x00"), []byte("cpio"))), `initrd elsewhere !name=System extension initrd`},
		{"systemd-boot's configuration", in(5, made(5, eventlog.EVEventTag, tag(0xf5bc582a, utf16le("loader.conf\x00")), []byte("timeout 3"))), `tag elsewhere !id=0xf5bc582a !tag=loader configuration !size=24 !text=loader.conf`},
		{"kernel's load options", in(9, made(9, eventlog.EVEventTag, tag(0x8f3b22ed, []byte("LOADED_IMAGE::LoadOptions\x00")), utf16le("ro\x00"))), `tag elsewhere !id=0x8f3b22ed !tag=kernel command line !size=26 !text=LOADED_IMAGE::LoadOptions`},
		{"tag of Windows", in(12, made(12, eventlog.EVEventTag, tag(0x40010001, []byte{1, 2}), nil)), `tag whole id=0x40010001 tag= size=2`},
		{"tag whose data were measured", in(12, made(12, eventlog.EVEventTag, tag(5, []byte("data")), []byte("data"))), `tag part !id=0x00000005 !tag= size=4 text=data`},
		{"U-Boot's kernel", in(8, made(8, eventlog.EVCompactHash, []byte("linux\x00"), []byte("Image"))), `loaded-image elsewhere !name=linux`},
		{"U-Boot's device tree", in(1, made(1, eventlog.EVTableOfDevices, []byte("dts\x00"), []byte("dtb"))), `device-tree elsewhere !name=dts`},
		{"U-Boot's command line", in(1, made(1, eventlog.EVPlatformConfig, []byte("console=ttyS0\x00"), nil)), `command part !label=kernel_cmdline text=console=ttyS0`},
		{"counter of Windows", in(11, made(11, eventlog.EVCompactHash, []byte{0x10, 0, 0, 0}, nil)), `bytes whole size=4 sha256=` + pcr.SHA256.Sum([]byte{0x10, 0, 0, 0}).String()},
		{"header", made(0, eventlog.EVNoAction, []byte("Spec ID Event03\x00...."), nil), `header nothing !signature=Spec ID Event03`},
		{"locality", made(0, eventlog.EVNoAction, []byte("StartupLocality\x00\x03"), nil), `startup-locality nothing !locality=3`},
		{"manifest, first form", made(0, eventlog.EVNoAction, manifest(1), nil), `reference-manifest nothing !form=1 !whole=true !vendor=11129 !guid=8be4df61-93ca-11d2-aa0d-00e098032b8c`},
		{"manifest, second form", made(0, eventlog.EVNoAction, manifest(2), nil), `reference-manifest nothing !form=2 !whole=true !vendor=11129 !guid=8be4df61-93ca-11d2-aa0d-00e098032b8c !platformManufacturer=Maker !platformModel=Board !platformVersion=1 !firmwareManufacturer=Firm !firmwareManufacturerId=343 !firmwareVersion=2.7`},
		{"manifest, third form", made(0, eventlog.EVNoAction, manifest(3), nil), `reference-manifest nothing !form=3 !whole=true !vendor=11129 !guid=8be4df61-93ca-11d2-aa0d-00e098032b8c !platformManufacturer=Maker !platformModel=Board !platformVersion=1 !firmwareManufacturer=Firm !firmwareManufacturerId=343 !firmwareVersion=2.7 !rimLocatorType=1 !rimLocator=https://rim.example/2.7 !platformCertificateLocatorType=3 !platformCertificateLocator=Cert of shim`},
		{"unknown type", made(2, 0x80000099, []byte{1}, nil), `bytes whole size=1 sha256=` + pcr.SHA256.Sum([]byte{1}).String()},
		{"no register", in(99, made(1, eventlog.EVEFIAction, []byte("x"), nil)), `action nothing !text=x`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := bootevent.Decode(c.event)
			if got := flat(t, d); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			text := bootevent.Describe(c.event)
			if trusted := !strings.HasPrefix(text, "untrusted"); trusted != (d.Measured == bootevent.Whole) {
				t.Errorf("measured %s, described %q", d.Measured, text)
			}
		})
	}
}

// flat writes a decoded event's JSON on one line.
func flat(t *testing.T, d bootevent.Decoded) string {
	t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Kind, Measured string
		Fields         []struct {
			Name      string
			Value     json.RawMessage
			Untrusted bool
		}
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	parts := []string{v.Kind, v.Measured}
	for _, f := range v.Fields {
		text := string(f.Value)
		var s string
		if json.Unmarshal(f.Value, &s) == nil {
			text = s
		}
		mark := ""
		if f.Untrusted {
			mark = "!"
		}
		parts = append(parts, mark+f.Name+"="+text)
	}
	return strings.Join(parts, " ")
}

// A manifest that is cut in any place is read as far as it goes, and says so.
func TestCutManifest(t *testing.T) {
	whole := manifest(3)
	for n := len("SP800-155 Event3"); n < len(whole); n++ {
		d := bootevent.Decode(made(0, eventlog.EVNoAction, whole[:n], nil))
		if m, ok := d.Value.(bootevent.Manifest); !ok || m.Whole {
			t.Fatalf("cut at %d: %+v", n, d)
		}
	}
	huge := append(bytesOf(manifest(2), 3), locator(1, nil)...)
	binary.LittleEndian.PutUint32(huge[len(huge)-4:], 1<<32-1)
	if m := bootevent.Decode(made(0, eventlog.EVNoAction, huge, nil)).Value.(bootevent.Manifest); m.Whole {
		t.Errorf("a locator of 4 GiB: %+v", m)
	}
}

// bytesOf makes a manifest of the second form one of another.
func bytesOf(b []byte, form byte) []byte {
	b = slices.Clone(b)
	b[15] = '0' + form
	return b
}

// Keys of every kind of list give the digest that a policy compares.
func TestKeys(t *testing.T) {
	der := append(unhex("30820004"), 1, 2, 3, 4)
	for name, c := range map[string]struct {
		list   efi.GUID
		data   []byte
		digest []byte
		hash   bool
	}{
		"sha256":                       {efi.CertSHA256, slices.Repeat([]byte{7}, 32), slices.Repeat([]byte{7}, 32), true},
		"sha1":                         {efi.CertSHA1, slices.Repeat([]byte{7}, 20), slices.Repeat([]byte{7}, 20), true},
		"sha384":                       {efi.CertSHA384, slices.Repeat([]byte{7}, 48), slices.Repeat([]byte{7}, 48), true},
		"certificate's hash with time": {efi.CertX509SHA256, append(slices.Repeat([]byte{7}, 32), unhex("ea070c1f 17 3b 3a 00 00000000 0000 00 00")...), slices.Repeat([]byte{7}, 32), true},
		"hash cut short":               {efi.CertSHA256, []byte{7}, pcr.SHA256.Sum([]byte{7}), false},
		"certificate":                  {efi.CertX509, der, pcr.SHA256.Sum(der), false},
		"another kind":                 {efi.Shim, []byte("key"), pcr.SHA256.Sum([]byte("key")), false},
	} {
		value := slices.Concat(c.list[:], binary.LittleEndian.AppendUint32(nil, uint32(28+16+len(c.data))), make([]byte, 4), binary.LittleEndian.AppendUint32(nil, uint32(16+len(c.data))), unhex(shim), c.data)
		keys, err := bootevent.Variable{Variable: efi.Variable{Data: value}}.Keys()
		if err != nil || len(keys) != 1 {
			t.Errorf("%s: %v, error %v", name, keys, err)
			continue
		}
		k := keys[0]
		if k.Digest.String() != pcr.Digest(c.digest).String() || k.IsHash != c.hash || k.List != c.list || k.Owner != efi.Shim {
			t.Errorf("%s: %+v", name, k)
		}
		if name == "certificate's hash with time" && k.Revoked.Format("2006-01-02T15:04:05") != "2026-12-31T23:59:58" {
			t.Errorf("%s: revoked %s", name, k.Revoked)
		}
		if _, err := json.Marshal(k); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, data := range map[string][]byte{"nothing": nil, "17 bytes": make([]byte, 17), "an owner": unhex(shim)} {
		if k, ok := (bootevent.Variable{Variable: efi.Variable{Data: data}}).AuthorityKey(); ok {
			t.Errorf("%s: %+v", name, k)
		}
	}
	for name, data := range map[string][]byte{"certificate": der, "certificate with owner": append(unhex(shim), der...), "hash": make([]byte, 32), "hash with owner": append(unhex(shim), make([]byte, 48)...)} {
		if _, ok := (bootevent.Variable{Variable: efi.Variable{Data: data}}).AuthorityKey(); !ok {
			t.Errorf("%s is no authority", name)
		}
	}
}

// A digest of one bank cannot lend its trust to another bank's.
func TestAllBanksMustAgree(t *testing.T) {
	e := made(4, eventlog.EVEFIAction, []byte("Exit"), nil)
	e.Digests[0].Digest = pcr.SHA1.Sum([]byte("else"))
	if d := bootevent.Decode(e); d.Measured != bootevent.Elsewhere {
		t.Errorf("SHA-1 differs: %s", d.Measured)
	}
	e.Digests = e.Digests[1:]
	if d := bootevent.Decode(e); d.Measured != bootevent.Whole {
		t.Errorf("SHA-256 alone: %s", d.Measured)
	}
	e.Digests[0] = eventlog.TaggedDigest{Algorithm: 0x27, Digest: make([]byte, 32)}
	if d := bootevent.Decode(e); d.Measured != bootevent.Nothing {
		t.Errorf("an unknown algorithm alone: %s", d.Measured)
	}
}

// In the logs of real machines every variable, command line and text is vouched
// for in one of the known forms, and no image or firmware ever is.
//
// Verifies: SR-003
func TestMachinesAreVouchedFor(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(captures, "*.bin"))
	if len(files) == 0 {
		t.Fatalf("no captured logs in %s", captures)
	}
	machines, _ := filepath.Glob(filepath.Join(corpus, "*.bin"))
	for _, file := range append(files, machines...) {
		for _, e := range readLog(t, file) {
			d := bootevent.Decode(e)
			vouched := d.Measured >= bootevent.Part
			switch d.Value.(type) {
			case bootevent.Variable, bootevent.Command, bootevent.Separator, bootevent.Partitions:
				if !vouched {
					t.Errorf("%s event %d, %s: measured %s: %s", filepath.Base(file), e.Index, e.Type, d.Measured, d.Describe())
				}
			case bootevent.Image, bootevent.Firmware, bootevent.Header, bootevent.Locality, bootevent.Manifest:
				if vouched {
					t.Errorf("%s event %d, %s: measured %s: %s", filepath.Base(file), e.Index, e.Type, d.Measured, d.Describe())
				}
			case bootevent.Text, bootevent.Bytes:
				if !vouched && e.Type != eventlog.EVPlatformConfig && e.Extends() { // "ACPI DATA" of Google's firmware
					t.Errorf("%s event %d, %s: measured %s: %s", filepath.Base(file), e.Index, e.Type, d.Measured, d.Describe())
				}
			}
		}
	}
}
