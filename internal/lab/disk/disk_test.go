package disk

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/lab/efistore"
	"ward/internal/lab/tool"
)

var exampleParts = []Partition{
	{Label: "first", Type: efistore.GlobalVariable, GUID: efistore.ImageSecurity, Size: 3 << 20},
	{Label: "second", Type: efistore.CertX509, GUID: efistore.CertSHA256, Size: 1<<20 + 512},
}

// Both tables parse, their sums are right, and they say the same.
func TestWriteGPT(t *testing.T) {
	parts := append([]Partition{}, exampleParts...)
	size := Layout(parts)
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := WriteGPT(f, size, efistore.GlobalVariable, parts); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(raw)) != size || raw[510] != 0x55 || raw[511] != 0xAA || raw[450] != 0xEE {
		t.Errorf("protective MBR is wrong, or %d bytes instead of %d", len(raw), size)
	}
	le := binary.LittleEndian
	for name, lba := range map[string]uint64{"primary": 1, "backup": uint64(size/sector) - 1} {
		h := bytes.Clone(raw[lba*sector:][:92])
		if string(h[:8]) != "EFI PART" || le.Uint64(h[24:]) != lba {
			t.Errorf("%s: no header at its place", name)
			continue
		}
		sum := le.Uint32(h[16:])
		le.PutUint32(h[16:], 0)
		if crc32.ChecksumIEEE(h) != sum {
			t.Errorf("%s: header sum is wrong", name)
		}
		table := raw[le.Uint64(h[72:])*sector:][:entryCount*entrySize]
		if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
			t.Errorf("%s: table sum is wrong", name)
		}
		for i, p := range parts {
			e := table[i*entrySize:]
			first, last := int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:]))
			if first*sector != p.Start || (last-first+1)*sector != p.Size || !bytes.Equal(e[:16], p.Type[:]) || !bytes.Equal(e[16:32], p.GUID[:]) {
				t.Errorf("%s: entry %d is wrong", name, i)
			}
			if p.Start%(1<<20) != 0 {
				t.Errorf("partition %s begins at %d, not on 1 MiB", p.Label, p.Start)
			}
		}
		if last := le.Uint64(h[48:]); int64(last+1)*sector < parts[1].Start+parts[1].Size {
			t.Errorf("%s: last usable sector %d lies before the end of the last partition", name, last)
		}
	}
}

func TestWriteGPTRefusesLongLabel(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := WriteGPT(f, 4<<20, efistore.GlobalVariable, []Partition{{Label: strings.Repeat("x", 37)}}); err == nil {
		t.Error("no error")
	}
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := tool.Look(p); err != nil {
			t.Skip(err)
		}
	}
}

var exampleFiles = map[string]File{
	"etc/ward/id":  {Data: []byte("device\n"), Mode: 0o600},
	"etc/ward/key": {Data: []byte("key\n")},
	"top":          {Data: []byte("top\n")},
}

// Two runs at different times give the same bytes.
func TestFileSystemsAreReproducible(t *testing.T) {
	need(t, "mke2fs", "debugfs", "mkfs.fat", "mcopy", "mmd")
	dir := t.TempDir()
	const uuid = "0a6c1f4e-7f52-4a39-9d0e-5741524c4414"
	for _, kind := range []struct {
		name string
		make func(image string) error
	}{
		{"fat", func(image string) error { return MakeFAT(t.Context(), image, 40<<20, exampleFiles) }},
		{"ext4", func(image string) error {
			return MakeExt4(t.Context(), image, 8<<20, "x", uuid, Owner{900, 900}, exampleFiles)
		}},
	} {
		var images [2][]byte
		for i := range images {
			path := filepath.Join(dir, kind.name)
			if err := kind.make(path); err != nil {
				t.Fatal(err)
			}
			var err error
			if images[i], err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				time.Sleep(2100 * time.Millisecond) // FAT counts in steps of two seconds
			}
		}
		if !bytes.Equal(images[0], images[1]) {
			t.Errorf("%s: two images of the same files differ", kind.name)
		}
	}
}

func TestExt4FilesHaveTheirOwner(t *testing.T) {
	need(t, "mke2fs", "debugfs")
	image := filepath.Join(t.TempDir(), "image")
	if err := MakeExt4(t.Context(), image, 8<<20, "x", "0a6c1f4e-7f52-4a39-9d0e-5741524c4414", Owner{900, 901}, exampleFiles); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/etc", "/etc/ward", "/etc/ward/id", "/top"} {
		out, err := tool.Run(t.Context(), "debugfs", "-R", "stat "+path, image)
		if err != nil {
			t.Fatal(err)
		}
		if f := strings.Fields(string(out)); !strings.Contains(strings.Join(f, " "), "User: 900 Group: 901") {
			t.Errorf("%s: owner is not 900:901", path)
		}
	}
	out, err := tool.Run(t.Context(), "debugfs", "-R", "cat /etc/ward/id", image)
	if err != nil || string(out) != "device\n" {
		t.Errorf("content %q, %v", out, err)
	}
}

func TestPutAndDeleteFAT(t *testing.T) {
	need(t, "mkfs.fat", "mcopy", "mmd", "mdel")
	image := filepath.Join(t.TempDir(), "image")
	if err := MakeFAT(t.Context(), image, 40<<20, exampleFiles); err != nil {
		t.Fatal(err)
	}
	if err := PutFAT(t.Context(), image, 0, map[string]File{"etc/ward/id": {Data: []byte("other\n")}}); err != nil {
		t.Fatal(err)
	}
	out, err := tool.Run(t.Context(), "mcopy", "-i", image, "::etc/ward/id", "-")
	if err != nil || string(out) != "other\n" {
		t.Errorf("content %q, %v", out, err)
	}
	if err := DeleteFAT(t.Context(), image, 0, "etc/ward/id"); err != nil {
		t.Error(err)
	}
	if err := DeleteFAT(t.Context(), image, 0, "etc/ward/id"); err == nil {
		t.Error("deleting what is not there: no error")
	}
}

func TestCopyRefusesTooLargeImage(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := Copy(out, 0, 4095, image); err == nil {
		t.Error("no error")
	}
}
