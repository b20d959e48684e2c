package ima_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
)

type bothOrders interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// templates are one record of each kind and what a decoder must make of it.
func templates(order binary.AppendByteOrder) []struct {
	name   string
	record record
	want   ima.Entry
} {
	sum20, sum32 := digest(0xa1, 20), digest(0xb2, 32)
	sig, appended := []byte{3, 2, 4, 0xaa}, []byte{0x30, 0x82}
	sha256 := ima.FileDigest{Algorithm: "sha256", Digest: sum32}
	verity := ima.FileDigest{Algorithm: "sha256", Digest: sum32, Verity: true}
	return []struct {
		name   string
		record record
		want   ima.Entry
	}{
		{"ima", legacy(sum20, "/sbin/init"), ima.Entry{Template: "ima", Path: "/sbin/init", Digest: ima.FileDigest{Algorithm: "sha1", Digest: sum20}}},
		{"ima-ng", measured("ima-ng", "sha256", sum32, "/usr/bin/a"), ima.Entry{Template: "ima-ng", Path: "/usr/bin/a", Digest: sha256}},
		{"ima-ng of another algorithm", measured("ima-ng", "rmd160", sum20, "/a"), ima.Entry{Template: "ima-ng", Path: "/a", Digest: ima.FileDigest{Algorithm: "rmd160", Digest: sum20}}},
		{"ima-ngv2", measured("ima-ngv2", "verity:sha256", sum32, "/v"), ima.Entry{Template: "ima-ngv2", Path: "/v", Digest: verity}},
		{"ima-ngv2 without fs-verity", measured("ima-ngv2", "ima:sha256", sum32, "/v"), ima.Entry{Template: "ima-ngv2", Path: "/v", Digest: sha256}},
		{"ima-sig", measured("ima-sig", "sha256", sum32, "/s", sig), ima.Entry{Template: "ima-sig", Path: "/s", Digest: sha256, Signature: sig}},
		{"ima-sig without signature", measured("ima-sig", "sha256", sum32, "/s", nil), ima.Entry{Template: "ima-sig", Path: "/s", Digest: sha256}},
		{"ima-sigv2", measured("ima-sigv2", "verity:sha256", sum32, "/s", sig), ima.Entry{Template: "ima-sigv2", Path: "/s", Digest: verity, Signature: sig}},
		{"ima-buf", measured("ima-buf", "sha256", sum32, "kernel_version", []byte("6.1.0")), ima.Entry{Template: "ima-buf", Path: "kernel_version", Digest: sha256, Buffer: []byte("6.1.0")}},
		{"ima-modsig", modsig(sum32, "/m.ko", sig, appended), ima.Entry{Template: "ima-modsig", Path: "/m.ko", Digest: sha256, Signature: sig, ModSignature: appended}},
		{"evm-sig", evmsig(order), ima.Entry{Template: "evm-sig", Path: "/etc/x", Digest: ima.FileDigest{Algorithm: "sha256", Digest: digest(7, 32)}}},
		{"format string of the old fields", record{template: "d|n", fields: [][]byte{sum20, []byte("/s\x00")}, shown: []string{hex.EncodeToString(sum20), "/s"}},
			ima.Entry{Template: "d|n", Path: "/s", Digest: ima.FileDigest{Algorithm: "sha1", Digest: sum20}}},
		{"format string with a buffer", measured("d-ngv2|n-ng|buf", "verity:sha256", sum32, "/s", []byte("b")), ima.Entry{Template: "d-ngv2|n-ng|buf", Path: "/s", Digest: verity, Buffer: []byte("b")}},
		{"format string that begins with the name", record{template: "n-ng|d-ng|iuid", fields: [][]byte{[]byte("/s\x00"), append([]byte("sha256:\x00"), sum32...), order.AppendUint32(nil, 900)}, shown: []string{"/s", "sha256:" + hex.EncodeToString(sum32), "900"}},
			ima.Entry{Template: "n-ng|d-ng|iuid", Path: "/s", Digest: sha256}},
		{"format string", measured("d-ng|n-ng|sig", "sha256", sum32, "/s", sig), ima.Entry{Template: "d-ng|n-ng|sig", Path: "/s", Digest: sha256, Signature: sig}},
	}
}

// Verifies: SR-004
func TestTemplates(t *testing.T) {
	for _, form := range []struct {
		name  string
		order bothOrders
		write func(binary.AppendByteOrder, ...record) []byte
	}{
		{"binary", binary.LittleEndian, binaryList},
		{"binary of a big-endian host", binary.BigEndian, binaryList},
		{"ascii", binary.LittleEndian, asciiList},
		{"ascii of a big-endian host", binary.BigEndian, asciiList},
	} {
		for _, c := range templates(form.order) {
			t.Run(form.name+"/"+c.name, func(t *testing.T) {
				entries := decodeAll(t, form.write(form.order, c.record, c.record))
				if len(entries) != 2 {
					t.Fatalf("%d entries, want 2", len(entries))
				}
				e := entries[1]
				if e.Index != 1 || e.PCR != 10 || e.Template != c.want.Template || e.Path != c.want.Path || e.Violation {
					t.Errorf("got %+v, want %+v", e, c.want)
				}
				if e.Digest.Algorithm != c.want.Digest.Algorithm || !bytes.Equal(e.Digest.Digest, c.want.Digest.Digest) || e.Digest.Verity != c.want.Digest.Verity {
					t.Errorf("digest %v, want %v", e.Digest, c.want.Digest)
				}
				if !bytes.Equal(e.Signature, c.want.Signature) || !bytes.Equal(e.ModSignature, c.want.ModSignature) || !bytes.Equal(e.Buffer, c.want.Buffer) {
					t.Errorf("signature %x, appended %x, buffer %x", e.Signature, e.ModSignature, e.Buffer)
				}
				if want := c.record.hashed(form.order); !bytes.Equal(e.Data, want) {
					t.Errorf("template data\n%x, want\n%x", e.Data, want)
				}
				if !e.Rehashes() {
					t.Error("does not rehash")
				}
				if want := pcr.SHA256.Sum(c.record.hashed(form.order)); !bytes.Equal(e.Extension(pcr.SHA256), want) {
					t.Errorf("extension %s, want %s", e.Extension(pcr.SHA256), want)
				}
			})
		}
	}
}

// Lines that kernels wrote and that were published; their template hashes are
// the kernel's own.
//
// Verifies: SR-004
func TestPublishedLines(t *testing.T) {
	list := text(
		"10 7971593a7ad22a7cce5b234e4bc5d71b04696af4 ima b5a166c10d153b7cc3e5b4f1eab1f71672b7c524 boot_aggregate",
		"10 49ab61dd97ea2f759edcb6c6a3387ac67f0aa576 ima-buf sha256:0c907aab3261194f16b0c2a422a82f145bc9b9ecb8fdb633fa43e3e5379f0af2 kernel_version 372e312e302d7263312b",
		"10 694277487b9753db78446192231b59b7be7c03ad ima-ng sha256:f2ca1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2 /root/test-dir/d/test-file",
		"10 204004cc472d826c599a7d5517284df006d6ac5c ima-ng sha256:a6ef4c60f89141ea82ebf851fa2f92f1d27520764c902570fbf7a77ee80295e6 /var/lib/logrotate/status",
		"10 5426cf3031a43f5bfca183d79950698a95a728f6 ima-sig sha256:f1125b940480d20ad841d26d5ea253edc0704b5ec1548c891edf212cb1a9365e /lib/modules/5.4.48-openpower1/kernel/drivers/usb/common/usb-common.ko ",
		"10 5426cf3031a43f5bfca183d79950698a95a728f6 ima-sig sha256:f1125b940480d20ad841d26d5ea253edc0704b5ec1548c891edf212cb1a9365e /lib/modules/5.4.48-openpower1/kernel/drivers/usb/common/usb-common.ko",
	)
	entries := decodeAll(t, list)
	if len(entries) != 6 {
		t.Fatalf("%d entries, want 6", len(entries))
	}
	for _, e := range entries {
		if !e.Rehashes() {
			t.Errorf("entry %d, %s %s: template data do not give the kernel's hash", e.Index, e.Template, e.Path)
		}
	}
	if !entries[0].IsBootAggregate() || string(entries[1].Buffer) != "7.1.0-rc1+" {
		t.Errorf("got %+v", entries[:2])
	}
}

// Pitfall 5 of attestation: the list shows a zero hash, the PCR was extended
// with all ones.
//
// Verifies: SR-004
func TestPitfall5ViolationExtendsAllOnes(t *testing.T) {
	r := measured("ima-ng", "sha256", make([]byte, 32), "/var/log/x")
	r.violation = true
	for name, list := range map[string][]byte{
		"binary": binaryList(binary.LittleEndian, r),
		"ascii":  asciiList(binary.LittleEndian, r),
	} {
		t.Run(name, func(t *testing.T) {
			e := decodeAll(t, list)[0]
			if !e.Violation || e.Path != "/var/log/x" || !e.Rehashes() {
				t.Errorf("got %+v", e)
			}
			for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512} {
				if want := pcr.AllOnes(a); !bytes.Equal(e.Extension(a), want) {
					t.Errorf("%s: extension %s, want %s", a, e.Extension(a), want)
				}
				replay, err := ima.NewReplay(a)
				if err != nil {
					t.Fatal(err)
				}
				if err := replay.Add(e); err != nil {
					t.Fatal(err)
				}
				want := a.Sum(append(make([]byte, a.Size()), pcr.AllOnes(a)...))
				if !bytes.Equal(replay.Value(), want) || replay.Violations() != 1 || replay.Entries() != 1 {
					t.Errorf("%s: PCR %s, want %s", a, replay.Value(), want)
				}
			}
		})
	}
}

// Pitfall 6 of attestation: the list has the SHA-1 hash, the other banks were
// extended with their own hash of the template data, and the template ima pads
// the name to 256 bytes.
//
// Verifies: SR-004
func TestPitfall6BanksHashTheTemplateData(t *testing.T) {
	records := []record{
		legacy(digest(1, 20), "boot_aggregate"),
		measured("ima-ng", "sha256", digest(2, 32), "/usr/bin/a"),
		measured("ima-sig", "sha256", digest(3, 32), "/usr/bin/b", []byte{3, 2}),
	}
	entries := decodeAll(t, binaryList(binary.LittleEndian, records...))
	for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		want := make(pcr.Digest, a.Size())
		replay, err := ima.NewReplay(a)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range records {
			want = a.Sum(append(want, a.Sum(r.hashed(binary.LittleEndian))...))
			if err := replay.Add(entries[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(replay.Value(), want) {
			t.Errorf("%s: PCR 10 %s, want %s", a, replay.Value(), want)
		}
	}
}

// Kernels with a list file for each bank write that bank's hash.
func TestListOfAnotherBank(t *testing.T) {
	r := measured("ima-ng", "sha256", digest(2, 32), "/usr/bin/a")
	for _, a := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		data := r.hashed(binary.LittleEndian)
		hash := a.Sum(data)
		list := binary.LittleEndian.AppendUint32(nil, 10)
		list = append(list, hash...)
		list = append(binary.LittleEndian.AppendUint32(list, 6), "ima-ng"...)
		list = append(binary.LittleEndian.AppendUint32(list, uint32(len(data))), data...)
		e := decodeAll(t, list)[0]
		if e.Path != "/usr/bin/a" || !bytes.Equal(e.TemplateHash, hash) || !e.Rehashes() || !bytes.Equal(e.Extension(pcr.SHA256), pcr.SHA256.Sum(data)) {
			t.Errorf("%s: got %+v", a, e)
		}
	}
}

func TestChangedDataDoNotRehash(t *testing.T) {
	list := binaryList(binary.LittleEndian, measured("ima-ng", "sha256", digest(2, 32), "/usr/bin/a"))
	list[len(list)-2] = 'b'
	if e := decodeAll(t, list)[0]; e.Path != "/usr/bin/b" || e.Rehashes() {
		t.Errorf("got %+v", e)
	}
}

func TestReplayOfAnotherRegister(t *testing.T) {
	r := measured("ima-ng", "sha256", digest(2, 32), "/usr/bin/a")
	r.number = 11
	replay, err := ima.NewReplay(pcr.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := replay.Add(decodeAll(t, asciiList(binary.LittleEndian, r))[0]); err != nil {
		t.Fatal(err)
	}
	if v := replay.Values(); len(v) != 1 || v[11] == nil || !pcr.IsReset(pcr.SHA256, 10, replay.Value()) {
		t.Errorf("values %v, PCR 10 %s", v, replay.Value())
	}
	if _, err := ima.NewReplay(0x27); err == nil {
		t.Error("a bank that cannot be computed was taken")
	}
}

// Pitfall 14 of attestation: SHA-256 over PCR 0 to 9, SHA-1 over 0 to 7.
//
// Verifies: SR-004
func TestPitfall14BootAggregate(t *testing.T) {
	values := pcr.Values{0: digest(1, 32), 8: digest(8, 32), 9: digest(9, 32), 10: digest(10, 32)}
	all := append(bytes.Clone(values[0]), make([]byte, 7*32)...)
	all = append(append(all, values[8]...), values[9]...)
	if got, want := ima.BootAggregate(pcr.SHA256, values), pcr.SHA256.Sum(all); !bytes.Equal(got, want) {
		t.Errorf("sha256: %s, want %s", got, want)
	}
	short := pcr.Values{0: digest(1, 20), 8: digest(8, 20)}
	if got, want := ima.BootAggregate(pcr.SHA1, short), pcr.SHA1.Sum(append(digest(1, 20), make([]byte, 7*20)...)); !bytes.Equal(got, want) {
		t.Errorf("sha1: %s, want %s", got, want)
	}
	if got, want := ima.BootAggregate(pcr.SM3256, nil), pcr.SM3256.Sum(make([]byte, 10*32)); !bytes.Equal(got, want) {
		t.Errorf("sm3-256: %s, want %s", got, want)
	}
	if ima.BootAggregate(0x27, nil) != nil {
		t.Error("a bank that cannot be computed has an aggregate")
	}
}

func TestEmptyList(t *testing.T) {
	if entries := decodeAll(t, nil); len(entries) != 0 {
		t.Errorf("got %v", entries)
	}
}

func TestNotAList(t *testing.T) {
	for name, input := range map[string]string{
		"text":        "hello, this is no list at all and never was",
		"json":        `{"events":1}`,
		"large PCR":   "\x63\x00\x00\x00" + strings.Repeat("\x01", 60),
		"zeros":       strings.Repeat("\x00", 100),
		"three bytes": "\x0a\x00\x00",
		"name":        "\x0a\x00\x00\x00" + strings.Repeat("\x01", 20) + "\x03\x00\x00\x00\x01\x02\x03",
	} {
		if _, err := ima.NewDecoder(strings.NewReader(input)); !errors.Is(err, ima.ErrFormat) {
			t.Errorf("%s: error %v, want ErrFormat", name, err)
		}
	}
}

// A list that was cut anywhere is said to be, with the entries before the cut.
//
// Verifies: SR-004, SR-007
func TestTruncatedList(t *testing.T) {
	records := []record{
		legacy(digest(1, 20), "boot_aggregate"),
		measured("ima-ng", "sha256", digest(2, 32), "/usr/bin/a"),
		measured("ima-sig", "sha256", digest(3, 32), "/usr/bin/b", []byte{3, 2}),
	}
	for name, write := range map[string]func(binary.AppendByteOrder, ...record) []byte{"binary": binaryList, "ascii": asciiList} {
		ends := map[int]int{0: 0} // offset: entries before it
		for i := range records {
			ends[len(write(binary.LittleEndian, records[:i+1]...))] = i + 1
		}
		list := write(binary.LittleEndian, records...)
		whole := 0
		for cut := range len(list) {
			if cut < 4 {
				continue // too short to tell a list by
			}
			if n, ok := ends[cut]; ok {
				whole = n
			}
			entries, err := decode(t, bytes.NewReader(list[:cut]))
			var truncated *ima.TruncatedError
			_, clean := ends[cut]
			// A line that lacks its end alone is still whole.
			_, noEnd := ends[cut+1]
			noEnd = noEnd && name == "ascii"
			switch {
			case clean || noEnd:
				if err != nil {
					t.Errorf("%s cut at %d: %v", name, cut, err)
				}
			case !errors.As(err, &truncated) || truncated.Index != whole:
				t.Errorf("%s cut at %d: error %v, want one that entry %d is cut", name, cut, err, whole)
			case len(entries) != whole:
				t.Errorf("%s cut at %d: %d entries, want %d", name, cut, len(entries), whole)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	good := measured("ima-ng", "sha256", digest(2, 32), "/usr/bin/a")
	le := binary.LittleEndian
	bin := binaryList(le, good)
	with := func(offset int, value uint32) []byte {
		second := bytes.Clone(bin)
		le.PutUint32(second[offset:], value)
		return append(bytes.Clone(bin), second...)
	}
	line := func(s string) []byte { return append(asciiList(le, good), s+"\n"...) }
	hash := strings.Repeat("ab", 20)
	for name, list := range map[string][]byte{
		"PCR 24":                     with(0, 24),
		"name of no bytes":           with(24, 0),
		"name of 4 GiB":              with(24, 1<<32-1),
		"data of 4 GiB":              with(34, 1<<32-1),
		"field beyond the data":      with(38, 1000),
		"field that is too short":    with(38, 7),
		"ascii no PCR":               line("x"),
		"ascii PCR 24":               line("24 " + hash + " ima-ng sha256:00 /a"),
		"ascii hash too short":       line("10 abcd ima-ng sha256:00 /a"),
		"ascii hash not hexadecimal": line("10 " + strings.Repeat("xy", 20) + " ima-ng sha256:00 /a"),
		"ascii unknown template":     line("10 " + hash + " unknown sha256:00 /a"),
		"ascii no fields":            line("10 " + hash + " ima-ng"),
		"ascii no name":              line("10 " + hash + " ima-ng sha256:00"),
		"ascii no algorithm":         line("10 " + hash + " ima-ng 00 /a"),
		"ascii too many fields":      line("10 " + hash + " ima-sig sha256:00 /a 00 00"),
		"ascii odd signature":        line("10 " + hash + " ima-sig sha256:00 /a 0"),
		"ascii short legacy digest":  line("10 " + hash + " ima abcd /a"),
		"ascii empty line":           line(""),
	} {
		entries, err := decode(t, bytes.NewReader(list))
		var malformed *ima.MalformedError
		if !errors.As(err, &malformed) || malformed.Index != 1 || len(entries) != 1 {
			t.Errorf("%s: %d entries, error %v, want one about entry 1", name, len(entries), err)
		}
	}
}

// The ASCII list does not mark the end of a name: one with a newline ends its
// line, and what stands behind it can look like entries. The entry before does not
// rehash, so that none of it passes for measured; the binary list holds the name.
//
// Verifies: SR-004
func TestNameWithANewline(t *testing.T) {
	forged := asciiList(binary.LittleEndian, measured("ima-ng", "sha256", digest(9, 32), "/sbin/forged"))
	name := "/tmp/a\n" + strings.TrimSuffix(string(forged), "\n")
	honest := []record{measured("ima-ng", "sha256", digest(2, 32), name), measured("ima-ng", "sha256", digest(3, 32), "/usr/bin/b")}
	if e := decodeAll(t, binaryList(binary.LittleEndian, honest...)); len(e) != 2 || e[0].Path != name || !e[0].Rehashes() {
		t.Errorf("binary: %+v", e)
	}
	entries := decodeAll(t, asciiList(binary.LittleEndian, honest...))
	if len(entries) != 3 || entries[0].Path != "/tmp/a" || entries[0].Rehashes() {
		t.Errorf("ascii: %+v", entries)
	}
}

// A template of a later kernel can be replayed though its fields are unknown.
func TestUnknownTemplate(t *testing.T) {
	r := measured("ima-future", "sha256", digest(2, 32), "/usr/bin/a")
	e := decodeAll(t, binaryList(binary.LittleEndian, r))[0]
	if e.Template != "ima-future" || e.Path != "" || !e.Rehashes() {
		t.Errorf("got %+v", e)
	}
}

func TestReadingInPieces(t *testing.T) {
	var records []record
	for _, c := range templates(binary.LittleEndian) {
		records = append(records, c.record)
	}
	records = append(records, measured("ima-buf", "sha256", digest(2, 32), "large", digest(5, 200<<10)))
	for name, write := range map[string]func(binary.AppendByteOrder, ...record) []byte{"binary": binaryList, "ascii": asciiList} {
		list := write(binary.LittleEndian, records...)
		want := decodeAll(t, list)
		for _, r := range []io.Reader{iotest.HalfReader(bytes.NewReader(list)), iotest.OneByteReader(bytes.NewReader(list)), iotest.DataErrReader(bytes.NewReader(list))} {
			got, err := decode(t, r)
			if err != nil || len(got) != len(want) {
				t.Fatalf("%s: %d entries, error %v", name, len(got), err)
			}
			for i := range got {
				if got[i].Path != want[i].Path || !bytes.Equal(got[i].Data, want[i].Data) || got[i].Offset != want[i].Offset {
					t.Errorf("%s: entry %d differs", name, i)
				}
			}
		}
	}
}

func TestReadErrorIsNotTheEnd(t *testing.T) {
	broken := errors.New("broken")
	list := binaryList(binary.LittleEndian, legacy(digest(1, 20), "boot_aggregate"))
	for _, cut := range []int{0, 30, len(list)} {
		d, err := ima.NewDecoder(io.MultiReader(bytes.NewReader(list[:cut]), iotest.ErrReader(broken)))
		if err == nil {
			for err == nil {
				_, err = d.Next()
			}
		}
		if !errors.Is(err, broken) {
			t.Errorf("cut at %d: error %v", cut, err)
		}
	}
}
