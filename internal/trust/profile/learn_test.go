package profile_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

// realBoot returns the log of a real machine and the registers that tpm2_eventlog
// computes from it.
func realBoot(t *testing.T) ([]byte, pcr.Values) {
	t.Helper()
	log, err := os.ReadFile("testdata/arch-linux-workstation.bin")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/arch-linux-workstation.pcrs.json")
	if err != nil {
		t.Fatal(err)
	}
	var banks map[string]pcr.Values
	if err := json.Unmarshal(text, &banks); err != nil {
		t.Fatal(err)
	}
	return log, banks["sha256"]
}

func parse(t testing.TB, b []byte) *eventlog.Log {
	t.Helper()
	log, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func repeat(b byte) pcr.Digest { return bytes.Repeat(pcr.Digest{b}, 32) }

// extended replays the digests of events into a register.
func extended(t *testing.T, n int, digests ...pcr.Digest) pcr.Digest {
	t.Helper()
	bank, err := pcr.NewBank(pcr.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range digests {
		if err := bank.Extend(n, d); err != nil {
			t.Fatal(err)
		}
	}
	return bank.Value(n)
}

// Verifies: SR-001, SR-002
func TestLearnFromARealBoot(t *testing.T) {
	raw, measured := realBoot(t)
	p, err := profile.Learn(profile.Golden{Log: parse(t, raw), PCRs: measured, Board: "b"}, profile.DefaultRules())
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != "546bfb1e-1d0c-4055-a4ad-4ef4bf17b83a" || p.Firmware != p.Version || p.Board != "b" || p.BootPhase != 14 || len(p.PCRs) != 9 {
		t.Errorf("version %q, firmware %q, boot phase %d, %d registers", p.Version, p.Firmware, p.BootPhase, len(p.PCRs))
	}
	for n, r := range p.PCRs {
		want, ok := measured[n]
		if !ok {
			want = pcr.ResetValue(pcr.SHA256, n)
		}
		var digests []pcr.Digest
		for _, e := range r.Events {
			digests = append(digests, e.Digest)
		}
		if r.Value.String() != want.String() || extended(t, n, digests...).String() != want.String() {
			t.Errorf("PCR %d: %s, its events give %s, tpm2_eventlog says %s", n, r.Value, extended(t, n, digests...), want)
		}
	}
	boot, err := profile.Assemble([]profile.Profile{p}, profile.DefaultRules())
	if err != nil {
		t.Fatal(err)
	}
	if len(boot.PCRs) != 16 || boot.Bank != "sha256" || len(boot.Composites) != 1 || boot.SecureBoot != nil {
		t.Errorf("%d registers of %s, composites %v, Secure Boot %v", len(boot.PCRs), boot.Bank, boot.Composites, boot.SecureBoot)
	}
	checked(t, boot)
}

// checked lets a manifest's codec look at a boot section.
func checked(t *testing.T, boot release.Boot) {
	t.Helper()
	m := release.Manifest{Schema: 1, Product: "p", Board: "b", Version: "1", BuildTime: time.Unix(1, 0), Boot: boot,
		Files: release.Files{Digest: [32]byte{1}, Path: "/b"}}
	if _, err := release.Encode(m); err != nil {
		t.Error(err)
	}
}

// The firmware states no version: the profile needs a name.
func TestLearnNamesTheFirmware(t *testing.T) {
	log, measured := capture(t)
	g := profile.Golden{Log: parse(t, log), PCRs: measured, Board: "b"}
	if _, err := profile.Learn(g, profile.DefaultRules()); err == nil || !strings.Contains(err.Error(), "give it a name") {
		t.Errorf("error %v", err)
	}
}

// Pitfall: ImageLocationInMemory varies between boots. Digests are compared, and
// two boots read the same.
func TestImageLocationDoesNotCount(t *testing.T) {
	log, measured := capture(t)
	before := learned(t, log, measured)
	moved := parse(t, bytes.Clone(log))
	n := 0
	for _, e := range moved.Events {
		if e.Type == eventlog.EVEFIBootApplication {
			e.Data[0] ^= 0xff
			n++
		}
	}
	after, err := profile.Learn(profile.Golden{Log: moved, PCRs: measured, Board: boardName, Firmware: "OVMF"}, rules())
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if !bytes.Equal(encode(t, before), encode(t, after)) {
		t.Error("the place of an image in memory makes another profile")
	}
}

// Verifies: SR-001, SR-002, SR-007
func TestLearnRefuses(t *testing.T) {
	raw, measured := realBoot(t)
	with := func(n int, d pcr.Digest) pcr.Values {
		v := maps.Clone(measured)
		v[n] = d
		return v
	}
	without := func(n int) pcr.Values {
		v := maps.Clone(measured)
		delete(v, n)
		return v
	}
	withoutPCR4 := func() *eventlog.Log {
		log := parse(t, raw)
		var kept []eventlog.Event
		for _, e := range log.Events {
			if e.PCR != 4 {
				kept = append(kept, e)
			}
		}
		log.Events = kept
		return log
	}
	rules := profile.DefaultRules()
	for _, tt := range []struct {
		name     string
		log      *eventlog.Log
		measured pcr.Values
		rules    map[int]profile.Rule
		says     string // empty: learned
	}{
		{"registers not read", parse(t, raw), nil, rules, ""},
		{"other value", parse(t, raw), with(7, repeat(1)), rules, "does not explain PCR 7 (log "},
		{"two other values", parse(t, raw), map[int]pcr.Digest{}, rules, "PCR 7 (log "},
		{"extended without a log", parse(t, raw), with(11, repeat(1)), rules, "PCR 11"},
		{"logged and never extended", parse(t, raw), without(4), rules, "never extended"},
		{"reset value given", parse(t, raw), with(12, repeat(0)), rules, ""},
		{"recorded differs", parse(t, raw), with(1, repeat(1)), rules, ""},
		{"events of PCR 4 removed", withoutPCR4(), measured, rules, "does not explain PCR 4"},
		{"log cut short", parse(t, raw[:len(raw)-5]), nil, rules, "learn from a whole one"},
		{"no rules", parse(t, raw), nil, nil, "no register"},
		{"register 24", parse(t, raw), nil, map[int]profile.Rule{24: {Mode: release.Exact}}, "PCR 24"},
		{"recorded without reason", parse(t, raw), nil, map[int]profile.Rule{1: {Mode: release.Recorded}}, "PCR 1: reason"},
		{"no mode", parse(t, raw), nil, map[int]profile.Rule{1: {}}, "PCR 1: mode"},
		{"firmware error", parse(t, errorSeparator()), nil, map[int]profile.Rule{4: {Mode: release.Exact}}, "reports an error in PCR 4"},
		{"firmware error elsewhere", parse(t, errorSeparator()), nil, map[int]profile.Rule{7: {Mode: release.Exact}}, ""},
		{"any of an exact register", parse(t, raw), nil, map[int]profile.Rule{7: {Mode: release.Exact, Any: []string{"EV_ACTION"}}}, "PCR 7"},
		{"user space in a recorded register", parse(t, raw), nil, map[int]profile.Rule{7: {Mode: release.Recorded, Reason: "x", User: []string{"x"}}}, "PCR 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := profile.Learn(profile.Golden{Log: tt.log, PCRs: tt.measured, Board: "b", Firmware: "f"}, tt.rules)
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || len(p.PCRs) != 0 {
				t.Errorf("%d registers, error %v; want one with %q", len(p.PCRs), err, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %q", err)
			}
		})
	}
}

// errorSeparator is a crypto-agile log whose only event is a separator that
// reports an error in PCR 4 (PC Client Platform Firmware Profile, 10.4.5: a
// digest of the value 1).
func errorSeparator() []byte {
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0)
	b := append(make([]byte, 4), 3, 0, 0, 0)
	b = append(b, make([]byte, 20)...)
	b = le.AppendUint32(b, uint32(len(spec)))
	b = append(b, spec...)
	b = append(b, 4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0)
	b = append(b, pcr.SHA256.Sum([]byte{1, 0, 0, 0})...)
	return append(b, 4, 0, 0, 0, 1, 0, 0, 0)
}

func TestDefaultRulesCoverTheFirmwareAndSystemRegisters(t *testing.T) {
	rules := profile.DefaultRules()
	for n := range 16 {
		if _, ok := rules[n]; !ok {
			t.Errorf("PCR %d has no rule", n)
		}
	}
	for _, n := range []int{4, 7, 9, 11, 12} {
		if rules[n].Mode != release.Exact {
			t.Errorf("PCR %d: %+v", n, rules[n])
		}
	}
}
