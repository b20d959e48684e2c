package release_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"ward/internal/format/dsse"
	"ward/internal/format/pcr"
	"ward/internal/trust/posture"
	"ward/internal/trust/release"
	"ward/internal/trust/secureboot"
	"ward/internal/trust/watch"
)

var update = flag.Bool("update", false, "rewrite golden files")

func repeat(b byte) pcr.Digest { return bytes.Repeat(pcr.Digest{b}, 32) }

func manifest() release.Manifest {
	return release.Manifest{
		Schema: 1, Product: "pump <A&B> ä", Board: "qemu-x86_64", Version: "1.2.3", RollbackIndex: 1<<64 - 1,
		BuildTime: time.Date(2025, 1, 31, 12, 0, 0, 0, time.UTC),
		Boot:      boot(),
		Files:     release.Files{Digest: [32]byte{1, 2, 3}, Path: "/usr/lib/ward/baseline", VerityRootHash: [32]byte{4}},
		Posture: &posture.Policy{EverySeconds: 600, Rules: []posture.Rule{
			{Claim: "kernel.lockdown", Mode: posture.Equal, Values: []string{"integrity"}},
			{Claim: "kernel.cpu-vulnerabilities", Mode: posture.Recorded, Optional: true},
		}},
		Watch: &watch.Policy{
			Scan: watch.Scan{CPUPercent: 20}, Lease: watch.Lease{MaxSeconds: 60}, Ignore: []string{"/var/log"},
			Writers: []watch.Writer{{Program: "/usr/bin/rauc", Paths: []string{"/dev/disk/by-partlabel/root-b"}}},
			USB:     []watch.USB{{Class: "03", Vendor: "046d", When: watch.Service}, {Class: "*", When: watch.Never}},
		},
		SBOM: &release.SBOM{Digest: [32]byte{5}, MediaType: "application/spdx+json", Path: "/usr/lib/ward/sbom.json"},
	}
}

// boot is of a release that accepts two firmware versions, and has one of
// everything.
func boot() release.Boot {
	both := func(first, second byte, events ...release.ReferenceEvent) []release.Value {
		return []release.Value{{Digest: repeat(first), Firmware: "1.0", Events: events}, {Digest: repeat(second), Firmware: "2.0 <b>"}}
	}
	b := release.Boot{
		Bank: "sha256", Firmware: []string{"1.0", "2.0 <b>"},
		PCRs: map[int]release.Reference{
			4: {Mode: release.Exact, Values: both(4, 5,
				release.ReferenceEvent{Type: "EV_EFI_ACTION", Digest: repeat(6), Text: "Calling EFI Application from Boot Option"},
				release.ReferenceEvent{Type: "EV_SEPARATOR", Digest: repeat(7)})},
			0: {Mode: release.Exact, Values: both(0, 1), Reason: "never extended"},
			11: {Mode: release.Exact, Values: both(0, 0),
				UserEvents: []release.ReferenceEvent{{Type: "user", Digest: repeat(8), Text: "enter-initrd"}}},
			1: {Mode: release.Recorded, Reason: "boot variables"},
			5: {Mode: release.Events, Rules: []release.EventRule{
				{Type: "EV_EFI_ACTION", Digests: []pcr.Digest{repeat(9), repeat(10)}, Required: true},
				{Type: "EV_EFI_GPT_EVENT", Any: true},
			}},
		},
		SecureBoot: &secureboot.Policy{Required: true, PK: []pcr.Digest{repeat(1)}, MinimumDBX: []pcr.Digest{repeat(2)}},
	}
	if err := b.Compose([]int{0, 4, 11}); err != nil {
		panic(err)
	}
	return b
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keyring(t testing.TB, keys ...crypto.Signer) *dsse.Keyring {
	t.Helper()
	var publics []crypto.PublicKey
	for _, k := range keys {
		publics = append(publics, k.Public())
	}
	ring, err := dsse.NewKeyring(publics...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func encode(t testing.TB, m release.Manifest) []byte {
	t.Helper()
	b, err := release.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
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
}

// Verifies: SR-006, SR-024
func TestEncodingIsDeterministic(t *testing.T) {
	first := encode(t, manifest())
	golden(t, "manifest.v1.json", first)
	for range 20 {
		if !bytes.Equal(encode(t, manifest()), first) {
			t.Fatal("the same manifest gives other bytes")
		}
	}
	elsewhere := manifest()
	elsewhere.BuildTime = elsewhere.BuildTime.In(time.FixedZone("", 3600))
	if !bytes.Equal(encode(t, elsewhere), first) {
		t.Error("the time zone of the build host shows")
	}
	m, err := release.Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, m), first) {
		t.Error("read and written, it is another")
	}
}

// Verifies: SR-006
func TestOpen(t *testing.T) {
	a, b, stranger := newKey(t), newKey(t), newKey(t)
	envelope, err := release.Sign(manifest(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	v, err := release.Open(envelope, keyring(t, a, b, stranger), 2)
	if err != nil {
		t.Fatal(err)
	}
	want := manifest()
	if !reflect.DeepEqual(v.Manifest(), want) {
		t.Errorf("manifest %+v", v.Manifest())
	}
	if v.Digest() != sha256.Sum256(encode(t, manifest())) || len(v.Signers()) != 2 {
		t.Errorf("digest %x, signers %q", v.Digest(), v.Signers())
	}

	// What a caller does to its copy changes nothing.
	got := v.Manifest()
	delete(got.Boot.PCRs, 4)
	got.Boot.PCRs[0].Values[0].Digest = repeat(9)
	got.Boot.PCRs[5].Rules[0].Digests[0] = repeat(9)
	got.Posture.Rules[0].Values[0], got.Watch.Writers[0].Paths[0], got.SBOM.Path = "x", "/x", "/x"
	got.Boot.Firmware[0], got.Boot.SecureBoot.Required, got.Boot.Composites[0].PCRs[0] = "x", false, 9
	v.Signers()[0] = "x"
	if !reflect.DeepEqual(v.Manifest(), want) || v.Signers()[0] == "x" {
		t.Error("a verified manifest was changed")
	}
}

// Verifies: SR-006, SR-007
func TestOpenRefuses(t *testing.T) {
	a, stranger := newKey(t), newKey(t)
	ring := keyring(t, a)
	good, err := release.Sign(manifest(), a)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(payloadType, payload string) []byte {
		e, err := dsse.Sign(payloadType, []byte(payload), a)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	ofStranger, err := release.Sign(manifest(), stranger)
	if err != nil {
		t.Fatal(err)
	}
	payload := string(encode(t, manifest()))
	unsigned := `{"payload":"` + base64.StdEncoding.EncodeToString([]byte(payload)) + `","payloadType":"` + release.PayloadType + `","signatures":[]}`
	for _, tt := range []struct {
		name     string
		envelope []byte
		keys     *dsse.Keyring
		n        int
		want     error
	}{
		{"unsigned", []byte(unsigned), ring, 1, dsse.ErrSignature},
		{"the payload alone", []byte(payload), ring, 1, dsse.ErrMalformed},
		{"another key", ofStranger, ring, 1, dsse.ErrSignature},
		{"below the threshold", good, keyring(t, a, stranger), 2, dsse.ErrSignature},
		{"no keys", good, nil, 1, dsse.ErrSignature},
		{"cut short", good[:len(good)/2], ring, 1, dsse.ErrMalformed},
		{"empty", nil, ring, 1, dsse.ErrMalformed},
		{"receipt", signed("application/vnd.ward.receipt.v1+json", payload), ring, 1, dsse.ErrPayloadType},
		{"schema 2", signed(release.PayloadType, `{"schema":2,"novelty":true}`), ring, 1, release.ErrSchema},
		{"no schema", signed(release.PayloadType, `{}`), ring, 1, release.ErrManifest},
		{"no object", signed(release.PayloadType, `[]`), ring, 1, release.ErrManifest},
		{"payload cut short", signed(release.PayloadType, payload[:len(payload)/2]), ring, 1, release.ErrManifest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := release.Open(tt.envelope, tt.keys, tt.n)
			if !errors.Is(err, tt.want) || v != nil {
				t.Fatalf("%v, error %v; want %v", v, err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %q", err)
			}
		})
	}
	if _, err := release.Open(good, ring, 0); err == nil {
		t.Error("opened with a threshold of 0")
	}
}

// Verifies: SR-006, SR-007
func TestZeroVerifiedIsUseless(t *testing.T) {
	for _, v := range []*release.Verified{nil, {}} {
		if len(v.Manifest().Boot.PCRs) != 0 || v.Digest() != [32]byte{} || v.Signers() != nil {
			t.Errorf("%+v", v)
		}
	}
}

// Verifies: SR-006
func TestParseRefuses(t *testing.T) {
	good := string(encode(t, manifest()))
	hex32 := strings.Repeat("04", 32)
	for _, tt := range []struct{ name, old, with, says string }{
		{"unknown field", `"product"`, `"novelty":1,"product"`, `unknown field "novelty"`},
		{"unknown field of a register", `"mode":"recorded"`, `"valeus":[],"mode":"recorded"`, `unknown field "boot.pcrs.1.valeus"`},
		{"field in another case", `"product"`, `"Product"`, `unknown field "Product"`},
		{"schema twice", `"schema":1`, `"schema":2,"schema":1`, `"schema" stands twice`},
		{"register twice", `"1":{`, `"4":{"mode":"recorded","reason":"x"},"1":{`, `"boot.pcrs.4" stands twice`},
		{"register twice, spelled otherwise", `"1":{`, `"04":{"mode":"recorded","reason":"x"},"1":{`, "leading zeros"},
		{"key twice in a part", `"everySeconds":`, `"everySeconds":1,"everySeconds":`, "stands twice"},
		{"trailing data", "}\n", "}{}", "after top-level value"},
		{"no product", `"product":"pump <A&B> ä"`, `"product":""`, "product: is missing"},
		{"no board", `"board":"qemu-x86_64",`, ``, "board: is missing"},
		{"no version", `"version":"1.2.3",`, ``, "version: is missing"},
		{"escape sequence in a name", `1.2.3`, `\u001b[2J`, "cannot be printed"},
		{"long version", `1.2.3`, strings.Repeat("1", 129), "at most 128"},
		{"negative rollback index", `18446744073709551615`, `-1`, "rollbackIndex"},
		{"no build time", `"buildTime":"2025-01-31T12:00:00Z",`, ``, "buildTime"},
		{"build time elsewhere", `12:00:00Z`, `12:00:00+01:00`, "buildTime"},
		{"build time in nanoseconds", `12:00:00Z`, `12:00:00.5Z`, "buildTime"},
		{"another bank", `"bank":"sha256"`, `"bank":"sha1"`, `boot.bank: "sha1"`},
		{"register 24", `"11":{`, `"24":{`, "boot.pcrs.24: want 0 to 23"},
		{"register -1", `"11":{`, `"-1":{`, "boot.pcrs.-1"},
		{"unknown mode", `"mode":"recorded"`, `"mode":"ignored"`, `"ignored"`},
		{"no mode", `"mode":"recorded",`, ``, "boot.pcrs.1: mode"},
		{"recorded without reason", `,"reason":"boot variables"`, ``, "boot.pcrs.1: reason"},
		{"recorded with a value", `"mode":"recorded"`, `"mode":"recorded","values":[{"digest":"` + hex32 + `","firmware":"1.0"}]`, "boot.pcrs.1: values"},
		{"recorded with events of user space", `"mode":"recorded"`, `"mode":"recorded","userEvents":[{"type":"user","digest":"` + hex32 + `"}]`, "boot.pcrs.1: userEvents"},
		{"recorded with rules", `"mode":"recorded"`, `"mode":"recorded","rules":[{"type":"x","any":true}]`, "boot.pcrs.1: rules"},
		{"exact with rules", `"mode":"exact"`, `"mode":"exact","rules":[{"type":"x","any":true}]`, "boot.pcrs.0: rules"},
		{"value for one of two firmware", `"pcrs":{"0":`, `"pcrs":{"2":{"mode":"exact","values":[{"digest":"` + hex32 + `","firmware":"1.0"}]},"0":`, "boot.pcrs.2: values: 1, want one for each of the 2"},
		{"value of a strange firmware", `"firmware":"1.0"`, `"firmware":"1.1"`, "values[0].firmware"},
		{"no firmware", `"firmware":["1.0","2.0 <b>"]`, `"firmware":[]`, "boot.firmware: 0 names"},
		{"firmware twice", `"firmware":["1.0","2.0 <b>"]`, `"firmware":["1.0","1.0"]`, "stands twice"},
		{"firmware without a name", `"firmware":["1.0","2.0 <b>"]`, `"firmware":["1.0",""]`, "boot.firmware[1]"},
		{"short value", hex32, `0404`, "boot.pcrs.4: values[0].digest: 2 bytes"},
		{"value not hexadecimal", hex32, `zz`, "digest"},
		{"values null", `"mode":"exact","values":[`, `"mode":"exact","rules":null,"values":[`, "null"},
		{"short event digest", strings.Repeat("06", 32), `06`, "boot.pcrs.4: values[0].events[0].digest"},
		{"event without type", `"type":"EV_SEPARATOR",`, ``, "events[1].type"},
		{"line break in an event", `Calling`, `a\nb`, "events[0].text"},
		{"short digest of user space", strings.Repeat("08", 32), `08`, "boot.pcrs.11: userEvents[0].digest"},
		{"rule with digests and any", `"any":true`, `"any":true,"digests":["` + hex32 + `"]`, "boot.pcrs.5: rules[1]"},
		{"rule that allows nothing", `,"any":true`, ``, "boot.pcrs.5: rules[1]"},
		{"rule without type", `"type":"EV_EFI_GPT_EVENT",`, ``, "rules[1].type"},
		{"short digest of a rule", strings.Repeat("09", 32), `09`, "rules[0].digests[0]"},
		{"composite of other values", `"pcrs":[0,4,11]`, `"pcrs":[0,11]`, "boot.composites[0].digest"},
		{"composite of a recorded register", `"pcrs":[0,4,11]`, `"pcrs":[1]`, "PCR 1 has no exact value"},
		{"composite without registers", `"pcrs":[0,4,11]`, `"pcrs":[]`, "composites[0].pcrs"},
		{"composite out of order", `"pcrs":[0,4,11]`, `"pcrs":[4,0,11]`, "ascending"},
		{"composite of a strange firmware", `{"firmware":"1.0","pcrs"`, `{"firmware":"3","pcrs"`, "composites[0]"},
		{"Secure Boot with a key that is none", `"pk":["` + strings.Repeat("01", 32) + `"]`, `"pk":["01"]`, "secureBoot.pk[0]"},
		{"Secure Boot with a strange SBAT level", `"required":true,"pk"`, `"required":true,"minimumSbat":"\n","pk"`, "secureBoot.minimumSbat"},
		{"Secure Boot with a strange demand", `"required":true`, `"required":true,"lenient":true`, "unknown field"},
		{"no baseline digest", `"digest":"010203` + strings.Repeat("00", 29) + `",`, ``, "files.digest"},
		{"zero baseline digest", `"010203`, `"000000`, "files.digest"},
		{"short baseline digest", `"010203`, `"`, "parse digest"},
		{"upper-case root hash", `"verityRootHash":"04` + strings.Repeat("00", 31), `"verityRootHash":"AB` + strings.Repeat("00", 31), "lower-case"},
		{"relative baseline path", `"/usr/lib/ward/baseline"`, `"baseline"`, "files.path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("%q not in %s", tt.old, good)
			}
			_, err := release.Parse([]byte(strings.Replace(good, tt.old, tt.with, 1)))
			if !errors.Is(err, release.ErrManifest) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("error %v, want %v with %q", err, release.ErrManifest, tt.says)
			}
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Errorf("not one short line: %q", err)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, change := range map[string]func(*release.Manifest){
		"another schema":  func(m *release.Manifest) { m.Schema = 2 },
		"no product":      func(m *release.Manifest) { m.Product = "" },
		"no registers":    func(m *release.Manifest) { m.Boot.PCRs = nil },
		"nanoseconds":     func(m *release.Manifest) { m.BuildTime = m.BuildTime.Add(1) },
		"no SBOM":         func(m *release.Manifest) { m.SBOM = &release.SBOM{MediaType: "application/spdx+json"} },
		"SBOM of no kind": func(m *release.Manifest) { m.SBOM.MediaType = "" },
		"relative SBOM":   func(m *release.Manifest) { m.SBOM.Path = "sbom.json" },
		"posture mode":    func(m *release.Manifest) { m.Posture.Rules[0].Mode = "about" },
		"posture twice":   func(m *release.Manifest) { m.Posture.Rules = append(m.Posture.Rules, m.Posture.Rules[0]) },
		"posture order":   func(m *release.Manifest) { m.Posture.Rules[0].Values = []string{"b", "a"} },
		"posture text":    func(m *release.Manifest) { m.Posture.Rules[0].Values = []string{"a\nb"} },
		"watch CPU":       func(m *release.Manifest) { m.Watch.Scan.CPUPercent = 101 },
		"watch writer":    func(m *release.Manifest) { m.Watch.Writers[0].Paths = nil },
		"watch path":      func(m *release.Manifest) { m.Watch.Ignore[0] = "/var/../etc" },
		"watch class":     func(m *release.Manifest) { m.Watch.USB[0].Class = "3" },
		"watch when":      func(m *release.Manifest) { m.Watch.USB[0].When = "sometimes" },
	} {
		m := manifest()
		change(&m)
		if b, err := release.Encode(m); err == nil {
			t.Errorf("%s: %s", name, b)
		}
		if b, err := release.Sign(m, newKey(t)); err == nil {
			t.Errorf("%s: signed %s", name, b)
		}
	}
}

// What can be read has one meaning: written and read again, it is the same.
func FuzzParse(f *testing.F) {
	good := encode(f, manifest())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(encode(f, approved(f, bound(), release.Approval{Base: base}, fixedKey(f, 1))))
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte(`{"schema":1,"boot":{"pcrs":{"4":{"mode":"exact"},"04":{}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := release.Parse(b)
		if err != nil {
			if !errors.Is(err, release.ErrManifest) && !errors.Is(err, release.ErrSchema) {
				t.Fatalf("error %v", err)
			}
			return
		}
		text := encode(t, m)
		again, err := release.Parse(text)
		if err != nil {
			t.Fatalf("wrote %q: %v", text, err)
		}
		if !bytes.Equal(encode(t, again), text) {
			t.Fatalf("%q has two meanings", b)
		}
	})
}
