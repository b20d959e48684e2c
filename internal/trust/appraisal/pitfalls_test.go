package appraisal_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
	"ward/internal/trust/release"
)

// boot replaces the device's boot by another one that the log explains; the
// release stays as it was.
func boot(t *testing.T, d *appraisaltest.Device, events ...appraisaltest.Event) {
	t.Helper()
	d.Log = appraisaltest.Log(events...)
	d.PCRs = appraisaltest.Replay(t, d.Log)
	d.SetList(t, appraisaltest.Program("/usr/sbin/wardd"), appraisaltest.Program("/usr/bin/pump"))
}

// replaced puts an event in the place of the one that holds a text.
func replaced(text string, by ...appraisaltest.Event) []appraisaltest.Event {
	events := appraisaltest.Events()
	i := slices.IndexFunc(events, func(e appraisaltest.Event) bool { return string(e.Data) == text })
	return slices.Concat(events[:i], by, events[i+1:])
}

func cmdline(text string) appraisaltest.Event {
	d := sha256.Sum256([]byte(text))
	return appraisaltest.Event{PCR: 11, Type: eventlog.EVIPL, Data: []byte(".cmdline"), Digest: d[:]}
}

// Verifies: SR-001
func TestAnotherCommandLineNamesTheEvent(t *testing.T) {
	d := appraisaltest.New(t)
	boot(t, d, replaced(".cmdline", cmdline("quiet ward.debug=1"))...)
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Contraindicated, finding.BootPCRDiffers, finding.BootEventUnexpected)
	f := r.Findings[1]
	if *f.PCR != 11 || *f.Index != 16 || !strings.HasPrefix(f.Expected, "EV_IPL") || !strings.HasPrefix(f.Found, "EV_IPL") {
		t.Errorf("%+v at PCR %d, event %d", f, *f.PCR, *f.Index)
	}
	if r.PCRs[11].State != appraisal.Differs || r.PCRs[4].State != appraisal.Matches {
		t.Errorf("PCR 11 %s, PCR 4 %s", r.PCRs[11].State, r.PCRs[4].State)
	}
}

// Verifies: SR-001
func TestDifferencesNameExactlyTheEvents(t *testing.T) {
	other := cmdline("other")
	for name, c := range map[string]struct {
		events []appraisaltest.Event
		want   []finding.Code
	}{
		"one put in":     {replaced(".cmdline", cmdline("quiet"), other), []finding.Code{finding.BootPCRDiffers, finding.BootEventUnexpected}},
		"one taken out":  {replaced(".cmdline"), []finding.Code{finding.BootPCRDiffers, finding.BootEventMissing}},
		"one replaced":   {replaced(".cmdline", other), []finding.Code{finding.BootPCRDiffers, finding.BootEventUnexpected}},
		"one for two":    {replaced(".cmdline", other, other), []finding.Code{finding.BootPCRDiffers, finding.BootEventUnexpected, finding.BootEventUnexpected}},
		"one at the end": {append(appraisaltest.Events(), other), []finding.Code{finding.BootPCRDiffers, finding.BootEventUnexpected}},
	} {
		d := appraisaltest.New(t)
		boot(t, d, c.events...)
		r := appraise(t, d, d.Evidence())
		if got := codes(r); r.Verdict != appraisal.Contraindicated || !slices.Equal(got, c.want) {
			t.Errorf("%s: %s with %v, want %v", name, r.Verdict, got, c.want)
		}
	}
}

// Order counts: the same events in another order are two changes, not none.
func TestDifferencesRespectTheOrder(t *testing.T) {
	d := appraisaltest.New(t)
	events := replaced(".cmdline")
	i := slices.IndexFunc(events, func(e appraisaltest.Event) bool { return string(e.Data) == ".linux" })
	boot(t, d, slices.Insert(events, i, cmdline("quiet"))...)
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Contraindicated, finding.BootPCRDiffers, finding.BootEventMissing, finding.BootEventUnexpected)
}

// A register that differs and that the log does not explain: no event of that
// log is named, for nothing vouches for it.
func TestUnexplainedDifferenceNamesNoEvent(t *testing.T) {
	d := appraisaltest.New(t)
	d.PCRs[11] = bytes.Repeat([]byte{7}, 32)
	wantVerdict(t, appraise(t, d, d.Evidence()), appraisal.Contraindicated, finding.BootPCRUnexplained, finding.BootPCRDiffers)
}

// Verifies: SR-002
func TestCompletenessOfRecordedFirmwareRegisters(t *testing.T) {
	d := appraisaltest.New(t)
	d.Manifest.Boot.PCRs[0] = release.Reference{Mode: release.Recorded, Reason: "differs per device"}
	d.PCRs[0] = bytes.Repeat([]byte{7}, 32)
	d.SetList(t)
	r := appraise(t, d, d.Evidence())
	if r.Verdict != appraisal.Contraindicated || !slices.Contains(codes(r), finding.BootPCRUnexplained) {
		t.Errorf("%s with %v", r.Verdict, codes(r))
	}
}

// systemd extends PCR 9, 11 and 15 from user space, recorded in its own log
// only: those that the release does not judge make no finding.
func TestUserspaceExtendsAreReportedWithoutAFinding(t *testing.T) {
	d := appraisaltest.New(t)
	d.Manifest.Boot.PCRs[15] = release.Reference{Mode: release.Recorded, Reason: "system identity"}
	d.Manifest.Boot.PCRs[9] = release.Reference{Mode: release.Recorded, Reason: "boot loader"}
	d.PCRs[15], d.PCRs[9] = bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32)
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Affirming)
	if r.PCRs[15].State != appraisal.Unexplained || r.PCRs[9].State != appraisal.Unexplained {
		t.Errorf("PCR 15 %s, PCR 9 %s", r.PCRs[15].State, r.PCRs[9].State)
	}
}

// Pitfall: a release without a single judged register must not affirm.
//
// Verifies: SR-007
func TestReleaseThatJudgesNothing(t *testing.T) {
	d := appraisaltest.New(t)
	for i := range d.Manifest.Boot.PCRs {
		d.Manifest.Boot.PCRs[i] = release.Reference{Mode: release.Recorded, Reason: "learned later"}
	}
	wantVerdict(t, appraise(t, d, d.Evidence()), appraisal.None, finding.BootNotJudged)
}

// Pitfalls of the firmware's log, each with its own code: empty, absent, random
// and cut are unverifiable, not tampered, not a pass.
//
// Verifies: SR-003 SR-007
func TestPitfall11UnreadableEvidenceIsNeverAPass(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*evidence.Evidence)
		want   []finding.Code
	}{
		"log empty":        {func(e *evidence.Evidence) { e.EventLog = nil }, []finding.Code{finding.BootLogEmpty}},
		"log absent":       {func(e *evidence.Evidence) { e.EventLog, e.EventLogError = nil, evidence.Absent }, []finding.Code{finding.BootLogUnreadable}},
		"log random":       {func(e *evidence.Evidence) { e.EventLog = bytes.Repeat([]byte{0xa5, 0x3c}, 300) }, []finding.Code{finding.BootLogUnreadable}},
		"log cut":          {func(e *evidence.Evidence) { e.EventLog = e.EventLog[:len(e.EventLog)-1] }, []finding.Code{finding.BootLogTruncated}},
		"registers absent": {func(e *evidence.Evidence) { e.PCRs, e.PCRError = nil, "there is no TPM" }, []finding.Code{finding.QuoteMissing, finding.BootPCRUnreadable}},
		"bank other":       {func(e *evidence.Evidence) { e.Bank = pcr.SHA1 }, nil},
		"bank unknown":     {func(e *evidence.Evidence) { e.Bank = 0 }, nil},
		"list absent":      {func(e *evidence.Evidence) { e.IMA, e.IMAError = nil, evidence.Absent }, []finding.Code{finding.IMAAbsent}},
		"list forbidden":   {func(e *evidence.Evidence) { e.IMA, e.IMAError = nil, "permission denied" }, []finding.Code{finding.IMAUnreadable}},
		"list cut":         {func(e *evidence.Evidence) { e.IMA = e.IMA[:len(e.IMA)-1] }, []finding.Code{finding.IMATruncated}},
		"list bounded":     {func(e *evidence.Evidence) { e.IMATruncated = true }, []finding.Code{finding.IMATruncated}},
		"list random":      {func(e *evidence.Evidence) { e.IMA = bytes.Repeat([]byte{0xa5, 0x3c}, 300) }, []finding.Code{finding.IMAUnreadable}},
	} {
		d := appraisaltest.New(t)
		e := d.Evidence()
		c.change(&e)
		r := appraise(t, d, e)
		if c.want == nil {
			if r.Verdict == appraisal.Affirming || len(r.Findings) == 0 {
				t.Errorf("%s: %s with %v", name, r.Verdict, codes(r))
			}
			continue
		}
		if got := codes(r); r.Verdict != appraisal.None || !slices.Equal(got, c.want) {
			t.Errorf("%s: %s with %v, want none with %v", name, r.Verdict, got, c.want)
		}
	}
}

// One register that is missing among those read.
//
// Verifies: SR-007
func TestMissingRegister(t *testing.T) {
	for _, index := range []int{0, 4, 10, 11} {
		d := appraisaltest.New(t)
		delete(d.PCRs, index)
		policy := d.Policy(t)
		policy.AK, policy.Direct = nil, true
		r := appraisal.Appraise(d.Evidence(), d.Verified(t), policy, now)
		wantVerdict(t, r, appraisal.None, finding.QuoteMissing, finding.BootPCRUnreadable)
		if got := *r.Findings[1].PCR; got != index {
			t.Errorf("PCR %d: finding about PCR %d", index, got)
		}
	}
}

// A log that its firmware cut still counts where it explains every judged
// register: the log's claim is a warning and so is the verdict.
func TestTruncatedLogThatStillExplains(t *testing.T) {
	d := appraisaltest.New(t)
	d.Log = append(d.Log, cmdline("late").Bytes()[:20]...)
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Warning, finding.BootLogTruncated)
	if r.Claims[appraisal.ClaimEventLog] != appraisal.Warning || r.Claims[appraisal.ClaimBoot] != appraisal.Affirming {
		t.Errorf("claims %v", r.Claims)
	}
}

// A cut log hides no difference: the registers come from the TPM.
func TestTruncatedLogWithAnotherBoot(t *testing.T) {
	d := appraisaltest.New(t)
	boot(t, d, replaced(".cmdline", cmdline("other"))...)
	d.Log = d.Log[:len(d.Log)-200]
	r := appraise(t, d, d.Evidence())
	if r.Verdict != appraisal.Contraindicated || !slices.Contains(codes(r), finding.BootPCRDiffers) {
		t.Errorf("%s with %v", r.Verdict, codes(r))
	}
}

// Separators by position and by digest; StartupLocality by its place.
//
// Verifies: SR-003
func TestLogRulesThatAreBroken(t *testing.T) {
	separator := func(i int, data ...byte) appraisaltest.Event {
		return appraisaltest.Event{PCR: i, Type: eventlog.EVSeparator, Data: data}
	}
	const learned, other = true, false // whether the release was learned from the very boot
	for name, c := range map[string]struct {
		events []appraisaltest.Event
		learn  bool
		want   finding.Code
	}{
		"a second separator":  {append(appraisaltest.Events(), separator(4, 0, 0, 0, 0)), learned, finding.BootLogAnomaly},
		"the error separator": {slices.Replace(appraisaltest.Events(), 9, 10, separator(4, 1, 0, 0, 0)), other, finding.BootLogAnomaly},
		"no separator":        {slices.Delete(appraisaltest.Events(), 9, 10), learned, finding.BootLogAnomaly},
		"a disguised event": {append(appraisaltest.Events(), appraisaltest.Event{
			PCR: 4, Type: eventlog.EVSeparator, Data: make([]byte, 4), Digest: bytes.Repeat([]byte{3}, 32)}), learned, finding.BootLogAnomaly},
		"locality stated late":  {append(appraisaltest.Events(), appraisaltest.Locality(3)), learned, finding.BootLogAnomaly},
		"locality stated twice": {slices.Insert(appraisaltest.Events(), 1, appraisaltest.Locality(4)), learned, finding.BootLogAnomaly},
		"locality five":         {slices.Insert(appraisaltest.Events()[1:], 0, appraisaltest.Locality(5)), learned, finding.BootLogAnomaly},
		"locality left out":     {appraisaltest.Events()[1:], other, finding.BootPCRDiffers},
	} {
		d := appraisaltest.New(t)
		boot(t, d, c.events...)
		if c.learn {
			d.Release(t, d.Baseline)
		}
		r := appraise(t, d, d.Evidence())
		if r.Verdict == appraisal.Affirming {
			t.Errorf("%s: affirming", name)
		}
		wantCode(t, name, r, c.want)
	}
}

func wantCode(t *testing.T, name string, r appraisal.Result, want finding.Code) {
	t.Helper()
	if !slices.Contains(codes(r), want) {
		t.Errorf("%s: %s with %v, want %s among them", name, r.Verdict, codes(r), want)
	}
}

// StartupLocality padded to 50 bytes (coreboot) passes and counts.
func TestPaddedStartupLocality(t *testing.T) {
	events := appraisaltest.Events()
	events[0].Data = append(events[0].Data, make([]byte, 33)...)
	d := appraisaltest.Booted(t, appraisaltest.Log(events...), appraisaltest.Program("/init"))
	wantVerdict(t, appraise(t, d, d.Evidence()), appraisal.Affirming)
	if d.PCRs[0].String() == appraisaltest.Replay(t, appraisaltest.Log(events[1:]...))[0].String() {
		t.Error("the locality did not count")
	}
}

// Verifies: SR-007
func TestNoBaselineIsNotAPass(t *testing.T) {
	d := appraisaltest.New(t)
	r := appraisal.Appraise(d.Quoted(t, nil, evidence.Record{}), d.Verified(t), appraisal.Policy{AK: &d.AK.PublicKey}, now)
	wantVerdict(t, r, appraisal.None, finding.IMANotJudged)
	r = appraisal.Appraise(d.Quoted(t, nil, evidence.Record{}), nil, d.Policy(t), now)
	wantVerdict(t, r, appraisal.None, finding.BootNotJudged)
	r = appraisal.Appraise(d.Quoted(t, nil, evidence.Record{}), new(release.Verified), d.Policy(t), now)
	wantVerdict(t, r, appraisal.None, finding.BootNotJudged)
}

// Findings stay bounded, whatever the list holds.
//
// Verifies: SR-020
func TestFindingsAreBounded(t *testing.T) {
	d := appraisaltest.New(t)
	var strangers []appraisaltest.Measured
	for i := range 3000 {
		strangers = append(strangers, appraisaltest.Program(fmt.Sprintf("/tmp/%d", i)))
	}
	d.SetList(t, strangers...)
	r := appraise(t, d, d.Evidence())
	if len(r.Findings) > 300 {
		t.Errorf("%d findings", len(r.Findings))
	}
	if last := r.Findings[len(r.Findings)-1]; !strings.Contains(last.Detail, "2744 more") {
		t.Errorf("the last finding says %q", last.Detail)
	}
}

// Whoever may create a file chooses its name.
func TestUntrustedPath(t *testing.T) {
	for in, want := range map[string]string{
		"/usr/bin/pump":                 "/usr/bin/pump",
		"/tmp/\x1b[2Jx":                 `"/tmp/\x1b[2Jx"`,
		"/tmp/a\nfake line":             `"/tmp/a\nfake line"`,
		"/tmp/\xff":                     `"/tmp/\xff"`,
		"/" + strings.Repeat("a", 5000): "/" + strings.Repeat("a", 511) + "…",
	} {
		if got := measured.UntrustedPath(in); got != want {
			t.Errorf("%.40q: %.80q, want %.80q", in, got, want)
		}
	}
}

// Boot loaders log whole command lines: a finding repeats none.
//
// Verifies: SR-020
func TestNoCommandLineInAFinding(t *testing.T) {
	for _, e := range []appraisaltest.Event{
		appraisaltest.Text(11, eventlog.EVIPL, "kernel_cmdline: quiet secret=hunter2"),
		appraisaltest.Text(9, eventlog.EVIPL, "grub_cmd: password hunter2"),
		appraisaltest.Text(12, eventlog.EVIPL, "secret=hunter2"),
	} {
		d := appraisaltest.New(t)
		d.Manifest.Boot.PCRs[12] = release.Reference{Mode: release.Exact, Values: []release.Value{{Digest: make(pcr.Digest, 32), Firmware: appraisaltest.Firmware,
			Events: []release.ReferenceEvent{{Type: "EV_IPL", Digest: make(pcr.Digest, 32), Text: "other=hunter2"}}}}}
		boot(t, d, append(appraisaltest.Events(), e)...)
		r := appraise(t, d, d.Evidence())
		wantCode(t, string(e.Data), r, finding.BootEventUnexpected)
		for _, f := range r.Findings {
			if strings.Contains(f.Found+f.Expected+f.Detail, "hunter2") {
				t.Errorf("%+v", f)
			}
		}
	}
}
