package evidence_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ward/internal/alloctest"
	"ward/internal/format/chain"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/posture"
)

// full has every field set.
func full() evidence.Evidence {
	return evidence.Evidence{
		Tenant: "lab", Device: "pump-0001", Boot: "c031c212-00a7-41a2-b926-35b4d7ef8121", Time: time.UnixMilli(1_700_000_000_123).UTC(),
		Nonce: bytes.Repeat([]byte{1}, 32), Record: evidence.Record{Epoch: 2, Sequence: 300, Head: chain.Hash{3}},
		Release: bytes.Repeat([]byte{4}, 32), SBOM: bytes.Repeat([]byte{5}, 32),
		Bank: pcr.SHA256, PCRs: pcr.Values{0: bytes.Repeat([]byte{6}, 32), 10: bytes.Repeat([]byte{7}, 32), 23: make([]byte, 32)},
		BootQuote: evidence.Quote{Attest: []byte("attest"), Signature: []byte("signature")},
		ListQuote: evidence.Quote{Attest: []byte("attest 10"), Signature: []byte("signature 10")},
		PCRError:  "a", QuoteError: "b", EventLogError: "c", UserLogError: "d", IMAError: "not there: e",
		EventLog: []byte("log"), UserLog: []byte("user log"), IMA: []byte("list"),
		From: ima.Checkpoint{Entries: 70000, PCR: bytes.Repeat([]byte{8}, 32)}, IMATruncated: true,
		Posture: []posture.Claim{
			{Name: "boot.secureboot", Absent: true},
			{Name: "kernel.lockdown", Values: []string{"integrity"}},
			{Name: "net.listening", Values: []string{"tcp 0.0.0.0:22 /usr/sbin/sshd", "tcp 127.0.0.1:1883 ?"}, More: 300},
			{Name: "users.login", Error: "permission denied"},
		},
		Running: []byte("components"),
	}
}

// golden is a document as bytes; a change of the format changes the version
// before it changes the file.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; the bytes are\n%s", err, hex.EncodeToString(b))
	}
	if got := hex.EncodeToString(b); got != strings.Join(strings.Fields(string(want)), "") {
		t.Errorf("%s is now\n%s", file, got)
	}
}

func TestGoldenBytes(t *testing.T) {
	for name, e := range map[string]evidence.Evidence{
		"full.hex": full(),
		"none.hex": {},
		"bare.hex": {Tenant: "lab", Device: "pump-0001", EventLogDigest: bytes.Repeat([]byte{9}, 32), IMAError: "not there"},
	} {
		b, err := evidence.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, b)
		again, err := evidence.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, again); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// What breaks a rule is refused by both directions alike.
func TestBounds(t *testing.T) {
	for name, change := range map[string]func(*evidence.Evidence){
		"a long name":             func(e *evidence.Evidence) { e.Device = strings.Repeat("x", 65) },
		"a name for terminals":    func(e *evidence.Evidence) { e.Tenant = "\x1b[2J" },
		"a long boot id":          func(e *evidence.Evidence) { e.Boot = strings.Repeat("x", 65) },
		"a long nonce":            func(e *evidence.Evidence) { e.Nonce = make([]byte, 65) },
		"a short release digest":  func(e *evidence.Evidence) { e.Release = make([]byte, 31) },
		"a long SBOM digest":      func(e *evidence.Evidence) { e.SBOM = make([]byte, 33) },
		"an unknown bank":         func(e *evidence.Evidence) { e.Bank = 0x27 },
		"no such register":        func(e *evidence.Evidence) { e.PCRs = pcr.Values{24: make([]byte, 32)} },
		"a short register":        func(e *evidence.Evidence) { e.PCRs = pcr.Values{4: make([]byte, 20)} },
		"a long quote":            func(e *evidence.Evidence) { e.BootQuote.Attest = make([]byte, 2000) },
		"a long event log":        func(e *evidence.Evidence) { e.EventLog = make([]byte, 1<<20+1) },
		"a long user log":         func(e *evidence.Evidence) { e.UserLog = make([]byte, 1<<20+1) },
		"log and digest":          func(e *evidence.Evidence) { e.EventLogDigest = make([]byte, 32) },
		"a reason of two lines":   func(e *evidence.Evidence) { e.IMAError = "a\nb" },
		"a long reason":           func(e *evidence.Evidence) { e.PCRError = strings.Repeat("x", 513) },
		"a checkpoint of nothing": func(e *evidence.Evidence) { e.From = ima.Checkpoint{PCR: make([]byte, 32)} },
		"too many claims":         func(e *evidence.Evidence) { e.Posture = make([]posture.Claim, posture.MaxRules+1) },
		"claims of 25 KiB":        func(e *evidence.Evidence) { e.Posture = told(60, 1, 400) },
		"a claim of no name":      func(e *evidence.Evidence) { e.Posture[0].Name = "" },
		"a claim's name for more": func(e *evidence.Evidence) { e.Posture[0].Name = "a\nb" },
		"a value for terminals":   func(e *evidence.Evidence) { e.Posture[1].Values[0] = "\x1b[2J" },
		"a long value":            func(e *evidence.Evidence) { e.Posture[1].Values[0] = strings.Repeat("x", 513) },
		"values in disorder":      func(e *evidence.Evidence) { v := e.Posture[2].Values; v[0], v[1] = v[1], v[0] },
		"fewer than no value":     func(e *evidence.Evidence) { e.Posture[2].More = -1 },
		"a claim's long reason":   func(e *evidence.Evidence) { e.Posture[3].Error = strings.Repeat("x", 513) },
		"absent, with a reason":   func(e *evidence.Evidence) { e.Posture[0].Error = "x" },
		"claims in disorder":      func(e *evidence.Evidence) { p := e.Posture; p[0], p[1] = p[1], p[0] },
		"too much that runs":      func(e *evidence.Evidence) { e.Running = make([]byte, evidence.MaxRunning+1) },
		"a checkpoint without":    func(e *evidence.Evidence) { e.From = ima.Checkpoint{Entries: 1} },
	} {
		e := full()
		change(&e)
		if _, err := evidence.Encode(e); err == nil {
			t.Errorf("%s is encoded", name)
		}
	}
}

// A document has one form: every byte that is changed, cut or added is refused or
// read as something else.
//
// Verifies: SR-007
func TestOneForm(t *testing.T) {
	b, err := evidence.Encode(full())
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := evidence.Parse(b[:n]); !errors.Is(err, evidence.ErrMalformed) && !errors.Is(err, evidence.ErrVersion) {
			t.Errorf("cut at %d: %v", n, err)
		}
		changed := bytes.Clone(b)
		changed[n] ^= 1
		if e, err := evidence.Parse(changed); err == nil && cmp.Equal(e, full()) {
			t.Errorf("byte %d does not count", n)
		}
	}
	for name, bad := range map[string]string{
		"nothing":             "",
		"a byte behind":       hex.EncodeToString(b) + "00",
		"indefinite map":      "bf0102ff",
		"a number too long":   "a1011802",
		"keys not sorted":     "a202636c61620102",
		"a key twice":         "a201020102",
		"an unknown key":      "a20102181e01",
		"a tag":               "a101c102",
		"a list":              "8102",
		"an empty text":       "a2010202 60",
		"an empty nonce":      "a2010206 40",
		"no checkpoint":       "a20102128200" + "40",
		"a short head":        "a20102078301024103",
		"an error of nothing": "a201020ea1006161",
		"4 GiB of log":        "a201020f5affffffff",
		"2^63 bytes of list":  "a20102135b7fffffffffffffff",
		"no claims":           "a201021580",
		"nothing runs":        "a201021640",
		"a short claim":       "a201021581816161",
		"a claim of no name":  "a2010215818560 80 00 f4 60",
		"values in disorder":  "a2010215818561 61 82 6162 6161 00 f4 60",
		"a value twice":       "a2010215818561 61 82 6161 6161 00 f4 60",
		"absent and there":    "a2010215818561 61 81 6161 00 f5 60",
		"no list of values":   "a2010215818561 61 f6 00 f4 60",
		"claims in disorder":  "a2010215828561 62 80 00 f4 60 8561 61 80 00 f4 60",
		"a claim twice":       "a2010215828561 61 80 00 f4 60 8561 61 80 00 f4 60",
		"2^32 more":           "a2010215818561 61 80 1b0000000100000000 f4 60",
		"2^60 claims":         "a20102159b1000000000000000",
		"a list in a value":   "a2010215818561 61 81 80 00 f4 60",
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(bad, " ", ""))
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := evidence.Parse(raw); !errors.Is(err, evidence.ErrMalformed) && !errors.Is(err, evidence.ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := evidence.Parse([]byte{0xa1, 1, 1}); !errors.Is(err, evidence.ErrVersion) {
		t.Errorf("version 1: %v", err)
	}
}

// allocationFactor bounds what Parse may allocate for each byte of input: the
// fields, and the document that is encoded anew to compare.
const allocationFactor, allocationFloor = 8, 256 << 10

// Verifies: SR-007
func FuzzParse(f *testing.F) {
	b, err := evidence.Encode(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xa1, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := evidence.Parse(b)
		most := uint64(allocationFloor + allocationFactor*len(b))
		if used := alloctest.Bytes(most, func() { _, _ = evidence.Parse(b) }); used > most {
			t.Errorf("%d bytes of input, %d allocated, at most %d", len(b), used, most)
		}
		if err != nil {
			return
		}
		again, err := evidence.Encode(e)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is encoded again as %x, %v", b, again, err)
		}
	})
}
