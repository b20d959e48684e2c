package profile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"ward/internal/format/pcr"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

var update = flag.Bool("update", false, "rewrite golden files")

const boardName = "qemu-x86_64"

// capture is the log of the virtual device and the registers of its TPM.
func capture(t testing.TB) ([]byte, pcr.Values) {
	t.Helper()
	const dir = "../../format/eventlog/testdata/"
	log, err := os.ReadFile(dir + "qemu-x86_64.bin")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dir + "qemu-x86_64.pcrs.json")
	if err != nil {
		t.Fatal(err)
	}
	var banks map[string]pcr.Values
	if err := json.Unmarshal(text, &banks); err != nil {
		t.Fatal(err)
	}
	return log, banks["sha256"]
}

// rules judge what the virtual device's board judges.
func rules() map[int]profile.Rule {
	rules := make(map[int]profile.Rule)
	for _, n := range []int{0, 2, 3, 4, 6, 7, 8, 9, 11, 12, 14} {
		rules[n] = profile.Rule{Mode: release.Exact}
	}
	return rules
}

func learned(t testing.TB, log []byte, measured pcr.Values) profile.Profile {
	t.Helper()
	p, err := profile.Learn(profile.Golden{Log: parse(t, log), PCRs: measured, Board: boardName, Firmware: "OVMF"}, rules())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// golden is the profile of the capture.
func golden(t testing.TB) profile.Profile {
	t.Helper()
	log, measured := capture(t)
	return learned(t, log, measured)
}

func encode(t testing.TB, p profile.Profile) []byte {
	t.Helper()
	b, err := profile.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenProfile(t *testing.T) {
	const name = "testdata/profile.v1.json"
	p := golden(t)
	for n := range p.PCRs {
		if n != 0 && n != 7 && n != 12 {
			delete(p.PCRs, n)
		}
	}
	got := encode(t, p)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs: got\n%s", name, got)
	}
	again, err := profile.Parse(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, again), want) {
		t.Error("read and written, it is another")
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(encode(t, golden(t)))
	for _, tt := range []struct{ name, old, with, says string }{
		{"unknown field", `"board":`, `"novelty": 1, "board":`, `unknown field "novelty"`},
		{"field twice", `"board":`, `"bank": "sha256", "board":`, "stands twice"},
		{"another bank", `"bank": "sha256"`, `"bank": "sha1"`, "bank"},
		{"no board", `"board": "qemu-x86_64"`, `"board": ""`, "board: is missing"},
		{"no firmware", `"firmware": "OVMF"`, `"firmware": ""`, "firmware: is missing"},
		{"firmware left out", `"firmware": "OVMF",`, ``, "firmware's name is missing"},
		{"long firmware", `"OVMF"`, `"` + strings.Repeat("x", 129) + `"`, "firmware"},
		{"escape sequence in the name", `"OVMF"`, `"\u001b[2J"`, "firmware"},
		{"locality 5", `"locality": 0`, `"locality": 5`, "locality"},
		{"another locality", `"locality": 0`, `"locality": 3`, "pcrs.0: value"},
		{"boot phase before the log", `"bootPhase": 19`, `"bootPhase": -1`, "bootPhase"},
		{"register 24", `"8": {`, `"24": {`, "pcrs.24"},
		{"another value", `"value": "62852b`, `"value": "72852b`, "pcrs.0: value"},
		{"another event", `"digest": "96a296`, `"digest": "06a296`, "pcrs.0: value"},
		{"short digest", `"digest": "96a2`, `"digest": "`, "digest"},
		{"event without type", `"type": "EV_S_CRTM_VERSION"`, `"type": ""`, "type"},
		{"event before the log", `"index": 1,`, `"index": -2,`, "index"},
		{"data of another event", `"data": "Yd`, `"data": "Zd`, "do not hash"},
		{"data that are no base64", `"data": "Yd`, `"data": "!!`, "illegal base64"},
		{"cut", good[len(good)/2:], "", "parse JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("%q is not there", tt.old)
			}
			_, err := profile.Parse([]byte(strings.Replace(good, tt.old, tt.with, 1)))
			if !errors.Is(err, profile.ErrProfile) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("error %v, want %v with %q", err, profile.ErrProfile, tt.says)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %q", err)
			}
		})
	}
	if _, err := profile.Parse([]byte(strings.Replace(good, `"schema": 1`, `"schema": 2`, 1))); !errors.Is(err, profile.ErrSchema) {
		t.Errorf("schema 2: %v", err)
	}
	p := golden(t)
	p.Schema = 2
	if _, err := profile.Encode(p); !errors.Is(err, profile.ErrSchema) {
		t.Errorf("schema 2 is written: %v", err)
	}
	if _, err := profile.Parse(make([]byte, profile.MaxSize+1)); !errors.Is(err, profile.ErrProfile) {
		t.Errorf("beyond the bound: %v", err)
	}
}

// What can be read has one meaning: written and read again, it is the same.
func FuzzParse(f *testing.F) {
	good := encode(f, golden(f))
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"schema":1,"firmware":"f"}`))
	f.Add([]byte(`{"schema":1,"board":"b","firmware":"f","bank":"sha256","locality":0,"bootPhase":0,"pcrs":{"8":{"value":"` + strings.Repeat("00", 32) + `"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := profile.Parse(b)
		if err != nil {
			if !errors.Is(err, profile.ErrProfile) && !errors.Is(err, profile.ErrSchema) {
				t.Fatalf("error %v", err)
			}
			return
		}
		text := encode(t, p)
		again, err := profile.Parse(text)
		if err != nil || !bytes.Equal(encode(t, again), text) {
			t.Fatalf("%q has two meanings: %v", b, err)
		}
	})
}
