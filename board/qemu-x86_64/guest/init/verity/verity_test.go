package verity

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The bytes of struct dm_ioctl and struct dm_target_spec as
// include/uapi/linux/dm-ioctl.h lays them out on a little-endian machine.
func TestDMTableLayout(t *testing.T) {
	b := dmTable("root", dmTarget{Start: 8, Length: 16, Type: "verity", Params: "1 2 3"})
	le := binary.LittleEndian
	if len(b) != 312+40+8 {
		t.Fatalf("length %d", len(b))
	}
	for _, f := range []struct {
		name   string
		offset int
		want   uint32
	}{
		{"version major", 0, 4},
		{"version minor", 4, 0},
		{"data size", 12, uint32(len(b))},
		{"data start", 16, 312},
		{"target count", 20, 1},
		{"flags", 28, 1},
		{"spec next", 312 + 20, 48},
	} {
		if got := le.Uint32(b[f.offset:]); got != f.want {
			t.Errorf("%s: %d, want %d", f.name, got, f.want)
		}
	}
	if !bytes.HasPrefix(b[48:], []byte("root\x00")) {
		t.Errorf("name %q", b[48:56])
	}
	spec := b[312:]
	if le.Uint64(spec) != 8 || le.Uint64(spec[8:]) != 16 || !bytes.HasPrefix(spec[24:], []byte("verity\x00")) || string(spec[40:48]) != "1 2 3\x00\x00\x00" {
		t.Errorf("target specification %x", spec)
	}
}

func TestDMHeaderKeepsTheEndOfLongNames(t *testing.T) {
	b := dmHeader(strings.Repeat("n", 200), strings.Repeat("u", 200), 0)
	if len(b) != 312 || b[48+127] != 0 || b[176+128] != 0 {
		t.Error("a long name or UUID runs over its field")
	}
}

// _IOWR('\xfd', 3, struct dm_ioctl), as strace shows it for DM_DEV_CREATE.
func TestDMRequest(t *testing.T) {
	if got := dmRequest(dmCmdDevCreate); got != 0xc138fd03 {
		t.Errorf("%#x, want 0xc138fd03", got)
	}
}

func superblock(change func([]byte)) []byte {
	b := make([]byte, 512)
	copy(b, "verity")
	le := binary.LittleEndian
	le.PutUint32(b[8:], 1)
	le.PutUint32(b[12:], 1)
	copy(b[32:], "sha256")
	le.PutUint32(b[64:], 4096)
	le.PutUint32(b[68:], 4096)
	le.PutUint64(b[72:], 100)
	le.PutUint16(b[80:], 2)
	b[88], b[89] = 0xAB, 0xCD
	if change != nil {
		change(b)
	}
	return b
}

func TestVeritySuperblock(t *testing.T) {
	sb, err := readVeritySuperblock(bytes.NewReader(superblock(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := sb.table("1:2", "1:3", "beef"), "1 1:2 1:3 4096 4096 100 1 sha256 beef abcd"; got != want {
		t.Errorf("table %q, want %q", got, want)
	}
	for name, change := range map[string]func([]byte){
		"signature":   func(b []byte) { b[0] = 'x' },
		"version":     func(b []byte) { b[8] = 2 },
		"algorithm":   func(b []byte) { copy(b[32:], "sha1\x00\x00") },
		"block size":  func(b []byte) { b[65] = 0 },
		"data blocks": func(b []byte) { clear(b[72:80]) },
		"salt":        func(b []byte) { b[81] = 0xFF },
	} {
		if _, err := readVeritySuperblock(bytes.NewReader(superblock(change))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := readVeritySuperblock(bytes.NewReader(superblock(nil)[:100])); err == nil {
		t.Error("cut short: no error")
	}
}

func TestParseCmdline(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	got, err := ParseCmdline("console=ttyS0 ward.rootfs=erofs ward.root=r ward.hash=h ward.roothash=" + hash)
	if err != nil || got != (Root{hash, "r", "h", "erofs"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "ward.roothash=", "ward.roothash=" + hash[2:], "ward.roothash=z" + hash[1:]} {
		if _, err := ParseCmdline(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestFindPartition(t *testing.T) {
	class := t.TempDir()
	for name, text := range map[string]string{
		"nvme0n1":   "MAJOR=259\nMINOR=0\nDEVNAME=null\nDEVTYPE=disk\n",
		"nvme0n1p1": "MAJOR=259\nMINOR=1\nDEVNAME=null\nDEVTYPE=partition\nPARTN=1\nPARTNAME=ward-root\n",
	} {
		if err := os.MkdirAll(filepath.Join(class, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(class, name, "uevent"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := findPartition(class, "ward-root")
	if err != nil || p.devno != "259:1" || p.Node != "/dev/null" {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := findPartition(class, "ward"); err == nil {
		t.Error("part of a label: no error")
	}
}
