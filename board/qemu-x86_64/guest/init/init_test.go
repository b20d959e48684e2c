package main

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"ward/internal/lab/control"
)

func TestReadBoundedCutsLongLines(t *testing.T) {
	in := bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 5000)+"\nshort\nlast"), 64)
	for _, want := range []int{lineLimit, len("short"), len("last")} {
		line, _ := readBounded(in)
		if len(line) != want {
			t.Errorf("line of %d bytes, want %d", len(line), want)
		}
	}
}

func TestPutAndGetFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, p := range []*control.Put{
		{Path: path, Mode: 0o640, Data: []byte("one ")},
		{Path: path, Mode: 0o640, Data: []byte("two"), Append: true},
	} {
		if err := putFile(p); err != nil {
			t.Fatal(err)
		}
	}
	var resp control.Response
	if err := getFile(path, &resp); err != nil || string(resp.Stdout) != "one two" {
		t.Errorf("got %q, %v", resp.Stdout, err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st, err)
	}
	if err := getFile(path+"x", &resp); err == nil {
		t.Error("a missing file: no error")
	}
}

func TestIMAPolicyGoesOneRuleAWrite(t *testing.T) {
	node := filepath.Join(t.TempDir(), "policy")
	if err := os.WriteFile(node, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeIMAPolicy("../../ima-policy", node); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(node)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{
		"measure func=BPRM_CHECK\n", "measure func=MMAP_CHECK mask=MAY_EXEC\n", "measure func=MODULE_CHECK\n",
		"measure func=FIRMWARE_CHECK\n", "measure func=KEXEC_KERNEL_CHECK\n", "measure func=KEXEC_INITRAMFS_CHECK\n",
		"measure func=CRITICAL_DATA\n",
	} {
		if !strings.Contains(string(text), rule) {
			t.Errorf("the policy has no rule %q", rule)
		}
	}
	// A program on a tmpfs must be measured.
	for _, magic := range []string{"0x01021994", "0x1021994", "0x858458f6"} {
		if strings.Contains(string(text), magic) {
			t.Errorf("the policy leaves out file system %s", magic)
		}
	}
	if strings.Contains(string(text), "#") {
		t.Error("a comment was written")
	}
}

// What the image ships below /data appears once, and what was changed there stays.
func TestSeed(t *testing.T) {
	from := fstest.MapFS{
		"app":            {Mode: fs.ModeDir | 0o755},
		"app/rinse":      {Data: []byte("program"), Mode: 0o755},
		"app/rinse.conf": {Data: []byte("rate=1"), Mode: 0o644},
	}
	to := t.TempDir()
	for range 2 {
		if err := seed(from, to); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, "app", "rinse.conf"), []byte("rate=9"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(to, "app", "rinse")); err != nil {
		t.Fatal(err)
	}
	if err := seed(from, to); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(to, "app", "rinse"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the program: %v, %v", info, err)
	}
	if b, _ := os.ReadFile(filepath.Join(to, "app", "rinse.conf")); string(b) != "rate=9" {
		t.Errorf("the settings are %q, want what was changed", b)
	}
}
