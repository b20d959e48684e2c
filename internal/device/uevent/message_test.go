package uevent

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the readings of testdata anew")

// Messages as the kernel sent them (net, tty and block of a Linux 6.18, on being
// asked by sysfs) or as its source makes them (usb, verity) read as they always did.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bin")
	if err != nil || len(files) != 6 {
		t.Fatalf("%d messages, error %v, want 6", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden := strings.TrimSuffix(name, ".bin") + ".json"
		if *update {
			if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || strings.TrimSpace(string(want)) != string(got) {
			t.Errorf("%s reads as %s, want %s, error %v", name, got, want, err)
		}
	}
}

// message makes a datagram of its parts.
func message(parts ...string) []byte { return []byte(strings.Join(parts, "\x00") + "\x00") }

func TestPitfallsOfMessages(t *testing.T) {
	good := []string{"add@/devices/x", "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=net", "SEQNUM=1"}
	if _, err := Parse(message(good...)); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	many := append([]string(nil), good...)
	for i := range MaxValues {
		many = append(many, "K"+strings.Repeat("x", i)+"=")
	}
	for name, b := range map[string][]byte{
		"nothing":               nil,
		"no end":                message(good...)[:len(message(good...))-1],
		"udev's own form":       append([]byte("libudev\x00\xfe\xed\xca\xfe"), make([]byte, 40)...),
		"head alone":            message(good[0]),
		"no head":               message(good[1:]...),
		"relative path":         message("add@devices/x", "ACTION=add", "DEVPATH=devices/x", "SUBSYSTEM=net", "SEQNUM=1"),
		"another action":        message("add@/devices/x", "ACTION=remove", "DEVPATH=/devices/x", "SUBSYSTEM=net", "SEQNUM=1"),
		"another device":        message("add@/devices/x", "ACTION=add", "DEVPATH=/devices/y", "SUBSYSTEM=net", "SEQNUM=1"),
		"a key twice":           message(append(good, "SUBSYSTEM=usb")...),
		"a key without a value": message(append(good, "KEY")...),
		"a value without a key": message(append(good, "=v")...),
		"no number":             message(good[:4]...),
		"a number that is none": message(append(append([]string(nil), good[:4]...), "SEQNUM=-1")...),
		"no subsystem":          message(good[0], good[1], good[2], good[4]),
		"too many variables":    message(many...),
		"too long":              message(append(good, "K="+strings.Repeat("x", MaxSize))...),
	} {
		if m, err := Parse(b); err == nil {
			t.Errorf("%s reads as %+v", name, m)
		}
	}
}

func TestVerity(t *testing.T) {
	for value, want := range map[string]Verity{"0,17": {false, 17}, "1,0": {true, 0}, "0,18446744073709551615": {false, 1<<64 - 1}} {
		if got, ok := (Message{Values: map[string]string{"DM_VERITY_ERR_BLOCK_NR": value}}).Verity(); !ok || got != want {
			t.Errorf("%s: %+v %v", value, got, ok)
		}
	}
	for _, value := range []string{"", "17", "2,17", "0,", "0,x", "0,-1", "0,18446744073709551616"} {
		if got, ok := (Message{Values: map[string]string{"DM_VERITY_ERR_BLOCK_NR": value}}).Verity(); ok {
			t.Errorf("%q reads as %+v", value, got)
		}
	}
}

// No bytes make the parser panic, and what it takes is bounded and agrees with itself.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.bin")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		m.Verity()
		u, _ := m.USB(os.DirFS(t.TempDir()))
		if len(m.Values) > MaxValues || m.Values["DEVPATH"] != m.Path || m.Subsystem == "" || u.Class != "" && !hexDigits(u.Class, 2) {
			t.Errorf("read %+v, %+v", m, u)
		}
	})
}
