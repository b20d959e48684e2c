package image

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
)

// readCPIO parses a new ASCII archive: names in order and their entries.
func readCPIO(t *testing.T, b []byte) ([]string, map[string]entry) {
	t.Helper()
	var names []string
	entries := make(map[string]entry)
	for {
		if len(b) < 110 || string(b[:6]) != "070701" {
			t.Fatalf("no header after %q", names)
		}
		var f [13]uint64
		for i := range f {
			v, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			f[i] = v
		}
		nameEnd := 110 + int(f[11])
		name := string(b[110 : nameEnd-1])
		data := (nameEnd + 3) &^ 3
		next := (data + int(f[6]) + 3) &^ 3
		if name == "TRAILER!!!" {
			return names, entries
		}
		if f[2] != 0 || f[3] != 0 || f[5] != 0 {
			t.Errorf("%s: owner or time is not zero", name)
		}
		names = append(names, name)
		entries[name] = entry{mode: uint32(f[1]), data: b[data : data+int(f[6])], major: uint32(f[9]), minor: uint32(f[10])}
		b = b[next:]
	}
}

func TestCPIORoundTrip(t *testing.T) {
	in := map[string]entry{
		"init":        {mode: typeFile | 0o755, data: []byte("program")},
		"dev/console": {mode: typeChar | 0o600, major: 5, minor: 1},
		"a/b/c":       {mode: typeFile | 0o644, data: []byte{}},
		"a-b":         {mode: typeFile | 0o644, data: bytes.Repeat([]byte{1}, 1001)},
		"proc":        {mode: typeDir | 0o755},
	}
	archive, err := writeCPIO(in)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := writeCPIO(in); err != nil || !bytes.Equal(archive, again) {
		t.Errorf("two archives of the same entries differ, error %v", err)
	}
	names, got := readCPIO(t, archive)
	if want := "[a a/b a/b/c a-b dev dev/console init proc]"; fmt.Sprint(names) != want {
		t.Errorf("order %v, want %v", names, want)
	}
	for name, want := range in {
		e := got[name]
		if e.mode != want.mode || !bytes.Equal(e.data, want.data) || e.major != want.major || e.minor != want.minor {
			t.Errorf("%s: got %+v, want %+v", name, e, want)
		}
	}
	if got["a/b"].mode != typeDir|0o755 {
		t.Errorf("directory a/b has mode %o", got["a/b"].mode)
	}
}
