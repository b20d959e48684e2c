package release_test

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
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

func parse(t *testing.T, b []byte) *eventlog.Log {
	t.Helper()
	log, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// Verifies: SR-001, SR-002
func TestLearnFromARealBoot(t *testing.T) {
	raw, measured := realBoot(t)
	log := parse(t, raw)
	boot, err := release.Learn(log, measured, release.DefaultRules())
	if err != nil {
		t.Fatal(err)
	}
	if len(boot.PCRs) != 16 || boot.Bank != "sha256" {
		t.Errorf("%d registers of %s", len(boot.PCRs), boot.Bank)
	}
	for n, r := range boot.PCRs {
		if r.Mode == release.Recorded {
			if r.Reason == "" || r.Values != nil || r.Events != nil {
				t.Errorf("PCR %d: %+v", n, r)
			}
			continue
		}
		want, extended := measured[n]
		if !extended {
			want = pcr.ResetValue(pcr.SHA256, n)
		}
		if len(r.Values) != 1 || r.Values[0].String() != want.String() {
			t.Errorf("PCR %d: %s, tpm2_eventlog says %s", n, r.Values, want)
		}
		// The recorded events alone give the value again.
		bank, err := pcr.NewBank(pcr.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Events {
			if err := bank.Extend(n, e.Digest); err != nil {
				t.Fatal(err)
			}
		}
		if got := bank.Value(n); got.String() != want.String() {
			t.Errorf("PCR %d: its events give %s, want %s", n, got, want)
		}
	}
	m := manifest()
	m.Boot = boot
	if _, err := release.Parse(encode(t, m)); err != nil {
		t.Error(err)
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
	rules := release.DefaultRules()
	for _, tt := range []struct {
		name     string
		log      *eventlog.Log
		measured pcr.Values
		rules    map[int]release.Rule
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
		{"register 24", parse(t, raw), nil, map[int]release.Rule{24: {Mode: release.Exact}}, "PCR 24"},
		{"recorded without reason", parse(t, raw), nil, map[int]release.Rule{1: {Mode: release.Recorded}}, "PCR 1: reason"},
		{"no mode", parse(t, raw), nil, map[int]release.Rule{1: {}}, "PCR 1: mode"},
		{"firmware error", parse(t, errorSeparator()), nil, map[int]release.Rule{4: {Mode: release.Exact}}, "reports an error in PCR 4"},
		{"firmware error elsewhere", parse(t, errorSeparator()), nil, map[int]release.Rule{7: {Mode: release.Exact}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			boot, err := release.Learn(tt.log, tt.measured, tt.rules)
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || len(boot.PCRs) != 0 {
				t.Errorf("%d registers, error %v; want one with %q", len(boot.PCRs), err, tt.says)
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
	rules := release.DefaultRules()
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
