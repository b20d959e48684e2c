package appraisal_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/finding"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

// newer are the events of the same boot under a newer firmware: another version
// in PCR 0 and another action in PCR 4.
func newer() []appraisaltest.Event {
	events := appraisaltest.Events()
	events[1] = appraisaltest.Text(0, eventlog.EVSCRTMVersion, "v\x002\x00\x00\x00")
	events[4] = appraisaltest.Text(4, eventlog.EVEFIAction, "Calling EFI Application from Boot Option, as the newer says it")
	return events
}

// accepts lets the device's release accept the firmware of further boots, by
// name.
func accepts(t *testing.T, d *appraisaltest.Device, boots map[string][]appraisaltest.Event) {
	t.Helper()
	rules := make(map[int]profile.Rule)
	for n, ref := range d.Manifest.Boot.PCRs {
		rules[n] = profile.Rule{Mode: ref.Mode, Reason: ref.Reason}
	}
	learn := func(name string, log []byte) profile.Profile {
		parsed, err := eventlog.Parse(log)
		if err != nil {
			t.Fatal(err)
		}
		p, err := profile.Learn(profile.Golden{Log: parsed, Board: "paper", Firmware: name}, rules)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	profiles := []profile.Profile{learn(appraisaltest.Firmware, d.Log)}
	for name, events := range boots {
		profiles = append(profiles, learn(name, appraisaltest.Log(events...)))
	}
	boot, err := profile.Assemble(profiles, rules)
	if err != nil {
		t.Fatal(err)
	}
	d.Manifest.Boot = boot
}

// A release accepts several firmware versions, each as a whole. boot_aggregate
// differs with the firmware, and is held against this boot's own registers.
//
// Verifies: SR-001
func TestPitfall14BootAggregateDiffersWithFirmware(t *testing.T) {
	d := appraisaltest.New(t)
	first := bytes.Clone(d.List)
	accepts(t, d, map[string][]appraisaltest.Event{"newer": newer()})
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Affirming)
	if r.Firmware != appraisaltest.Firmware {
		t.Errorf("firmware %q", r.Firmware)
	}
	boot(t, d, newer()...)
	if bytes.Equal(first, d.List) {
		t.Fatal("boot_aggregate does not depend on the firmware")
	}
	r = appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Affirming)
	if r.Firmware != "newer" || len(r.PCRs[0].Reference) != 2 {
		t.Errorf("firmware %q, PCR 0 accepts %d values", r.Firmware, len(r.PCRs[0].Reference))
	}
}

// Registers that fit accepted firmware, but no single one.
//
// Verifies: SR-001
func TestMixedFirmware(t *testing.T) {
	d := appraisaltest.New(t)
	accepts(t, d, map[string][]appraisaltest.Event{"newer": newer()})
	mixed := newer()
	mixed[4] = appraisaltest.Events()[4] // PCR 4 of the first, PCR 0 of the newer
	boot(t, d, mixed...)
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Contraindicated, finding.BootEventUnexpected, finding.FirmwareMixed)
	if f := r.Findings[1]; !strings.Contains(f.Detail, "are those of another one") || f.PCR == nil {
		t.Errorf("%+v", f)
	}
	if (r.PCRs[0].State == appraisal.Differs) == (r.PCRs[4].State == appraisal.Differs) {
		t.Errorf("PCR 0 %s, PCR 4 %s: one of them differs from the nearest firmware", r.PCRs[0].State, r.PCRs[4].State)
	}
}

// A difference is named against the firmware that is nearest, not the first.
func TestDifferenceAgainstTheNearestFirmware(t *testing.T) {
	d := appraisaltest.New(t)
	accepts(t, d, map[string][]appraisaltest.Event{"newer": newer()})
	events := newer()
	i := slices.IndexFunc(events, func(e appraisaltest.Event) bool { return string(e.Data) == ".cmdline" })
	events[i] = cmdline("other")
	boot(t, d, events...)
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Contraindicated, finding.BootPCRDiffers, finding.BootEventUnexpected)
	if r.Firmware != "newer" || *r.Findings[1].PCR != 11 {
		t.Errorf("firmware %q, %+v", r.Firmware, r.Findings[1])
	}

	// A firmware that nobody accepted, equal to the newer but for its last word.
	events = newer()
	events[2].Digest = bytes.Repeat([]byte{9}, 32)
	boot(t, d, events...)
	r = appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Contraindicated, finding.BootPCRDiffers, finding.BootEventUnexpected)
	if f := r.Findings[1]; r.Firmware != "newer" || *f.PCR != 0 || *f.Index != 3 {
		t.Errorf("firmware %q, %+v", r.Firmware, f)
	}
}

// Where the release has no event, one that is there is named; where it does not
// say what makes up its value, none is.
func TestDifferenceToARegisterWithoutEvents(t *testing.T) {
	for name, c := range map[string]struct {
		value pcr.Digest
		want  []finding.Code
	}{
		"never extended": {make(pcr.Digest, 32), []finding.Code{finding.BootPCRDiffers, finding.BootEventUnexpected}},
		"not explained":  {bytes.Repeat([]byte{5}, 32), []finding.Code{finding.BootPCRDiffers}},
	} {
		d := appraisaltest.New(t)
		d.Manifest.Boot.PCRs[12] = release.Reference{Mode: release.Exact, Values: []release.Value{{Digest: c.value, Firmware: appraisaltest.Firmware}}}
		boot(t, d, append(appraisaltest.Events(), appraisaltest.Text(12, eventlog.EVIPL, "credential"))...)
		r := appraise(t, d, d.Evidence())
		if got := codes(r); r.Verdict != appraisal.Contraindicated || !slices.Equal(got, c.want) {
			t.Errorf("%s: %s with %v, want %v", name, r.Verdict, got, c.want)
		}
	}
}

// Registers that are judged event by event.
//
// Verifies: SR-001 SR-002
func TestEventRules(t *testing.T) {
	action := func(text string) appraisaltest.Event { return appraisaltest.Text(4, eventlog.EVEFIAction, text) }
	image := func(digest byte) appraisaltest.Event {
		return appraisaltest.Event{PCR: 4, Type: eventlog.EVEFIBootApplication, Data: make([]byte, 40), Digest: bytes.Repeat([]byte{digest}, 32)}
	}
	relabelled := image(3)
	relabelled.Type = eventlog.EVEFIAction // its data do not hash to the digest
	separator := appraisaltest.Event{PCR: 4, Type: eventlog.EVSeparator, Data: make([]byte, 4)}
	rules := []release.EventRule{
		{Type: "EV_EFI_BOOT_SERVICES_APPLICATION", Digests: []pcr.Digest{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)}, Required: true},
		{Type: "EV_EFI_ACTION", Any: true},
	}
	for name, c := range map[string]struct {
		events []appraisaltest.Event // of PCR 4
		want   appraisal.Tier
		codes  []finding.Code
	}{
		"one allowed":                 {[]appraisaltest.Event{separator, image(1)}, appraisal.Affirming, nil},
		"another allowed":             {[]appraisaltest.Event{action("anything"), separator, image(2), image(1)}, appraisal.Affirming, nil},
		"a foreign digest":            {[]appraisaltest.Event{separator, image(1), image(3)}, appraisal.Contraindicated, []finding.Code{finding.BootEventUnexpected}},
		"none of the required":        {[]appraisaltest.Event{separator, action("x")}, appraisal.Contraindicated, []finding.Code{finding.BootEventMissing}},
		"a type without a rule":       {[]appraisaltest.Event{separator, image(1), appraisaltest.Text(4, eventlog.EVIPL, "x")}, appraisal.Contraindicated, []finding.Code{finding.BootEventUnexpected}},
		"an image labelled as action": {[]appraisaltest.Event{separator, image(1), relabelled}, appraisal.Contraindicated, []finding.Code{finding.BootEventUnexpected}},
		"a second separator":          {[]appraisaltest.Event{separator, separator, image(1)}, appraisal.Contraindicated, []finding.Code{finding.BootLogAnomaly, finding.BootEventUnexpected}},
		"no separator":                {[]appraisaltest.Event{image(1)}, appraisal.Contraindicated, []finding.Code{finding.BootLogAnomaly, finding.BootEventMissing}},
	} {
		d := appraisaltest.New(t)
		d.Manifest.Boot.PCRs[4] = release.Reference{Mode: release.Events, Rules: rules}
		events := slices.DeleteFunc(appraisaltest.Events(), func(e appraisaltest.Event) bool { return e.PCR == 4 })
		boot(t, d, append(events, c.events...)...)
		r := appraise(t, d, d.Evidence())
		if got := codes(r); r.Verdict != c.want || !slices.Equal(got, c.codes) {
			t.Errorf("%s: %s with %v, want %s with %v", name, r.Verdict, got, c.want, c.codes)
		}
		want := appraisal.Matches
		if c.want != appraisal.Affirming {
			want = appraisal.Differs
		}
		if r.PCRs[4].State != want {
			t.Errorf("%s: PCR 4 %s, want %s", name, r.PCRs[4].State, want)
		}
	}

	// The log must explain the register, or its events say nothing.
	d := appraisaltest.New(t)
	d.Manifest.Boot.PCRs[11] = release.Reference{Mode: release.Events, Rules: []release.EventRule{{Type: "EV_IPL", Any: true}}}
	d.PCRs[11] = bytes.Repeat([]byte{7}, 32)
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Contraindicated, finding.BootPCRUnexplained)
	if r.Claims[appraisal.ClaimBoot] == appraisal.Affirming || r.PCRs[11].State == appraisal.Matches {
		t.Errorf("claim boot %s, PCR 11 %s", r.Claims[appraisal.ClaimBoot], r.PCRs[11].State)
	}
}

// A device and a build host that explain the same boot find the same.
func TestExplainFindsWhatTheDeviceFinds(t *testing.T) {
	d := appraisaltest.New(t)
	same := appraisal.Explain(d.Manifest.Boot, d.Log, d.PCRs)
	wantVerdict(t, same, appraisal.Affirming)
	boot(t, d, replaced(".cmdline", cmdline("other"))...)
	device := appraise(t, d, d.Evidence())
	for name, measured := range map[string]pcr.Values{"with registers": d.PCRs, "with the log alone": nil} {
		r := appraisal.Explain(d.Manifest.Boot, d.Log, measured)
		if r.Verdict != appraisal.Contraindicated || !slices.Equal(codes(r), codes(device)) {
			t.Errorf("%s: %s with %v, the device finds %v", name, r.Verdict, codes(r), codes(device))
		}
	}
	wantVerdict(t, appraisal.Explain(d.Manifest.Boot, nil, nil), appraisal.None, finding.BootLogEmpty, finding.BootPCRUnreadable)
	altered := appraisal.Explain(d.Manifest.Boot, d.Log, pcr.Values{11: bytes.Repeat([]byte{7}, 32)})
	if altered.Verdict == appraisal.Affirming || !slices.Contains(codes(altered), finding.BootPCRUnexplained) {
		t.Errorf("registers of another boot: %s with %v", altered.Verdict, codes(altered))
	}
}
